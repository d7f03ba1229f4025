# SPDX-License-Identifier: Apache-2.0
"""Convolutions with batch norm of SpineParseNet's 3D network: separable ones, and plain ones with a ReLU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.lean_convolution2d import is_lean
from custom_nets.blocks.lean_depthwise3d import lean_depthwise
from custom_nets.blocks.lean_separable_norm3d import (
    at_slices,
    convolution_folded,
    folds,
    scale_and_shift,
    separable_folded,
)


class SeparableConvolutionNorm(nn.Module):
    """Depthwise 3x3x3 convolution, batch norm, pointwise convolution, batch norm; no bias.

    Without gradients norms in eval mode are multiplied into the convolutions on a CPU: the same function.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the depthwise convolution in the plane of the slices.
        dilation: of the depthwise convolution along all axes; the padding keeps the size.
        activated: a ReLU behind each norm.

    Shape:
        N x C x D x H x W -> N x C' x D x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, activated: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        self.dilation = dilation
        self.activated = activated
        self.depthwise = nn.Conv3d(
            in_channels,
            in_channels,
            kernel_size=3,
            stride=(1, stride, stride),
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        self.depthwise_norm = nn.BatchNorm3d(in_channels)
        self.pointwise = nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False)
        self.pointwise_norm = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor, joined: Tensor | None = None) -> Tensor:
        """Apply the unit, to x and a second map as if they were joined along the channels."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if folds(x, self.depthwise_norm):
                return self._folded([x] if joined is None else [x, joined], self.activated)
        if joined is not None:
            x = torch.cat([x, joined], dim=1)
        x = self.depthwise_norm(self._convolved(x))
        x = F.relu(x) if self.activated else x
        x = self.pointwise_norm(self.pointwise(x))
        return F.relu(x) if self.activated else x

    def then_relu(self, x: Tensor) -> Tensor:
        """The unit and a ReLU behind it."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if folds(x, self.depthwise_norm):
                return self._folded([x], True)
        return F.relu(self.forward(x))

    def _convolved(self, x: Tensor) -> Tensor:
        """The depthwise convolution."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.dilation == 1 and is_lean(x, self.depthwise.weight):
                return lean_depthwise(x, self.depthwise.weight, (1, self.stride))
        return self.depthwise(x)

    @torch.jit.unused
    def _folded(self, parts: list[Tensor], rectify: bool) -> Tensor:
        scale, shift = scale_and_shift(self.depthwise_norm)
        depthwise = self.depthwise.weight * scale[:, None, None, None, None]
        outer_scale, outer_shift = scale_and_shift(self.pointwise_norm)
        pointwise = self.pointwise.weight.flatten(1) * outer_scale[:, None]
        if self.activated:
            return separable_folded(
                parts, depthwise, shift, pointwise, outer_shift, self.stride, self.dilation, rectify
            )
        bias = outer_shift + pointwise @ shift  # nothing stands between the two: their shifts are one
        return separable_folded(parts, depthwise, None, pointwise, bias, self.stride, self.dilation, rectify)


class ConvolutionNorm(nn.Module):
    """Convolution without bias, batch norm, and a ReLU if wished.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: 1 or 3, along all axes; the padding keeps the size.
        stride: in the plane of the slices.
        activated: the ReLU.

    Shape:
        N x C x D x H x W -> N x C' x D x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, activated: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        self.activated = activated
        self.conv = nn.Conv3d(
            in_channels, out_channels, kernel, stride=(1, stride, stride), padding=kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if folds(x, self.norm):
                return self._folded(x)
        x = self.norm(self.conv(x))
        return F.relu(x) if self.activated else x

    @torch.jit.unused
    def _folded(self, x: Tensor) -> Tensor:
        scale, shift = scale_and_shift(self.norm)
        weight = self.conv.weight * scale[:, None, None, None, None]
        if weight.shape[2] == 1:
            x = F.linear(at_slices(x, self.stride), weight.flatten(1), shift).permute(0, 4, 1, 2, 3)
        else:
            x = convolution_folded(x, weight, shift, self.stride)
        return x.relu_() if self.activated else x
