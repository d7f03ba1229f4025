# SPDX-License-Identifier: Apache-2.0
"""What a generator of phantoms is, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.phantoms.geometry import Grid

SPACING_LIMITS = (1.0, 6.0)
"""Finest and coarsest voxel size in mm; beyond, a case takes minutes or shows nothing."""


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic patient.

    Attributes:
        images: modality name to its volume, int16, all of one shape (X, Y, Z); around a brain without skull exactly 0.
        label: label map, uint8, of that shape.
        affine: voxel index to RAS millimetres, (4, 4).
    """

    images: dict[str, NDArray[np.int16]]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Generator:
    """How the cases of one bundle are made.

    Attributes:
        make: from a source of randomness and a grid to a case.
        extent: size in mm along x, y, z of a box that holds the body, or what is scanned of it, in every pose.
        centre: middle of that box in mm.
        spacing: default voxel size in mm along x, y, z; another size keeps its proportions.
        header: what the data list says besides the keys that all have.
    """

    make: Callable[[np.random.Generator, Grid], PhantomCase]
    extent: tuple[float, float, float]
    centre: tuple[float, float, float]
    spacing: tuple[float, float, float]
    header: Mapping[str, str] = field(default_factory=dict)

    def grid(self, spacing: float | None = None, shape: Sequence[int] | None = None) -> Grid:
        """Return the voxels of a case.

        Args:
            spacing: voxel size along x in mm, of cubic voxels where the generator's own are cubic; left out, its own.
            shape: number of voxels along x, y, z; left out, as few as hold the body.

        Raises:
            InputError: the spacing is out of range, or a volume of that shape does not hold the body.
        """
        width = self.spacing[0] if spacing is None else _spacing(spacing)
        x, y, z = (width * (size / self.spacing[0]) for size in self.spacing)
        sizes = (x, y, z)
        least = tuple(int(np.ceil(extent / size)) for extent, size in zip(self.extent, sizes, strict=True))
        if shape is None:
            return Grid(least, sizes, self.centre)  # type: ignore[arg-type]  # three by construction
        if not isinstance(shape, (list, tuple)) or len(shape) != 3 or any(type(size) is not int for size in shape):
            raise InputError(f"shape is {shape!r}: give three whole numbers, such as {','.join(map(str, least))}")
        if any(size < needed for size, needed in zip(shape, least, strict=True)):
            raise InputError(
                f"shape {tuple(shape)} is too small for the body at {sizes[0]:g} mm: "
                f"give at least {','.join(map(str, least))}, or a coarser spacing"
            )
        return Grid(tuple(shape), sizes, self.centre)


def _spacing(value: float) -> float:
    low, high = SPACING_LIMITS
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"spacing is {value!r}: give a voxel size from {low:g} to {high:g} mm")
    return float(value)
