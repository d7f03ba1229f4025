# SPDX-License-Identifier: Apache-2.0
"""The gate on a skip connection: what lies below tells which places of the skip's features pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.pointwise import at_outputs, mixed_channels


class AttentionGate3d(nn.Module):
    """Attention gate (Oktay et al., MIDL 2018): x * Up(sigmoid(norm(psi ReLU(norm(W_g g) + norm(W_x x))))).

    W_x has stride 2, so that the weights are made at the size of g. All norms are batch norms, as published.

    Args:
        below_channels: of g.
        channels: of x, and of the sum.

    Shape:
        g: N x C_g x D x H x W; x: N x C x 2D x 2H x 2W -> as x.
    """

    def __init__(self, below_channels: int, channels: int) -> None:
        super().__init__()
        self.from_below = nn.Conv3d(below_channels, channels, kernel_size=1, bias=False)
        self.norm_below = nn.BatchNorm3d(channels)
        self.from_skip = nn.Conv3d(channels, channels, kernel_size=1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm3d(channels)
        self.score = nn.Conv3d(channels, 1, kernel_size=1, bias=False)
        self.norm_score = nn.BatchNorm3d(1)

    def forward(self, below: Tensor, x: Tensor) -> Tensor:
        """Gate ``x`` by ``below``."""
        return x * self.weights(below, x)

    def weights(self, below: Tensor, x: Tensor) -> Tensor:
        """What ``x`` is multiplied by, N x 1 x 2D x 2H x 2W."""
        from_below = mixed_channels(below, self.from_below.weight, None)
        from_skip = mixed_channels(at_outputs(x, 2), self.from_skip.weight, None)
        both = torch.relu(self.norm_below(from_below) + self.norm_skip(from_skip))
        weights = torch.sigmoid(self.norm_score(mixed_channels(both, self.score.weight, None)))
        return F.interpolate(weights, scale_factor=2.0, mode="trilinear", align_corners=False)
