# SPDX-License-Identifier: Apache-2.0
"""Lesion masks from disk, one at a time, brought to the order R, A, S. Images are never read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from custom_nets.datasets.checks import case_name
from custom_nets.datasets.problems import Problem, require_sound
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, UnusableFile, corner_shift, read_voxels
from custom_nets.errors import InputError
from custom_nets.volume_plan.candidates import Size


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of a scan in the order R, A, S.

    Attributes:
        shape: voxels along R, A, S.
        affine: 4 x 4, voxel index to mm.
    """

    shape: Size
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along R, A, S."""
        return tuple(float(size) for size in nibabel.affines.voxel_sizes(self.affine))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def same_as(self, other: Grid) -> bool:
        """Whether both put their voxels at the same places."""
        return self.shape == other.shape and corner_shift(self.affine, other.affine, self.shape) <= AFFINE_TOLERANCE_MM


@dataclass(frozen=True, eq=False)
class Scan:
    """The lesions of one scan.

    Attributes:
        name: of the case.
        grid: in the order R, A, S.
        mask: D x H x W in that order, true in lesions.
    """

    name: str
    grid: Grid
    mask: NDArray[np.bool_]


def read_grids(cases: Sequence[Mapping[str, Any]], root: str | Path | None = None) -> list[Grid]:
    """The grid of every case's label, from the headers alone.

    Args:
        cases: of a data list, with ``label``.
        root: the data set's folder, to name files relative to it.

    Raises:
        InputError: with a table of all labels that cannot be used.
    """
    grids, problems = [], []
    for case in cases:
        try:
            grids.append(_grid(_header(case["label"])))
        except UnusableFile as reason:
            problems.append(Problem(case_name(case), str(case["label"]), reason.found, reason.advice))
    require_sound(problems, root)
    return grids


def read_scans(cases: Sequence[Mapping[str, Any]]) -> Iterator[Scan]:
    """The lesion masks (label > 0) of the cases; only one is held at a time.

    Raises:
        InputError: a label cannot be read to its end.
    """
    for case in cases:
        try:
            image, voxels = read_voxels(Path(case["label"]))
            grid = _grid(image)
        except UnusableFile as reason:
            raise InputError(f"{case['label']}: {reason.found}: {reason.advice}") from None
        mask = voxels.reshape(voxels.shape[:3]) > 0  # a fourth axis has length one
        yield Scan(case_name(case), grid, apply_orientation(mask, io_orientation(image.affine)))


def _header(path: str) -> Any:
    """The file with its voxels still on disk."""
    try:
        return nibabel.load(path)
    except Exception:  # nibabel answers a broken header with many kinds of exception; this reader says what is wrong
        return read_voxels(Path(path))[0]


def _grid(image: Any) -> Grid:
    """The grid of a file in the order R, A, S."""
    shape = image.shape[:3]
    if len(shape) < 3 or math.prod(image.shape[3:]) != 1:
        raise UnusableFile(f"shape {image.shape}, not one volume", "give one label file with one 3D volume a case")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise UnusableFile("singular affine", "write the header again from the original scan")
    order = io_orientation(image.affine)
    stored = np.argsort(order[:, 0])
    x, y, z = (int(shape[axis]) for axis in stored)
    return Grid((x, y, z), image.affine @ inv_ornt_aff(order, shape))
