# SPDX-License-Identifier: Apache-2.0
"""The 1x1x1 convolution as a matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.modes import captured


def project(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """1x1x1 convolution of ``x`` (N x C x D x H x W) with ``weight`` (C' x C, or with trailing ones) as one product."""
    weights, values = weight.flatten(1).expand(x.shape[0], -1, -1), x.flatten(2)
    flat = torch.bmm(weights, values) if bias is None else torch.baddbmm(bias.unsqueeze(1), weights, values)
    return flat.unflatten(2, x.shape[2:])


def at_outputs(x: Tensor, stride: int) -> Tensor:
    """The voxels of N x C x D x H x W at which the outputs of a strided convolution stand."""
    return x[:, :, ::stride, ::stride, ::stride]


def mixed_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1x1x1 convolution of ``x``, N x C x D x H x W; on a CPU one product of matrices.

    Args:
        x: the map.
        weight: C' x C x 1 x 1 x 1.
        bias: C' or None.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if x.device.type == "cpu" and not captured():
            if x.stride(1) == 1:
                return F.linear(x.permute(0, 2, 3, 4, 1), weight.flatten(1), bias).permute(0, 4, 1, 2, 3)
            return project(weight, bias, x)
    return F.conv3d(x, weight, bias)


def doubled_by(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Transposed convolution of kernel 2 and stride 2; on a CPU one product of matrices, channels side by side.

    Args:
        x: N x C x D x H x W.
        weight: C x C' x 2 x 2 x 2.
        bias: C'.

    Returns:
        N x C' x 2D x 2H x 2W.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if x.device.type == "cpu" and not captured():
            kernel = weight.permute(2, 3, 4, 1, 0).flatten(0, 3)  # 8C' x C
            parts = F.linear(x.permute(0, 2, 3, 4, 1), kernel, bias.repeat(8)).unflatten(4, (2, 2, 2, -1))
            joined = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
            return joined.permute(0, 4, 1, 2, 3)
    return F.conv_transpose3d(x, weight, bias, stride=2)


def present(bias: Tensor | None) -> Tensor:
    """The bias of a convolution that is known to have one; PyTorch types it as optional."""
    assert bias is not None
    return bias


class PointwiseConvolution(nn.Conv3d):
    """`nn.Conv3d` of kernel 1 with the same parameters and function, computed as one matrix product.

    On a CPU the forward pass takes about as long as PyTorch's convolution; forward and backward take 0.6 to 1.0 of its
    time at 128 channels, 40^3, and 64 to 32 channels, 64^3.

    Args:
        in_channels: C.
        out_channels: C'.
        bias: learn a bias.

    Shape:
        N x C x D x H x W -> N x C' x D x H x W.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution."""
        return project(self.weight, self.bias, x)


class TransposedPointwise(nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` of kernel 1, whose weight is C x C' x 1 x 1 x 1, computed as one matrix product.

    Args:
        in_channels: C.
        out_channels: C'.
        bias: learn a bias.

    Shape:
        N x C x D x H x W -> N x C' x D x H x W.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the convolution."""
        weight = self.weight.flatten(1).t()
        if x.is_contiguous(memory_format=torch.channels_last_3d):  # the gradient then is, too
            return F.linear(x.permute(0, 2, 3, 4, 1), weight, self.bias).permute(0, 4, 1, 2, 3)
        return project(weight, self.bias, x)
