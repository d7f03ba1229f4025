# SPDX-License-Identifier: Apache-2.0
"""LGSM: a local branch of separable convolutions beside a global branch that sees whole planes across each axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.folding import across, back
from custom_nets.blocks.former2d import Former2d
from custom_nets.blocks.pointwise import present
from custom_nets.blocks.separable3d import ResUnit


class GlobalBranch(nn.Module):
    """Fold each axis into the channels in turn, run one former over the planes, unfold, and fuse the three.

    The planes' former shares its weights over the three axes.

    Args:
        in_channels: C.
        out_channels: C'.
        size: S, of the map along each axis.
        embed_channels: of the former.
        depth: of the former.

    Shape:
        N x C x S x S x S -> N x C' x S x S x S.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, embed_channels: int, depth: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels * size, in_channels, kernel_size=1)
        self.former = Former2d(in_channels, embed_channels, depth)
        self.expand = nn.Conv2d(in_channels, in_channels * size, kernel_size=1)
        self.fuse = nn.Conv3d(3 * in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the branch."""
        planes = torch.cat([self.reduce(across(x, axis).flatten(1, 2)) for axis in range(3)])
        views = self.former(planes).unflatten(0, [3, -1])  # `chunk` would fix N in `torch.export`
        bias = present(self.fuse.bias)
        total = bias[:, None, None, None]
        for axis in range(3):
            fused = F.conv2d(views[axis], *self._expand_and_fuse(axis)).unflatten(1, [bias.shape[0], -1])
            total = total + back(fused, axis)
        return total

    def _expand_and_fuse(self, axis: int) -> tuple[Tensor, Tensor]:
        """The product of the two layers that follow the former of one axis: half of their multiplications at 32³."""
        channels = self.reduce.weight.shape[0]
        fuse = self.fuse.weight.flatten(1)[:, axis * channels : (axis + 1) * channels]
        weight = torch.mm(fuse, self.expand.weight.view(channels, -1)).view(-1, channels, 1, 1)
        return weight, torch.mm(fuse, present(self.expand.bias).view(channels, -1)).flatten()


class LocalGlobalScaleMixer(nn.Module):
    """The sum of a `ResUnit` and a `GlobalBranch`.

    Args:
        in_channels: C.
        out_channels: C'.
        size: of the result along each axis.
        embed_channels: of the global branch.
        depth: of the global branch.
        stride: of the unit. The global branch sees what the unit's first half makes of x where that has the result's
            channels (in the encoder, ``from_middle``), else x itself (in the decoder).
        from_middle: see ``stride``.

    Shape:
        N x C x D x H x W -> N x C' x size x size x size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        embed_channels: int,
        depth: int,
        stride: int = 1,
        from_middle: bool = False,
    ) -> None:
        super().__init__()
        self.from_middle = from_middle
        self.local_branch = ResUnit(in_channels, out_channels, stride)
        seen = out_channels if from_middle else in_channels
        self.global_branch = GlobalBranch(seen, out_channels, size, embed_channels, depth)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Apply both branches, to x and a skip connection as if they were joined along the channels."""
        middle, local = self.local_branch.with_middle(x, skip)
        seen = middle if self.from_middle else x if skip is None else torch.cat([x, skip], dim=1)
        return local + self.global_branch(seen)
