# SPDX-License-Identifier: Apache-2.0
"""The units of the Shape-Scale Co-Awareness Network's encoder and decoder: separable, or dense, convolutions in 3D."""

from __future__ import annotations

from torch import Tensor, nn

from custom_nets.blocks.lean_instance_norm import instance_norm, norm_prelu


class SepUnit(nn.Module):
    """Depthwise 3x3x3 convolution, pointwise convolution, instance norm (no parameters), PReLU of one slope.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the depthwise convolution.

    Shape:
        N x C x D x H x W -> N x C' x ceil(D / stride) x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv3d(
            in_channels, in_channels, kernel_size=3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv3d(in_channels, out_channels, kernel_size=1)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        return norm_prelu(self.pointwise(self.depthwise(x)), self.prelu.weight)


class DenseUnit(nn.Module):
    """A 3x3x3 convolution without bias in place of the separable one, instance norm, and a PReLU where wanted.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the convolution.
        activated: whether the PReLU follows.

    Shape:
        as `SepUnit`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, activated: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.prelu = nn.PReLU() if activated else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        x = self.convolution(x)
        return instance_norm(x) if self.prelu is None else norm_prelu(x, self.prelu.weight)


class ResUnit(nn.Module):
    """Two units and a shortcut: PReLU(unit2(unit1(x)) + r).

    r is x itself, or where channels or size change InstanceNorm of its 1x1x1 convolution of the same stride.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the first unit.
        separable: `SepUnit`, as published, or `DenseUnit`, whose second one then has no activation.

    Shape:
        as `SepUnit`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, separable: bool = True) -> None:
        super().__init__()
        if separable:
            self.unit1: nn.Module = SepUnit(in_channels, out_channels, stride)
            self.unit2: nn.Module = SepUnit(out_channels, out_channels)
        else:
            self.unit1 = DenseUnit(in_channels, out_channels, stride)
            self.unit2 = DenseUnit(out_channels, out_channels, activated=False)
        self.shortcut: nn.Conv3d | None = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        return self.with_middle(x)[1]

    def with_middle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the unit; return the first unit's result as well, (middle, result)."""
        middle = self.unit1(x)
        shortcut = x if self.shortcut is None else instance_norm(self.shortcut(x))
        return middle, self.prelu(self.unit2(middle) + shortcut)
