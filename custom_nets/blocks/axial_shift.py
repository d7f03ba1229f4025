# SPDX-License-Identifier: Apache-2.0
"""EAS-MLP: an MLP of planes that sees its surroundings by shifting groups of channels along the two axes.

The axial shift is that of Lian et al., "AS-MLP: An Axial Shifted MLP Architecture for Vision" (ICLR 2022); the enhanced
one of the Shape-Scale Co-Awareness Network adds diagonal shifts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import Tensor, nn


def shifted(x: Tensor, rows: int, columns: int) -> Tensor:
    """Move groups of channels along the planes' axes; zeros come in from outside.

    The channels are cut into groups of ceil(C / 5), the last of which may be smaller. Group j moves by j - 2, times
    ``rows`` along H and times ``columns`` along W: out[c, h, w] = x[c, h - rows (j - 2), w - columns (j - 2)].

    Args:
        x: N x C x H x W.
        rows: -1, 0 or 1; with -1 the shift goes the other way.
        columns: the same along W.
    """
    height, width = x.shape[2], x.shape[3]
    above, left = 2 * abs(rows), 2 * abs(columns)
    padded = F.pad(x, [left, left, above, above])
    groups = []
    for number, group in enumerate(padded.split((x.shape[1] + 4) // 5, dim=1)):
        row, column = above - rows * (number - 2), left - columns * (number - 2)
        groups.append(group[:, :, row : row + height, column : column + width])
    return torch.cat(groups, dim=1)


class AxialShift(nn.Module):
    """Mix the channels of planes among places up to two apart.

    With u = GELU(norm(W1 x)), S_P and S_Q the shifts along the planes' first and second axis and R_Q the reverse one:
    W3 norm(GELU(W21 S_Q u) + GELU(W21 S_P S_Q u) + GELU(W22 S_P u) + GELU(W22 R_Q S_P u)).
    All W are 1x1 convolutions with bias; norms have one group.

    Args:
        channels: C.

    Shape:
        N x C x H x W -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm1 = nn.GroupNorm(1, channels)
        self.columns = nn.Conv2d(channels, channels, kernel_size=1)
        self.rows = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm2 = nn.GroupNorm(1, channels)
        self.leave = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        x = F.gelu(self.norm1(self.enter(x)))
        mixed = F.gelu(self.columns(shifted(x, 0, 1))) + F.gelu(self.columns(shifted(x, 1, 1)))
        mixed = mixed + F.gelu(self.rows(shifted(x, 1, 0))) + F.gelu(self.rows(shifted(x, 1, -1)))
        return self.leave(self.norm2(mixed))


class AxialShiftBlock(nn.Module):
    """x + AxialShift(norm(x)), then x + MLP(norm(x)); each addend is left out of some planes while training.

    Args:
        channels: C; the MLP widens four times.
        drop_path: probability with which an addend is left out of a plane in train mode.

    Shape:
        N x C x H x W -> the same.
    """

    def __init__(self, channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels)
        self.axial_shift = AxialShift(channels)
        self.norm2 = nn.GroupNorm(1, channels)
        self.widen = nn.Conv2d(channels, 4 * channels, kernel_size=1)
        self.narrow = nn.Conv2d(4 * channels, channels, kernel_size=1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.drop_path(self.axial_shift(self.norm1(x)))
        return x + self.drop_path(self.narrow(F.gelu(self.widen(self.norm2(x)))))


class EnhancedAxialShiftedMLP(nn.Module):
    """EAS-MLP: embed planes, apply blocks, return to the planes' channels.

    Args:
        channels: C.
        embed_channels: E.
        depth: number of blocks.
        drop_path: of the last block; those before it have equal steps from 0 up to it.

    Shape:
        N x C x H x W -> the same.
    """

    def __init__(self, channels: int, embed_channels: int = 128, depth: int = 4, drop_path: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, embed_channels, kernel_size=1)
        self.norm = nn.GroupNorm(1, embed_channels)
        self.blocks = nn.Sequential(
            *(AxialShiftBlock(embed_channels, drop_path * number / max(depth - 1, 1)) for number in range(depth))
        )
        self.project = nn.Conv2d(embed_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP."""
        return self.project(self.blocks(self.norm(self.embed(x))))
