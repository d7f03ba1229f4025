# SPDX-License-Identifier: Apache-2.0
"""Where lesions lie: how many scans have one at each voxel, and the centred box that holds most of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_nets.volume_plan.candidates import Size

#: Levels at which the lesion box is reported.
BOX_LEVELS = (0.9, 0.95, 0.99, 1.0)


class Occurrence:
    """How many of the scans, all on one grid, have a lesion at each voxel. Holds one volume however many scans come.

    Args:
        shape: voxels of the grid.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.scans = 0
        self.counts: NDArray[np.uint16] = np.zeros(tuple(shape), dtype=np.uint16)

    def add(self, mask: NDArray[np.bool_]) -> None:
        """Count another scan."""
        self.scans += 1
        self.counts += mask

    @property
    def share(self) -> NDArray[np.float32]:
        """O(v) = (1/n) Σ_i y_i(v), 0 … 1."""
        return (self.counts / np.float32(max(self.scans, 1))).astype(np.float32)

    @property
    def largest(self) -> int:
        """The most scans with a lesion at one voxel."""
        return int(self.counts.max())

    @property
    def support(self) -> int:
        """Number of voxels where some scan has a lesion."""
        return int(np.count_nonzero(self.counts))

    @property
    def profiles(self) -> list[NDArray[np.int64]]:
        """Lesion voxels of all scans in each slice across the first, second and third axis."""
        return [self.counts.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.int64) for axis in range(3)]


class LesionBox:
    """Lengths of centred intervals that hold given shares of all lesion voxels, axis by axis.

    A voxel at index v of an axis of N lies in the centred interval of length s, which starts at ⌊(N - s) / 2⌋, exactly
    when s ≥ max(N - 2v - 1, 2v + 2 - N). So it is enough to count, per axis, the lesion voxels by that length, also
    over scans of different shapes.
    """

    def __init__(self) -> None:
        self._by_length: list[NDArray[np.int64]] = [np.zeros(1, dtype=np.int64) for _ in range(3)]

    def add(self, mask: NDArray[np.bool_]) -> None:
        """Count another scan (D x H x W)."""
        plane = mask.sum(axis=2, dtype=np.int64)
        profiles = (plane.sum(axis=1), plane.sum(axis=0), mask.sum(axis=(0, 1), dtype=np.int64))
        for axis, profile in enumerate(profiles):
            length, index = len(profile), np.arange(len(profile))
            needed = np.maximum(length - 2 * index - 1, 2 * index + 2 - length)
            counts = np.zeros(max(length + 1, len(self._by_length[axis])), dtype=np.int64)
            counts[: len(self._by_length[axis])] = self._by_length[axis]
            np.add.at(counts, needed, profile)
            self._by_length[axis] = counts

    def size(self, level: float) -> Size:
        """The smallest centred length on each axis that holds at least the share ``level`` of all lesion voxels."""
        x, y, z = (_first_reaching(counts, level) for counts in self._by_length)
        return x, y, z


def _first_reaching(counts: NDArray[np.int64], level: float) -> int:
    held = np.cumsum(counts)
    rounding = 1e-9  # level * total may come out a hair above a whole number
    return int(np.searchsorted(held, level * held[-1] * (1 - rounding)))
