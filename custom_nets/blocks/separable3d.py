# SPDX-License-Identifier: Apache-2.0
"""The units of the Shape-Scale Co-Awareness Network's encoder and decoder: separable, or dense, convolutions in 3D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_nets.blocks.lean_instance_norm import instance_norm, norm_prelu, norm_prelu_sum_prelu
from custom_nets.blocks.lean_separable3d import separable_convolution
from custom_nets.blocks.pointwise import at_outputs, mixed_channels, present


class SepUnit(nn.Module):
    """Depthwise 3x3x3 convolution, pointwise convolution, instance norm (no parameters), PReLU of one slope.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the depthwise convolution.
        activated: whether there is the PReLU.

    Shape:
        N x C x D x H x W -> N x C' x ceil(D / stride) x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, activated: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv3d(
            in_channels, in_channels, kernel_size=3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv3d(in_channels, out_channels, kernel_size=1)
        self.prelu = nn.PReLU() if activated else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Apply the unit, to x and a skip connection as if they were joined along the channels."""
        return _activated(self.convolve(x, skip), self.prelu)

    def convolve(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """The two convolutions alone."""
        parts = [x] if skip is None else [x, skip]
        bias = present(self.pointwise.bias)
        return separable_convolution(parts, self.depthwise.weight, self.pointwise.weight, bias, self.stride)


class DenseUnit(nn.Module):
    """A 3x3x3 convolution without bias in place of the separable one, instance norm, PReLU.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the convolution.
        activated: whether there is the PReLU.

    Shape:
        as `SepUnit`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, activated: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.prelu = nn.PReLU() if activated else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Apply the unit, to x and a skip connection as if they were joined along the channels."""
        return _activated(self.convolve(x, skip), self.prelu)

    def convolve(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """The convolution alone."""
        return self.convolution(x if skip is None else torch.cat([x, skip], dim=1))


def _activated(x: Tensor, prelu: nn.PReLU | None) -> Tensor:
    return instance_norm(x) if prelu is None else norm_prelu(x, prelu.weight)


class ResUnit(nn.Module):
    """Two units and a shortcut: PReLU(unit2(unit1(x)) + r).

    r is x itself, or where channels or size change InstanceNorm of its 1x1x1 convolution of the same stride.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the first unit.
        separable: `SepUnit`, as published, or `DenseUnit`, of which the second one then has no activation.

    Shape:
        as `SepUnit`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, separable: bool = True) -> None:
        super().__init__()
        kind = SepUnit if separable else DenseUnit
        self.unit1 = kind(in_channels, out_channels, stride)
        self.unit2 = kind(out_channels, out_channels, activated=separable)
        self.stride = stride
        self.shortcut: nn.Conv3d | None = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Apply the unit, to x and a skip connection as if they were joined along the channels."""
        return self.with_middle(x, skip)[1]

    def with_middle(self, x: Tensor, skip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the unit; return the first half's result as well, (middle, result)."""
        middle = self.unit1(x, skip)
        inner = None if self.unit2.prelu is None else self.unit2.prelu.weight
        identity = self._identity(x, skip)
        return middle, norm_prelu_sum_prelu(self.unit2.convolve(middle), inner, identity, self.prelu.weight)

    def _identity(self, x: Tensor, skip: Tensor | None) -> Tensor:
        if self.shortcut is None:
            return x if skip is None else torch.cat([x, skip], dim=1)
        weight = self.shortcut.weight
        mixed = mixed_channels(at_outputs(x, self.stride), weight[:, : x.shape[1]], None)
        if skip is not None:
            mixed = mixed + mixed_channels(at_outputs(skip, self.stride), weight[:, x.shape[1] :], None)
        return instance_norm(mixed)
