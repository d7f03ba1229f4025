# SPDX-License-Identifier: Apache-2.0
"""Scores from the network's grid to the scan's own: plane by plane, class by class.

What MONAI's `Invertd` does to a whole volume of all classes, in its order and precision (linear interpolation in
float64, the border going on beyond itself, zeros where something was cropped away), with a few planes of one class in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.prediction.native_grid import Axis, NativeGrid
from custom_nets.prediction.receivers import Receiver

#: Voxels of one class that are brought back at a time: a few MB, which caches hold.
_AT_ONCE = 1 << 20


class Homeward:
    """Takes blocks of planes of the network's grid as they are finished, and hands on planes of the scan.

    Args:
        grid: of the scan.
        receivers: of the scores on the scan's grid, its axes in the network's order but ``axis`` first.
        axis: of the network's grid that the planes are counted along.
        spread: the last channel is no class, but goes to this receiver alone.
    """

    def __init__(
        self, grid: NativeGrid, receivers: Sequence[Receiver], axis: int = 0, spread: Receiver | None = None
    ) -> None:
        self.grid = grid
        self.receivers = receivers
        self.axis = axis
        self.spread = spread
        order = [axis, *(other for other in range(3) if other != axis)]
        self._axes = [grid.axes[place] for place in order]
        self._shape = [one.length for one in self._axes]
        self._below, self._above, self._share = self._axes[0].neighbours()
        self._rows, self._columns = (_Interpolation(one) for one in self._axes[1:])
        self._held: Tensor | None = None  # the last plane, which the next ones may need
        self._first = 0  # number of the first plane held
        self._next = 0  # the scan's next plane

    def __call__(self, block: Tensor) -> None:
        """Take the next planes: channels x planes x rows x columns of the network's grid, any floating type."""
        block = block.cpu()
        if self._held is None:
            classes = len(block) - (self.spread is not None)
            for receiver in self.receivers:
                receiver.start(self._shape, classes)
            if self.spread is not None:
                self.spread.start(self._shape, 1)
            planes = block
        else:
            planes = torch.cat([self._held, block], dim=1)
        end = self._first + planes.shape[1]
        last = end >= self._axes[0].size
        ready = self._next
        while ready < self._shape[0] and (last or self._above[ready] < end):
            ready += 1
        self._bring(planes, self._next, ready)
        self._next = ready
        keep = min(max(end - 1, 0), end) - self._first
        self._held = planes[:, keep:].clone()
        self._first += keep

    def _bring(self, planes: Tensor, start: int, stop: int) -> None:
        """Hand on the scan's planes from ``start`` to ``stop``."""
        step = max(_AT_ONCE // (self._shape[1] * self._shape[2]), 1)
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            for number, one in enumerate(planes):
                values = self._columns(self._rows(self._along(one, part), 1), 2).float()
                if self.spread is not None and number == len(planes) - 1:
                    self.spread.take(part, 0, values)
                    continue
                for receiver in self.receivers:
                    receiver.take(part, number, values)

    def _along(self, one: Tensor, part: slice) -> Tensor:
        """Planes of the scan, in the network's rows and columns."""
        below, above, share = (values[part] for values in (self._below, self._above, self._share))
        if self._axes[0].positions is None:
            return self._planes(one, below)
        weights = torch.from_numpy(share)[:, None, None]
        return self._planes(one, below).double() * (1 - weights) + self._planes(one, above).double() * weights

    def _planes(self, one: Tensor, numbers: np.ndarray) -> Tensor:
        """The network's planes of these numbers; zeros where there are none."""
        start, stop = self._axes[0].seen
        inside = (numbers >= start) & (numbers < stop)
        if inside.all() and (np.diff(numbers) == 1).all():
            return one[numbers[0] - self._first : numbers[-1] - self._first + 1]
        picked = one[torch.from_numpy(np.where(inside, numbers - self._first, 0))]
        if not inside.all():
            picked[torch.from_numpy(~inside)] = 0
        return picked


class _Interpolation:
    """Linear interpolation along one axis of planes."""

    def __init__(self, axis: Axis) -> None:
        self._axis = axis
        below, above, share = axis.neighbours()
        self._moves = axis.positions is not None
        start, stop = axis.seen
        self._crop = slice(start, stop)
        self._pads = bool(((below < start) | (above >= stop)).any())
        # one zero at each end stands for all that was cropped away
        self._below, self._above = (
            torch.from_numpy(np.clip(numbers - start + 1, 0, stop - start + 1) if self._pads else numbers)
            for numbers in (below, above)
        )
        self._share = torch.from_numpy(share)

    def __call__(self, planes: Tensor, dim: int) -> Tensor:
        if self._pads:
            seen = planes[:, self._crop] if dim == 1 else planes[:, :, self._crop]
            planes = F.pad(seen, (0, 0, 1, 1) if dim == 1 else (1, 1))
        if not self._moves:
            if not self._pads and self._axis.size == self._axis.length:
                return planes
            return planes.index_select(dim, self._below)
        shape = [1, 1, 1]
        shape[dim] = -1
        share = self._share.view(shape)
        below, above = (planes.index_select(dim, numbers).double() for numbers in (self._below, self._above))
        return below.mul_(1 - share).add_(above.mul_(share))
