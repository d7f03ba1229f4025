# SPDX-License-Identifier: Apache-2.0
"""What a model was trained on, in a small file beside its checkpoint: `model.fingerprint.json` beside `model.pt`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import write_json

FORMAT = 1
SUFFIX = ".fingerprint.json"

Range = tuple[float, float, float]


@dataclass(frozen=True)
class Modality:
    """What the training scans of one modality were like.

    Attributes:
        ranges: name in `custom_nets.fingerprints.quantities.QUANTITIES` to minimum, median and maximum over the scans.
        orientations: of the files' axes, such as "LPS", to the number of scans.
        planes: of the slices, "axial", "coronal", "sagittal" or "isotropic", to the number of scans.
    """

    ranges: Mapping[str, Range]
    orientations: Mapping[str, int]
    planes: Mapping[str, int]


@dataclass(frozen=True)
class Fingerprint:
    """What a model was trained on.

    Attributes:
        bundle: its name.
        bundle_version: of the code that trained it.
        modalities: names of the input images in the network's order.
        cases: number of training cases.
        grid: what the training does with the voxel size: "native" keeps it, "resampled" brings scans to one, "resized"
            brings them to one number of voxels.
        raw_intensities: whether the network sees the scans' own intensities, divided by a constant at most.
        seen: modality to what its training scans were like.
        correlations: "T1/T2" to minimum, median and maximum of the rank correlation of the two modalities of a case.
        skull: "present", "absent" or "unknown" to the number of cases.
        options: top-level keys of inference.json with the values with which the model was trained, where these are not
            the bundle's own. `label_table` and `label_graph` are the labels themselves and no path, see
            `custom_nets.fingerprints.trained_options.with_files`.
    """

    bundle: str
    bundle_version: str
    modalities: tuple[str, ...]
    cases: int
    grid: str
    raw_intensities: bool
    seen: Mapping[str, Modality]
    correlations: Mapping[str, Range] = field(default_factory=dict)
    skull: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def fingerprint_path(checkpoint: str | Path) -> Path:
    """Where the fingerprint of a checkpoint lies: beside it, by its name."""
    return Path(checkpoint).with_suffix(SUFFIX)


def write_fingerprint(fingerprint: Fingerprint, checkpoint: str | Path) -> Path:
    """Write the fingerprint beside ``checkpoint``, whole or not at all; return its path."""
    return write_json(fingerprint_path(checkpoint), {"format": FORMAT, **_plain(asdict(fingerprint))})


def read_fingerprint(checkpoint: str | Path, refinement: str | Path | None = None) -> Fingerprint | None:
    """The fingerprint of a checkpoint; None where there is none.

    `last.pt` is of the same run as the `model.pt` in its folder, and has that one's. Where a second stage lies in a
    file of its own, as `custom_nets.spine.weights.load_stages` finds it, the options of its training are added.

    Args:
        checkpoint: a file of weights.
        refinement: weights of the second stage; None = `refine/model.pt` beside the checkpoint, if it is there.

    Raises:
        InputError: a file cannot be read or holds something else.
    """
    path = fingerprint_path(checkpoint)
    if not path.is_file() and Path(checkpoint).name == "last.pt":
        path = fingerprint_path(Path(checkpoint).with_name("model.pt"))
    own = _read(path)
    second = _read(fingerprint_path(refinement or Path(checkpoint).parent / "refine" / "model.pt"))
    if own is None or second is None or second.bundle != own.bundle:
        return own
    return replace(own, options={**own.options, **second.options})


def _read(path: Path) -> Fingerprint | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form = content.pop("format")
        if form == FORMAT:
            return _fingerprint(content)
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is no training fingerprint ({type(error).__name__}: {error}); write it again with "
            "`python -m tools.fingerprint NAME DATASET_DIR CHECKPOINT`, or delete it."
        ) from None
    raise InputError(f"{path}: is of format {form!r}, this version reads {FORMAT}: use a newer one, or delete it.")


def copy_fingerprint(source: str | Path, checkpoint: str | Path, refinement: str | Path | None = None) -> None:
    """Write the fingerprint of ``source`` beside ``checkpoint``, which holds the same weights; nothing if it has none.

    Args:
        source: a file of weights, see :func:`read_fingerprint`.
        checkpoint: to write beside.
        refinement: of the second stage, likewise.

    Raises:
        InputError: as :func:`read_fingerprint`.
    """
    fingerprint = read_fingerprint(source, refinement)
    if fingerprint is not None:
        write_fingerprint(fingerprint, checkpoint)


def _fingerprint(content: Mapping[str, Any]) -> Fingerprint:
    seen = {
        name: Modality(_ranges(one["ranges"]), dict(one["orientations"]), dict(one["planes"]))
        for name, one in content["seen"].items()
    }
    rest = {key: value for key, value in content.items() if key not in ("modalities", "seen", "correlations")}
    return Fingerprint(
        **rest, modalities=tuple(content["modalities"]), seen=seen, correlations=_ranges(content["correlations"])
    )


def _ranges(content: Mapping[str, Sequence[float]]) -> dict[str, Range]:
    return {name: (float(low), float(middle), float(high)) for name, (low, middle, high) in content.items()}


def _plain(value: Any) -> Any:
    """As JSON has it, numbers with six digits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
