# SPDX-License-Identifier: Apache-2.0
"""MCA: all encoder levels at the bottom, mixed by an axial-shifted MLP of the planes across each axis, and gated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom_nets.blocks.axial_shift import EnhancedAxialShiftedMLP
from custom_nets.blocks.channel_gates import SpatialGate3d, SqueezeExcitation
from custom_nets.blocks.folding import across, back
from custom_nets.blocks.separable3d import ResUnit


class VolumetricAxialShiftedMLP(nn.Module):
    """VAS-MLP: one EAS-MLP over the slices across each of the three axes, the three results fused.

    The published code stores the slices across W with H and W exchanged, and trained weights have learnt so: at
    (h, w, d) stands what belongs to (w, h, d).

    Args:
        in_channels: C.
        out_channels: C'.
        embed_channels: of the EAS-MLP.
        depth: of the EAS-MLP.
        drop_path: of the EAS-MLP.
        swapped_axes: as published; False puts the slices across W where they belong.

    Shape:
        N x C x S x S x S -> N x C' x S x S x S.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embed_channels: int = 128,
        depth: int = 4,
        drop_path: float = 0.1,
        swapped_axes: bool = True,
    ) -> None:
        super().__init__()
        self.swapped_axes = swapped_axes
        self.mlp = EnhancedAxialShiftedMLP(in_channels, embed_channels, depth, drop_path)
        self.fuse = nn.Conv3d(3 * in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP."""
        slices = torch.cat([across(x, axis).transpose(1, 2).flatten(0, 1) for axis in range(3)])
        views = self.mlp(slices).unflatten(0, (3, x.shape[0], -1)).transpose(2, 3).unbind()
        h, w, d = [back(view, axis) for axis, view in enumerate(views)]
        if self.swapped_axes:
            w = w.transpose(2, 3)
        return self.fuse(torch.cat([h, w, d], dim=1))


class MultiLevelContextAggregator(nn.Module):
    """MCA: e3 + gate(CB(z)) * VAS-MLP(z), where z holds the four levels at the size of the deepest.

    The channels of z are weighed; CB are two `ResUnit`; the gate has one channel.

    Args:
        filters: channels of the four levels.
        downsampling: "strided" convolutions without overlap, as published, or "max_pool", as in one of the ablation's
            variants.
        drop_path: of the VAS-MLP.
        swapped_axes: of the VAS-MLP.

    Shape:
        e0 ... e3, N x C_i x S_i x S_i x S_i, S_i = S_0 / 2^i -> as e3.
    """

    def __init__(
        self, filters: Sequence[int], downsampling: str = "strided", drop_path: float = 0.1, swapped_axes: bool = True
    ) -> None:
        super().__init__()
        w0, w1, w2, w3 = filters
        channels = sum(filters)
        if downsampling == "strided":
            self.down0: nn.Module = nn.Conv3d(w0, w0, kernel_size=8, stride=8)
            self.down1: nn.Module = nn.Conv3d(w1, w1, kernel_size=4, stride=4)
            self.down2: nn.Module = nn.Conv3d(w2, w2, kernel_size=2, stride=2)
        else:
            self.down0, self.down1, self.down2 = nn.MaxPool3d(8), nn.MaxPool3d(4), nn.MaxPool3d(2)
        self.weigh = SqueezeExcitation(channels)
        self.mlp = VolumetricAxialShiftedMLP(channels, w3, drop_path=drop_path, swapped_axes=swapped_axes)
        self.convolutions = nn.Sequential(ResUnit(channels, w3), ResUnit(w3, w3))
        self.gate = SpatialGate3d(kernel_size=1)

    def forward(self, e0: Tensor, e1: Tensor, e2: Tensor, e3: Tensor) -> Tensor:
        """Return the bottom's map."""
        z = self.weigh(torch.cat([self.down0(e0), self.down1(e1), self.down2(e2), e3], dim=1))
        return e3 + self.gate(self.convolutions(z)) * self.mlp(z)
