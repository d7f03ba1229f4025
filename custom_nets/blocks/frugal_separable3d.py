# SPDX-License-Identifier: Apache-2.0
"""The separable convolution for inference on a CPU, a few planes at a time: no map is held but source and result.

Each plane of the source is asked for once, and none that lies before the last plane written is asked for later. So the
result may be written over the source. The numbers are those of `custom_nets.blocks.lean_separable3d`, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks.plane_sources import PlaneSource, as_volume, side_by_side

#: Numbers of the sources' planes that are worked on at a time, 8 MB, to stay in a processor's cache.
_SLAB = 2**21


class Separable(NamedTuple):
    """Weights: depthwise ΣC x 1 x 3 x 3 x 3, pointwise C' x ΣC x 1 x 1 x 1, bias C'."""

    depthwise: Tensor
    pointwise: Tensor
    bias: Tensor


def separable_planes(
    sources: Sequence[PlaneSource],
    weights: Separable,
    stride: int,
    out: Tensor,
    shortcut: Tensor | None = None,
    shortcut_out: Tensor | None = None,
) -> None:
    """Convolve each channel by itself, padding 1, then mix the channels; N = 1.

    Args:
        sources: volumes of one size, which follow one another along the channels.
        weights: of the two convolutions.
        stride: 1 or 2.
        out: takes the result, 1 x C' x D' x H' x W', channels side by side.
        shortcut: of a 1x1x1 convolution of the same stride, C'' x ΣC x 1 x 1 x 1, or None.
        shortcut_out: takes its result.
    """
    depth, height, width = sources[0].size
    channels = [source.channels for source in sources]
    rows = side_by_side(out)
    slab = min(max(_SLAB // (height * width * sum(channels)), 1), len(rows))
    windows = [_Window(source, slab * stride + 3 - stride, stride, out) for source in sources]
    kernels = weights.depthwise.split(channels)
    mixing = [weight.t() for weight in weights.pointwise.flatten(1).split(channels, dim=1)]
    across = [None] * len(sources) if shortcut is None else _transposed(shortcut, channels)
    short_rows = rows if shortcut_out is None else side_by_side(shortcut_out)
    for first in range(0, len(rows), slab):
        last = min(first + slab, len(rows))
        into, beside = rows[first:last].flatten(0, 2), short_rows[first:last].flatten(0, 2)
        seen = [window.up_to(min(stride * (last - 1) + 2, depth), last - first) for window in windows]
        for number, (planes, kernel, matrix, short) in enumerate(zip(seen, kernels, mixing, across, strict=True)):
            between = F.conv3d(as_volume(planes), kernel, None, stride, (0, 1, 1), 1, channels[number])
            flat = side_by_side(between).reshape(-1, channels[number])
            torch.addmm(into if number else weights.bias, flat, matrix, out=into)
            if short is not None:
                _mix(planes[1 : 1 + stride * (last - first) : stride, ::stride, ::stride], short, beside, number > 0)


class _Window:
    """The planes of a source that the convolution sees, the margins that are outside of the volume zero."""

    def __init__(self, source: PlaneSource, planes: int, stride: int, like: Tensor) -> None:
        _, height, width = source.size
        self.source, self.stride = source, stride
        self.planes = like.new_zeros(planes, height, width, source.channels)
        self.kept = 3 - stride  # planes that the next slab sees again
        self.held = 0  # planes in the tensor, 0 at the start
        self.read = 0  # planes taken from the source

    def up_to(self, last: int, outputs: int) -> Tensor:
        """Go on to the next ``outputs`` planes of the result, for which the source is needed up to ``last``."""
        if self.held:
            kept = self.planes[self.held - self.kept : self.held]
            self.planes[: self.kept].copy_(kept.clone() if self.held < 2 * self.kept else kept)
        begin = self.kept if self.held else 1  # of the volume itself the first plane's neighbour is zero
        self.held = outputs * self.stride + 3 - self.stride
        end = begin + last - self.read
        self.source.write(self.read, last, self.planes[begin:end])
        self.planes[end : self.held].zero_()
        self.read = last
        return self.planes[: self.held]


def _mix(planes: Tensor, weight: Tensor, out: Tensor, onto: bool) -> None:
    """Write, or add, the product of all places' channels, planes x H x W x C, with a matrix C x C''."""
    flat = planes.reshape(-1, planes.shape[-1])
    if onto:
        out.add_(torch.mm(flat, weight))
    else:
        torch.mm(flat, weight, out=out)


def _transposed(weight: Tensor, channels: list[int]) -> list[Tensor]:
    return [part.t() for part in weight.flatten(1).split(channels, dim=1)]
