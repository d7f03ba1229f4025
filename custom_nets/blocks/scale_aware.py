# SPDX-License-Identifier: Apache-2.0
"""The scale-aware module: one map seen through five dilations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_nets.blocks.convolution2d import ConvolutionNormReLU2d


class ScaleAwareModule(nn.Module):
    """Parallel dilated 3x3 convolutions of one map, concatenated and projected back to its channels.

    v = G([D_1(u), D_2(u), D_3(u), D_5(u), D_8(u)]): D_r is a 3x3 convolution of rate r, G a 1x1 convolution, both with
    batch norm and ReLU. S2aNet has it in place of a fourth pooling: contexts of 3 to 17 voxels at one resolution.

    Args:
        channels: C, of the map and of the result.
        branch_channels: of each branch; None = C.
        rates: dilation of each branch.
        dropout: probability with which elements of the result are zeroed in train mode.

    Shape:
        N x C x H x W -> N x C x H x W.

    Raises:
        ValueError: without a rate, or for one below 1.
    """

    def __init__(
        self,
        channels: int,
        branch_channels: int | None = None,
        rates: tuple[int, ...] = (1, 2, 3, 5, 8),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ValueError(f"rates {rates}: give at least one dilation rate, each 1 or more.")
        width = branch_channels or channels
        self.branches = nn.ModuleList(
            ConvolutionNormReLU2d(channels, width, dilation=rate, bias=False) for rate in rates
        )
        self.project = ConvolutionNormReLU2d(len(rates) * width, channels, kernel=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: int = 1) -> Tensor:
        """See the map at all scales; for ``positions`` see `ConvolutionNormReLU2d`."""
        scales = [branch(x, positions) for branch in self.branches]
        return self.dropout(self.project(torch.cat(scales, dim=1), positions))
