# SPDX-License-Identifier: Apache-2.0
"""Lesion voxels in every crop of a volume, exact and fast, from one summed-area table a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_nets.components import bounding_box

Counts = NDArray[np.int64]


class LesionTable:
    """The summed-area table of a mask.

    The table covers the mask's bounding box only: what a crop holds depends on its overlap with that box. Starts whose
    overlap is the same are looked up once and weighted by their number.

    Args:
        mask: D x H x W.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.shape: tuple[int, ...] = mask.shape
        self._box = bounding_box(mask)
        inside = mask[self._box]
        self._sums = np.zeros(tuple(length + 1 for length in inside.shape), dtype=np.int64)
        corner = self._sums[1:, 1:, 1:]
        np.cumsum(inside, axis=0, out=corner)
        np.cumsum(corner, axis=1, out=corner)
        np.cumsum(corner, axis=2, out=corner)

    @property
    def voxels(self) -> int:
        """Number of lesion voxels."""
        return int(self._sums[-1, -1, -1])

    def inside(self, start: Sequence[int], size: Sequence[int]) -> int:
        """Number of lesion voxels in the crop that begins at ``start``."""
        edges = [self._overlap(axis, np.array([start[axis]]), size[axis]) for axis in range(3)]
        return int(self._in_boxes(edges).item())

    def over_starts(self, size: Sequence[int], starts: Sequence[int]) -> tuple[Counts, Counts]:
        """Lesion voxels of the crops at all starts 0 … starts_a - 1.

        Args:
            size: voxels of the crop along each axis.
            starts: number of starts along each axis, at least 1.

        Returns:
            Two arrays of one shape: the lesion voxels of crops, and how many starts have each of these crops.
        """
        edges, weights = [], []
        for axis, (cut, number) in enumerate(zip(size, starts, strict=True)):
            overlaps = self._overlap(axis, np.arange(number), cut)
            different, count = np.unique(overlaps, axis=1, return_counts=True)
            edges.append(different)
            weights.append(count)
        first, second, third = np.ix_(*weights)
        return self._in_boxes(edges), first * second * third

    def _overlap(self, axis: int, starts: Counts, cut: int) -> Counts:
        """First and end index in the table of the crops at these starts: 2 x number of starts."""
        span = self._box[axis]
        return np.clip(np.stack((starts, starts + cut)) - span.start, 0, span.stop - span.start)

    def _in_boxes(self, edges: Sequence[Counts]) -> Counts:
        """Sum of the mask between all combinations of the edges, by the difference along one axis after the other."""
        sums = self._sums
        for axis, (first, end) in enumerate(edges):
            sums = sums.take(end, axis) - sums.take(first, axis)
        return sums
