# SPDX-License-Identifier: Apache-2.0
"""Sliding windows whose finished planes leave while the next windows are computed.

The sums are those of MONAI's `SlidingWindowInferer`, in its order, so that the results are the same to the bit; what is
held are the planes that windows still add to, and not the whole volume of all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices, get_valid_patch_size
from monai.inferers import Inferer, SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval
from monai.utils import ensure_tuple_rep, fall_back_tuple
from torch import Tensor
from tqdm import tqdm

from custom_nets.prediction.batches import scored

_SENT_AT_ONCE = 1 << 27  # bytes

#: Takes the next finished planes, channels x planes x rows x columns, which are written over afterwards.
Sink = Callable[[Tensor], None]


def window_count(shape: Sequence[int], like: SlidingWindowInferer) -> int:
    """How many windows a volume of this shape is seen through."""
    roi = fall_back_tuple(like.roi_size, shape)
    size = [max(pair) for pair in zip(shape, roi, strict=True)]
    return len(dense_patch_slices(size, roi, _get_scan_interval(size, roi, 3, ensure_tuple_rep(like.overlap, 3))))


class StreamedWindows(Inferer):
    """MONAI's sliding windows over one volume, plane after plane.

    Args:
        like: whose window, overlap, blending and batch are taken.
        sink: called with the finished planes, in ascending order.
        axis: of the volume that planes are counted along. 0 adds up in MONAI's order, to the bit; another one in
            another order of the same terms, for a volume whose planes along it are smaller.
        batch_size: windows at a time, in place of that of ``like``.
    """

    def __init__(self, like: SlidingWindowInferer, sink: Sink, axis: int = 0, batch_size: int | None = None) -> None:
        super().__init__()
        self.like = like
        self.sink = sink
        self.axis = axis
        self.batch_size = batch_size or int(like.sw_batch_size)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Send the planes of one volume, 1 x C x D x H x W, to the sink.

        Returns:
            An empty tensor: what there was to return went to the sink.
        """
        image = torch.as_tensor(inputs).as_subclass(Tensor)
        shape = list(image.shape[2:])
        roi = fall_back_tuple(self.like.roi_size, shape)
        before = [max(window - length, 0) // 2 for window, length in zip(roi, shape, strict=True)]
        image = _padded(image, roi, before, self.like)
        size = tuple(image.shape[2:])
        places = self._places(size, roi)
        weight = compute_importance_map(
            get_valid_patch_size(size, roi),
            mode=self.like.mode,
            sigma_scale=self.like.sigma_scale,
            device=image.device,
            dtype=torch.float32,
        )
        wanted = [slice(first, first + length) for first, length in zip(before, shape, strict=True)]
        planes = _Planes(size, roi, self.axis, weight, wanted, self.sink)
        with tqdm(total=len(places), desc="windows", leave=False, disable=not self.like.progress) as bar:
            for some, scores in scored(image, places, lambda some: network(some, *args, **kwargs), self.batch_size):
                planes.add_all(some, scores)
                bar.update(len(some))
                del scores  # before the next are computed
        planes.finish()
        return inputs.new_zeros(0)

    def _places(self, size: Sequence[int], roi: Sequence[int]) -> list[tuple[slice, ...]]:
        overlap = ensure_tuple_rep(self.like.overlap, 3)
        places = dense_patch_slices(size, roi, _get_scan_interval(size, roi, 3, overlap))
        return sorted(places, key=lambda place: place[self.axis].start)  # stable: the others stay in MONAI's order


class _Planes:
    """Sums over the windows of the planes that are not finished."""

    def __init__(
        self, size: Sequence[int], roi: Sequence[int], axis: int, weight: Tensor, wanted: Sequence[slice], sink: Sink
    ) -> None:
        self._size, self._roi, self._axis, self._sink = list(size), roi, axis, sink
        self._weight, self._wanted = weight, wanted
        self._first = 0
        self._sum: Tensor | None = None
        self._count: Tensor | None = None

    def add_all(self, places: Sequence[Sequence[slice]], scores: Tensor) -> None:
        """Add the scores of several windows, N x channels x D x H x W; see :meth:`add`."""
        for place, score in zip(places, scores.float(), strict=True):
            self.add(place, score)

    def add(self, place: Sequence[slice], score: Tensor) -> None:
        """Add a window's scores, channels x D x H x W, which are written over.

        Windows come in ascending order along the axis.
        """
        if self._sum is None or self._count is None:
            held = list(self._size)
            held[self._axis] = self._roi[self._axis]
            self._sum = score.new_zeros(len(score), *held)
            self._count = score.new_zeros(1, *held)
        start = place[self._axis].start
        if start > self._first:
            self._send(start - self._first)
        inside = [slice(None), *place]
        inside[self._axis + 1] = slice(None)
        self._sum[tuple(inside)] += score.mul_(self._weight)
        self._count[tuple(inside)] += self._weight

    def finish(self) -> None:
        """Send what is left."""
        if self._sum is not None:
            self._send(self._size[self._axis] - self._first)

    def _send(self, planes: int) -> None:
        """Hand on the first planes held, a few at a time, and make place for as many."""
        assert self._sum is not None and self._count is not None
        axis, held = self._axis + 1, self._sum.shape[self._axis + 1]
        step = max(_SENT_AT_ONCE // (self._sum[:, :1].numel() // held * len(self._sum) * 4), 1)
        for start in range(0, planes, step):
            some = min(step, planes - start)
            done = self._sum.narrow(axis, start, some).div_(self._count.narrow(axis, start, some))
            inside: Any = (slice(None), *self._inside(start, some))
            block = done[inside].movedim(axis, 1)
            if block.shape[1]:
                self._sink(block)
        self._first += planes
        for tensor in (self._sum, self._count):
            for place in range(held - planes):  # one by one: a copy of them all would double what is held
                tensor.select(axis, place).copy_(tensor.select(axis, place + planes))
            tensor.narrow(axis, max(held - planes, 0), min(planes, held)).zero_()

    def _inside(self, start: int, planes: int) -> list[slice]:
        """Of these planes what belongs to the volume and not to what it was filled up with."""
        wanted = list(self._wanted)
        low, high = (edge - self._first - start for edge in (wanted[self._axis].start, wanted[self._axis].stop))
        wanted[self._axis] = slice(min(max(low, 0), planes), min(max(high, 0), planes))
        return wanted


def _padded(image: Tensor, roi: Sequence[int], before: Sequence[int], like: SlidingWindowInferer) -> Tensor:
    """A volume of at least the window's size, filled up on both sides as MONAI does."""
    sides: list[int] = []
    for length, window, low in reversed(list(zip(image.shape[2:], roi, before, strict=True))):
        sides += [low, max(window - length, 0) - low]
    return F.pad(image, sides, mode=str(like.padding_mode), value=like.cval) if any(sides) else image
