# SPDX-License-Identifier: Apache-2.0
"""Which labels of a data set touch: the edges of a label graph, measured in label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from custom_nets.datasets.volumes import require_voxels
from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import Label, LabelGraph

_HIGHEST = 65535  # value of a label


@dataclass
class Survey:
    """What label maps hold, the background left out.

    Attributes:
        voxels: their number for each value.
        files: in how many label maps each value is.
        contacts: of two values, the smaller first, how many pairs of voxels share a face.
    """

    voxels: Counter[int] = field(default_factory=Counter)
    files: Counter[int] = field(default_factory=Counter)
    contacts: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, label_map: NDArray[Any]) -> None:
        """Count one label map, D x H x W, whole numbers 0 to 65535."""
        values, counts = np.unique(label_map[label_map > 0], return_counts=True)
        self.voxels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self.files.update(values.tolist())
        self.contacts.update(face_contacts(label_map))


def face_contacts(label_map: NDArray[Any]) -> dict[tuple[int, int], int]:
    """Count the pairs of voxels that share a face and have two different labels, neither of them background.

    Args:
        label_map: any number of axes, whole numbers 0 to 65535.

    Returns:
        For two values, the smaller first, the number of such pairs; those that do not touch are left out.
    """
    counted: Counter[int] = Counter()
    for axis in range(label_map.ndim):
        along = np.moveaxis(label_map, axis, 0)
        before, after = along[:-1], along[1:]
        touch = (before != after) & (before > 0) & (after > 0)
        one, other = before[touch].astype(np.int64), after[touch].astype(np.int64)
        codes, counts = np.unique(np.minimum(one, other) * (_HIGHEST + 1) + np.maximum(one, other), return_counts=True)
        counted.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    return {divmod(code, _HIGHEST + 1): count for code, count in sorted(counted.items())}


def survey_files(paths: Sequence[str | Path], *, progress: bool = True) -> Survey:
    """Count the labels of NIfTI files and where they touch; one file is held at a time.

    Args:
        paths: label maps.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        InputError: naming a file that cannot be read, or holds other numbers than 0 to 65535.
    """
    survey = Survey()
    for path in tqdm(paths, desc="reading labels", unit="case", disable=None if progress else True):
        survey.add(_label_map(Path(path)))
    return survey


def joined_by_contact(
    labels: Sequence[Label], contacts: Mapping[tuple[int, int], int], threshold: int = 0
) -> LabelGraph:
    """Join the labels that touch in more than ``threshold`` pairs of voxels.

    Args:
        labels: background first, which is joined to nothing.
        contacts: of :class:`Survey`; values that stand for one label (`Label.also`) count together.
        threshold: what the sum over all label maps has to exceed.

    Raises:
        InputError: as `LabelGraph` does.
    """

    def pairs(one: Label, other: Label) -> int:
        return sum(
            contacts.get((min(a, b), max(a, b)), 0) for a in (one.value, *one.also) for b in (other.value, *other.also)
        )

    structures = list(enumerate(labels))[1:]
    edges = [
        (first, second)
        for (first, one), (second, other) in combinations(structures, 2)
        if pairs(one, other) > threshold
    ]
    return LabelGraph(tuple(labels), tuple(edges))


def labels_for(values: Iterable[int], like: LabelGraph | None) -> list[Label]:
    """Return the labels that hold these values: those of ``like`` in its order, then others as "label N".

    Args:
        values: other than 0, which comes first in any case.
        like: a graph whose names and groups are taken over; None for no such names.
    """
    wanted = {0, *values}
    known = like.labels if like else (Label(0, "background"),)
    labels = [label for label in known if wanted & {label.value, *label.also}]
    named = {value for label in known for value in (label.value, *label.also)}
    return [*labels, *(Label(value, f"label {value}") for value in sorted(wanted - named))]


def _label_map(path: Path) -> NDArray[np.int64]:
    _, voxels = require_voxels(path)
    whole = np.asarray(voxels).astype(np.int64) if np.isfinite(voxels).all() else None
    if whole is None or (whole != voxels).any() or whole.min() < 0 or whole.max() > _HIGHEST:
        raise InputError(f"{path}: holds other values than whole numbers 0 to {_HIGHEST}: give a label map.")
    return whole
