# SPDX-License-Identifier: Apache-2.0
"""Convolutions of 2D networks with batch norm, also where the slices of a window share one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    In eval mode without gradients the norm is multiplied into the convolution's weights: the same function, one pass
    over the map less.

    Args:
        in_channels: C.
        out_channels: C'.
        norm: "batch" or "none".
        kernel: odd; the padding keeps H and W.
        dilation: of the kernel.
        bias: of the convolution.

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
    ) -> None:
        super().__init__()
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
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if not (self.training or torch.is_grad_enabled() or _captured()):
                weight, bias = folded(self.conv, norm)
                return F.relu_(F.conv2d(x, weight, bias, 1, self.conv.padding, self.conv.dilation))
        x = self.conv(x)
        if positions == 1 or not norm.training:
            return F.relu_(norm(x))
        return F.relu_(torch.cat([norm(part) for part in x.chunk(positions)]))


class DoubleConvolution2d(nn.Module):
    """Two of `ConvolutionNormReLU2d`; shape N x C x H x W -> N x C' x H x W."""

    def __init__(self, in_channels: int, out_channels: int, norm: str = "batch") -> None:
        super().__init__()
        self.conv1 = ConvolutionNormReLU2d(in_channels, out_channels, norm)
        self.conv2 = ConvolutionNormReLU2d(out_channels, out_channels, norm)

    def forward(self, x: Tensor, positions: int = 1) -> Tensor:
        """Convolve twice; see `ConvolutionNormReLU2d`."""
        return self.conv2(self.conv1(x, positions), positions)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that is ``norm`` in eval mode behind ``conv``."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], shift


def _captured() -> bool:
    """True while another form of the network is made, which keeps to the plain operations."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()
