# SPDX-License-Identifier: Apache-2.0
"""Convolutions of 2D networks with batch norm, also where the slices of a window share one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks import lean_convolution2d, lean_norm2d
from custom_nets.blocks.modes import captured


def batch_norm(name: str, channels: int) -> nn.BatchNorm2d | None:
    """Build the norm of that name: "batch" (eps 1e-5, momentum 0.1), or "none".

    Raises:
        ValueError: for another name.
    """
    if name not in ("batch", "none"):
        raise ValueError(f"norm '{name}' is unknown: choose 'batch' or 'none'.")
    return nn.BatchNorm2d(channels) if name == "batch" else None


class ConvolutionNormReLU2d(nn.Module):
    """Convolution, batch norm (or none), ReLU.

    Without gradients a norm in eval mode is multiplied into the convolution's weights: the same function, one pass
    over the map less.

    Args:
        in_channels: C.
        out_channels: C'.
        norm: "batch" or "none".
        kernel: odd; the padding keeps H and W.
        dilation: of the kernel.
        bias: of the convolution.
        lean: in a training step on a CPU, keep less and multiply less; False for PyTorch's own operations, to the last
            rounding, which batch statistics of many layers amplify.

    Shape:
        N x C x H x W -> N x C' x H x W.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str = "batch",
        kernel: int = 3,
        dilation: int = 1,
        bias: bool = True,
        lean: bool = True,
    ) -> None:
        super().__init__()
        self.lean = lean
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias)
        self.norm = batch_norm(norm, out_channels)

    def forward(self, x: Tensor, positions: int = 1) -> Tensor:
        """Convolve; of a batch of ``positions`` · B, batch running fastest, each position has a norm of its own.

        The running statistics take one position after the other, as if the layer had been called once for each.
        """
        norm = self.norm
        if norm is None:
            return F.relu_(self.conv(x))
        if not torch.jit.is_scripting():  # TorchScript leaves out what stands under this very condition
            if not (norm.training or torch.is_grad_enabled() or captured()):
                return self._folded(x, norm)
            if self.is_lean(x):
                return lean_norm2d.norm_relu(self.convolve(x), norm, positions)
        x = self.conv(x)
        if positions == 1 or not norm.training:
            return F.relu_(norm(x))
        return F.relu_(torch.cat([norm(part) for part in x.chunk(positions)]))

    def and_added(self, x: Tensor, added: Tensor) -> Tensor:
        """ReLU(norm(convolution of x) + added): the end of a residual unit."""
        norm = self.norm
        if norm is None:
            return F.relu_(self.conv(x) + added)
        if not torch.jit.is_scripting():  # noqa: SIM102
            if not (norm.training or torch.is_grad_enabled() or captured()):
                return F.relu_(self._folded(x, norm, rectify=False).add_(added))
        return F.relu_(norm(self.conv(x)) + added)

    @torch.jit.unused
    def _folded(self, x: Tensor, norm: nn.BatchNorm2d, rectify: bool = True) -> Tensor:
        weight, bias = folded(self.conv, norm)
        dilation = self.conv.dilation[0]
        if lean_convolution2d.on_cpu(x, weight) and lean_convolution2d.pays(x, weight, dilation):
            return lean_convolution2d.convolution([x], weight, bias, dilation, rectify=rectify)
        x = F.conv2d(x, weight, bias, 1, self.conv.padding, self.conv.dilation)
        return F.relu_(x) if rectify else x

    @torch.jit.unused
    def is_lean(self, x: Tensor) -> bool:
        """True in a training step on a CPU, with a norm as `batch_norm` builds it."""
        norm = self.norm
        if norm is None or not (self.lean and norm.training and norm.affine and norm.track_running_stats):
            return False
        return norm.momentum is not None and lean_convolution2d.is_lean(x, self.conv.weight)

    @torch.jit.unused
    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone, in a training step on a CPU."""
        conv = self.conv
        if lean_convolution2d.pays(x, conv.weight, conv.dilation[0]):
            return lean_convolution2d.convolution([x], conv.weight, conv.bias, conv.dilation[0])
        if conv.kernel_size == (1, 1):  # a matrix product, for which PyTorch takes a slow path else
            return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)
        if x.shape[1] == 1:  # PyTorch sees no layout in one channel: say it in the strides
            x = x.reshape(len(x), x.shape[2], x.shape[3], 1).permute(0, 3, 1, 2)
        return conv(x)


class DoubleConvolution2d(nn.Module):
    """Two of `ConvolutionNormReLU2d`; shape N x C x H x W -> N x C' x H x W."""

    def __init__(self, in_channels: int, out_channels: int, norm: str = "batch") -> None:
        super().__init__()
        self.conv1 = ConvolutionNormReLU2d(in_channels, out_channels, norm)
        self.conv2 = ConvolutionNormReLU2d(out_channels, out_channels, norm)

    def forward(self, x: Tensor, positions: int = 1) -> Tensor:
        """Convolve twice; see `ConvolutionNormReLU2d`."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.conv1.is_lean(x) and self.conv2.is_lean(x):
                norm = self.conv2.norm
                assert norm is not None
                return lean_norm2d.norm_relu(self._before_last_norm(x, positions), norm, positions)
        return self.conv2(self.conv1(x, positions), positions)

    def with_pooled(self, x: Tensor, positions: int = 1) -> tuple[Tensor, Tensor]:
        """The result, and its maxima over 2x2 voxels; H and W even."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.conv1.is_lean(x) and self.conv2.is_lean(x):
                norm = self.conv2.norm
                assert norm is not None
                return lean_norm2d.norm_relu_pool(self._before_last_norm(x, positions), norm, positions)
        x = self.forward(x, positions)
        return x, F.max_pool2d(x, 2)

    @torch.jit.unused
    def _before_last_norm(self, x: Tensor, positions: int) -> Tensor:
        norm, conv = self.conv1.norm, self.conv2.conv
        assert norm is not None
        x = self.conv1.convolve(x)
        if lean_convolution2d.pays(x, conv.weight):
            return lean_convolution2d.norm_relu_convolution(x, norm, positions, conv.weight, conv.bias)
        return self.conv2.convolve(lean_norm2d.norm_relu(x, norm, positions))


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that is ``norm`` in eval mode behind ``conv``."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], shift
