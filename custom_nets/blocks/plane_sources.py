# SPDX-License-Identifier: Apache-2.0
"""Where a convolution that goes through a volume plane by plane takes its planes from.

What would be a full-size map of its own (one that is upsampled, gated or normed) is made for some planes at a time. All
volumes here are one sample's, with their channels side by side; planes are those along D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks.lean_instance_norm import ChannelMoments, normed_


@dataclass(frozen=True)
class PlaneSource:
    """A volume whose planes are asked for once each, in ascending order.

    Args:
        channels: C.
        size: D, H, W.
        write: writes planes from a first one up to, but not, a last one into a tensor, planes x H x W x C.
        like: of the device and precision of the volume.
    """

    channels: int
    size: tuple[int, int, int]
    write: Callable[[int, int, Tensor], None]
    like: Tensor

    def whole(self) -> Tensor:
        """The volume, 1 x C x D x H x W."""
        out = self.like.new_empty(*self.size, self.channels)
        self.write(0, self.size[0], out)
        return as_volume(out)


def side_by_side(x: Tensor) -> Tensor:
    """1 x C x D x H x W -> a view D x H x W x C."""
    return x[0].permute(1, 2, 3, 0)


def as_volume(planes: Tensor) -> Tensor:
    """D x H x W x C -> a view 1 x C x D x H x W; PyTorch tells the layout by the sample's stride, too."""
    return planes[None].as_strided((1, *planes.shape), (planes.numel(), *planes.stride())).permute(0, 4, 1, 2, 3)


def of_map(x: Tensor) -> PlaneSource:
    """The map itself, 1 x C x D x H x W."""
    rows = side_by_side(x)

    def write(first: int, last: int, out: Tensor) -> None:
        out.copy_(rows[first:last])

    return _source(x, write)


def doubled(x: Tensor) -> PlaneSource:
    """The map at twice its size, trilinear; 1 x C x D x H x W."""
    depth = x.shape[2]

    def write(first: int, last: int, out: Tensor) -> None:
        low, high = max((first - 1) // 2, 0), min(last // 2 + 1, depth)  # the planes that these lie between
        up = F.interpolate(x[:, :, low:high], scale_factor=2.0, mode="trilinear", align_corners=False)
        out.copy_(side_by_side(up)[first - 2 * low : last - 2 * low])

    return PlaneSource(x.shape[1], (2 * depth, 2 * x.shape[3], 2 * x.shape[4]), write, x)


def weighed(x: Tensor, weights: Tensor) -> PlaneSource:
    """The map, 1 x C x D x H x W, times a weight for each place, 1 x 1 x D x H x W."""
    rows, factors = side_by_side(x), side_by_side(weights)

    def write(first: int, last: int, out: Tensor) -> None:
        torch.mul(rows[first:last], factors[first:last], out=out)

    return _source(x, write)


def normed(x: Tensor, slope: Tensor) -> PlaneSource:
    """PReLU of one slope behind an instance norm of the map, 1 x C x D x H x W."""
    rows, moments, number = side_by_side(x), ChannelMoments.of(x, 0), slope.item()

    def write(first: int, last: int, out: Tensor) -> None:
        normed_(out.copy_(rows[first:last]), moments, number)

    return _source(x, write)


def _source(x: Tensor, write: Callable[[int, int, Tensor], None]) -> PlaneSource:
    return PlaneSource(x.shape[1], (x.shape[2], x.shape[3], x.shape[4]), write, x)
