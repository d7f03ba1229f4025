# SPDX-License-Identifier: Apache-2.0
"""The "former" of the Shape-Scale Co-Awareness Network: transformer-like blocks of planes that mix by CBAM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.channel_gates import ChannelSpatialAttention2d


class FormerBlock(nn.Module):
    """x + a * Conv(CBAM(norm(x))), then x + b * MLP(norm(x)); a and b are vectors over the channels (layer scale).

    Norms have one group; convolutions are 1x1; the MLP widens four times and has a GELU.

    Args:
        channels: E.

    Shape:
        N x E x H x W -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels)
        self.attention = ChannelSpatialAttention2d(channels)
        self.mixer = nn.Conv2d(channels, channels, kernel_size=1)
        self.scale1 = nn.Parameter(torch.full((channels,), 1e-5))
        self.norm2 = nn.GroupNorm(1, channels)
        self.widen = nn.Conv2d(channels, 4 * channels, kernel_size=1)
        self.narrow = nn.Conv2d(4 * channels, channels, kernel_size=1)
        self.scale2 = nn.Parameter(torch.full((channels,), 1e-5))
        for layer in (self.attention.squeeze, self.attention.excite, self.widen, self.narrow):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.widen.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.scale1[:, None, None] * self.mixer(self.attention(self.norm1(x)))
        return x + self.scale2[:, None, None] * self.narrow(F.gelu(self.widen(self.norm2(x))))


class Former2d(nn.Module):
    """Embed planes, apply blocks, norm, and return to the planes' channels.

    Args:
        channels: C.
        embed_channels: E.
        depth: number of blocks.

    Shape:
        N x C x H x W -> the same.
    """

    def __init__(self, channels: int, embed_channels: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, embed_channels, kernel_size=1)
        self.blocks = nn.Sequential(*(FormerBlock(embed_channels) for _ in range(depth)))
        self.norm = nn.GroupNorm(1, embed_channels)
        self.project = nn.Conv2d(embed_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the former."""
        return self.project(self.norm(self.blocks(self.embed(x))))
