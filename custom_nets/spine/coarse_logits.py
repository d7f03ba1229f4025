# SPDX-License-Identifier: Apache-2.0
"""The coarse network's logits as files: half precision, compressed, with what they came from, checked on reading."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.checkpoints import first_line
from custom_nets.errors import InputError
from custom_nets.files import json_digest, written_whole
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.spine.cropping import slice_padding

_FORMAT = 1
_ADVICE = "write it anew with `python -m tools.coarse_logits`"


@dataclass(frozen=True)
class Provenance:
    """What logits came from. Two files of equal provenance hold equal logits, but for rounding.

    Attributes:
        case: its name.
        checkpoint: SHA-256 of the coarse network's weights file; :func:`file_digest`.
        trained_on: names of the cases that the network was trained on, sorted.
        labels: names of the label graph's nodes, in order.
        graph: :func:`graph_digest` of the label graph, whose edges the network uses too.
        coarse_size: slices, rows and columns of the network's input.
        preprocessing: options that decide what the network sees, such as crop_share.
    """

    case: str
    checkpoint: str
    trained_on: tuple[str, ...]
    labels: tuple[str, ...]
    graph: str
    coarse_size: tuple[int, int, int]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return all of it as JSON text with sorted keys, equal for equal provenance."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False)


def graph_names(graph: LabelGraph) -> tuple[str, ...]:
    """Names of the graph's nodes in order, as `Provenance` has them."""
    return tuple(graph.node_names().values())


def graph_digest(graph: LabelGraph) -> str:
    """SHA-256 of labels, edges and weights of a graph, as hexadecimal text."""
    return json_digest(graph.to_config())


def logits_path(folder: str | Path, case: str) -> Path:
    """Where the logits of a case lie in a folder."""
    return Path(folder) / f"{case}.npz"


def without_padding(logits: Any, slices: int) -> Any:
    """Take off the slices that were put around a volume to reach the network's depth.

    Where they lie says :func:`~custom_nets.spine.cropping.slice_padding`.

    Args:
        logits: K x D x h x w, array or tensor.
        slices: of the volume; D itself where nothing was put around it.

    Returns:
        K x slices x h x w, a view.

    Raises:
        InputError: the volume has more slices than D.
    """
    if slices > logits.shape[1]:
        raise InputError(
            f"the coarse network saw {logits.shape[1]} slices of a volume of {slices}: its preprocessing has to keep "
            "all slices, and so has to have the slice_spacing of the refinement."
        )
    before, _ = slice_padding(slices, logits.shape[1])
    return logits[:, before : before + slices]


def half_precision(logits: NDArray[Any], name: str) -> NDArray[np.float16]:
    """Round to half precision.

    Args:
        logits: any shape, floating point.
        name: of the case or file, for errors.

    Raises:
        InputError: a value is not finite, or overflows half precision (65504).
    """
    if not np.isfinite(logits).all():
        raise InputError(f"{name}: the coarse network gave logits that are not finite; its training has diverged.")
    largest = float(np.abs(logits).max(initial=0))
    if largest > float(np.finfo(np.float16).max):
        raise InputError(
            f"{name}: a logit of {largest:.4g} is above 65504 and cannot be stored in half precision; the coarse "
            "network's training has diverged, train it anew with a lower learning_rate."
        )
    return logits.astype(np.float16)


def write_logits(path: str | Path, logits: NDArray[Any], provenance: Provenance) -> Path:
    """Write the logits of a case in half precision, compressed, whole or not at all.

    Args:
        path: the .npz file.
        logits: K x D x h x w, the volume's own D slices alone.
        provenance: what they came from; its labels are K.

    Returns:
        ``path``.

    Raises:
        InputError: another number of axes or labels, values that are not finite or overflow half precision.
    """
    path = Path(path)
    if logits.ndim != 4 or logits.shape[0] != len(provenance.labels):
        raise InputError(
            f"{path}: logits are of shape {list(logits.shape)}; {len(provenance.labels)} labels x slices x rows x "
            "columns are wanted. Give the checkpoint of a network with these labels."
        )
    stored = half_precision(logits, str(path))
    with written_whole(path) as temporary:
        np.savez_compressed(temporary, logits=stored, provenance=np.array(provenance.to_json()))
    return path


def read_provenance(path: str | Path) -> Provenance:
    """Read where logits came from, without reading them.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    return _provenance(Path(path), _members(Path(path), "provenance")["provenance"])


def read_logits(
    path: str | Path,
    graph: LabelGraph,
    case: str,
    slices: int | None = None,
    *,
    coarse_size: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    out_of_fold: bool = False,
) -> NDArray[np.float16]:
    """Read the logits of a case and check all that can be known about them.

    Args:
        path: the file.
        graph: label graph that they have to be of.
        case: name of the case that they have to be of.
        slices: D of the volume; None = any.
        coarse_size: of the network's input, that they have to be of; None = any.
        preprocessing: options that they have to be computed with; None = any.
        out_of_fold: refuse logits of a network that was trained on this very case.

    Returns:
        K x D x h x w, float16, finite.

    Raises:
        InputError: naming the file, what was found and what to do.
    """
    path = Path(path)
    members = _members(path, "provenance", "logits")
    provenance, logits = _provenance(path, members["provenance"]), members["logits"]
    require_provenance(path, provenance, graph, case, coarse_size, preprocessing, out_of_fold)
    size = provenance.coarse_size[1:]
    if logits.dtype != np.float16 or logits.ndim != 4 or logits.shape[0] != len(graph) or logits.shape[2:] != size:
        raise InputError(
            f"{path}: holds {logits.dtype} of shape {list(logits.shape)}, not float16 of "
            f"[{len(graph)}, slices, {size[0]}, {size[1]}]; {_ADVICE}."
        )
    if slices is not None and logits.shape[1] != slices:
        raise InputError(
            f"{path}: holds {logits.shape[1]} slices but the image of {case} has {slices}; the image has changed since "
            f"or the slice spacing differs: {_ADVICE}."
        )
    if not np.isfinite(logits).all():
        raise InputError(f"{path}: holds values that are not finite; {_ADVICE}.")
    return logits


def require_provenance(
    path: str | Path,
    provenance: Provenance,
    graph: LabelGraph,
    case: str,
    coarse_size: Sequence[int] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    out_of_fold: bool = False,
) -> None:
    """Refuse logits of another case, graph or way of computing them; arguments of :func:`read_logits`.

    Raises:
        InputError: naming the file, what was found and what to do.
    """
    if provenance.case != case:
        raise InputError(f"{path}: holds the logits of case {provenance.case!r}, not of {case!r}; {_ADVICE}.")
    if provenance.labels != graph_names(graph):
        raise InputError(
            f"{path}: is of a network with {len(provenance.labels)} labels ({_some(provenance.labels)}), but "
            f"label_graph has {len(graph)} ({_some(graph_names(graph))}); give its --label_graph, or {_ADVICE}."
        )
    if coarse_size is not None and provenance.coarse_size != tuple(coarse_size):
        raise InputError(
            f"{path}: is of coarse_size {list(provenance.coarse_size)}, not {list(coarse_size)}; {_ADVICE}."
        )
    if preprocessing is not None and (differing := _differing(provenance.preprocessing, preprocessing)):
        found, wanted = provenance.preprocessing.get(differing), preprocessing.get(differing)
        raise InputError(f"{path}: was computed with {differing} {found}, not {wanted}; {_ADVICE}.")
    if out_of_fold and case in provenance.trained_on:
        raise InputError(
            f"{path}: is not out of fold: its coarse network was trained on {case} itself (and on "
            f"{len(provenance.trained_on) - 1} other cases). Compute it with a network of the other folds, as "
            "`python -m tools.spine_pipeline` does, or give --out_of_fold False for in-sample logits as published."
        )


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first option of two values, compared as JSON has them."""
    one, other = (json.loads(json.dumps(dict(options))) for options in (found, wanted))
    return next((key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)), None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")


def _members(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz; each member is read whole, so that its CRC is checked."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of coarse logits; {_ADVICE}, or train with --coarse_logits computed.")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False) for name in names}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as coarse logits ({first_line(error)}); {_ADVICE}.") from error


def _provenance(path: Path, text: NDArray[Any]) -> Provenance:
    try:
        content = json.loads(str(text))
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        for key in ("trained_on", "labels", "coarse_size"):
            content[key] = tuple(content[key])
        return Provenance(**content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: does not tell what its logits came from ({first_line(error)}); {_ADVICE}."
        ) from error
