# SPDX-License-Identifier: Apache-2.0
"""Atrous spatial pyramid pooling of SpineParseNet's 3D network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.lean_separable_norm3d import folds, scale_and_shift
from custom_nets.blocks.separable_norm3d import ConvolutionNorm, SeparableConvolutionNorm


class AtrousPyramidPooling(nn.Module):
    """A pointwise branch, separable ones dilated along all axes, and the mean of the volume; joined and projected.

    Args:
        in_channels: C.
        out_channels: C' of each branch and of the result.
        rates: dilations.

    Shape:
        N x C x D x H x W -> N x C' x D x H x W; N of 2 at least in train mode.

    Raises:
        ValueError: when called in train mode with a batch of one.
    """

    def __init__(self, in_channels: int, out_channels: int, rates: tuple[int, ...] = (6, 12, 18)) -> None:
        super().__init__()
        self.pointwise = ConvolutionNorm(in_channels, out_channels)
        self.dilated = nn.ModuleList(
            SeparableConvolutionNorm(in_channels, out_channels, dilation=rate, activated=True) for rate in rates
        )
        self.pooled = ConvolutionNorm(in_channels, out_channels)
        self.project = ConvolutionNorm((len(rates) + 2) * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        if self.pooled.norm.training and x.shape[0] == 1:
            raise ValueError("a batch of one volume has no statistics of its means: train with 2 volumes at least.")
        branches = [self.pointwise(x)]
        for branch in self.dilated:
            branches.append(branch(x))
        mean = self.pooled(x.mean(dim=(2, 3, 4), keepdim=True))
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if folds(x, self.project.norm):
                return self._projected(branches, mean)
        branches.append(mean.expand_as(branches[0]))
        return self.project(torch.cat(branches, dim=1))

    @torch.jit.unused
    def _projected(self, branches: list[Tensor], mean: Tensor) -> Tensor:
        """Project each branch by itself, the mean once a sample, and add up."""
        scale, shift = scale_and_shift(self.project.norm)
        weights = (self.project.conv.weight.flatten(1) * scale[:, None]).chunk(len(branches) + 1, dim=1)
        total = F.linear(mean.flatten(1), weights[-1], shift)[:, None, None, None]
        for branch, weight in zip(branches, weights, strict=False):
            total = total + F.linear(branch.permute(0, 2, 3, 4, 1), weight)
        return total.relu_().permute(0, 4, 1, 2, 3)
