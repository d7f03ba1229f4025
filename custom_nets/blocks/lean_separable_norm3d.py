# SPDX-License-Identifier: Apache-2.0
"""Separable convolutions for inference on a CPU: channels side by side, norms folded into the weights, slab by slab.

The map between depthwise and pointwise convolution is made for a few slices at a time and never as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.lean_convolution2d import on_cpu

#: Numbers of the map between the two convolutions that are made at a time: 8 MB.
_SLAB = 2**21


def folds(x: Tensor, norm: nn.BatchNorm3d) -> bool:
    """True where a norm in eval mode is folded: on a CPU at full precision, without gradients."""
    return not (norm.training or torch.is_grad_enabled()) and on_cpu(x, norm.weight)


def scale_and_shift(norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand that a batch norm in eval mode is, C each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def at_slices(x: Tensor, stride: int) -> Tensor:
    """N x C x D x H x W -> N x D x H' x W' x C at the voxels where outputs of a convolution strided in plane stand."""
    return x[:, :, :, ::stride, ::stride].permute(0, 2, 3, 4, 1)


def convolution_folded(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A dense 3x3x3 convolution, strided in plane, channels side by side; N x C x D x H x W."""
    return F.conv3d(side_by_side(x), weight, bias, (1, stride, stride), 1)


def side_by_side(x: Tensor) -> Tensor:
    """The map in memory with its channels side by side, also where there is one channel only."""
    rows = x.permute(0, 2, 3, 4, 1).contiguous()
    return rows.view(*rows.shape[:4], -1).permute(0, 4, 1, 2, 3)


def separable_folded(
    parts: list[Tensor],
    depthwise: Tensor,
    shift: Tensor | None,
    pointwise: Tensor,
    bias: Tensor,
    stride: int,
    dilation: int,
    rectify: bool,
) -> Tensor:
    """Convolve each channel by itself, then mix the channels.

    Args:
        parts: maps N x C_i x D x H x W that follow one another along the channels; they are not joined.
        depthwise: ΣC_i x 1 x 3 x 3 x 3; padding is the dilation.
        shift: ΣC_i, added before a ReLU between the two; None for neither.
        pointwise: C' x ΣC_i.
        bias: C'.
        stride: in plane.
        dilation: along all axes. Taps of the kernel that lie outside of the map wherever it is put are left out.
        rectify: a ReLU at the end.

    Returns:
        N x C' x D x ceil(H / stride) x ceil(W / stride), channels side by side.
    """
    parts = [side_by_side(part) for part in parts]
    channels = [part.shape[1] for part in parts]
    samples, depth, (height, width) = len(parts[0]), parts[0].shape[2], parts[0].shape[3:]
    rows, columns = -(-height // stride), -(-width // stride)
    out = pointwise.new_empty(samples, depth, rows, columns, len(pointwise))
    slab = depth if dilation > 1 else max(1, _SLAB // (rows * columns * sum(channels)))
    mixing = [weight.t() for weight in pointwise.split(channels, dim=1)]
    kernels = depthwise.split(channels)
    shifts = [None] * len(parts) if shift is None else shift.split(channels)
    for sample in range(samples):
        for first in range(0, depth, slab):
            into = out[sample, first : first + slab].flatten(0, 2)
            for number, part in enumerate(parts):
                seen, padding = _around(part[sample : sample + 1], first, min(first + slab, depth), dilation)
                kernel, padding = _living(kernels[number], part.shape[2:], padding, dilation)
                steps = (1, stride, stride)
                between = F.conv3d(seen, kernel, shifts[number], steps, padding, dilation, channels[number])
                if shift is not None:
                    between.relu_()
                flat = between.permute(0, 2, 3, 4, 1).reshape(-1, channels[number])
                torch.addmm(into if number else bias, flat, mixing[number], out=into)
            if rectify:
                into.relu_()
    return out.permute(0, 4, 1, 2, 3)


def _around(x: Tensor, first: int, last: int, dilation: int) -> tuple[Tensor, list[int]]:
    """The slices that the convolution of slices ``first`` to ``last`` needs, and the padding that it then has."""
    if first == 0 and last == x.shape[2]:
        return x, [dilation] * 3
    before, after = max(dilation - first, 0), max(last + dilation - x.shape[2], 0)
    x = x[:, :, max(first - dilation, 0) : last + dilation]
    if before or after:
        x = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, before, after)).permute(0, 4, 1, 2, 3)
    return x, [0, dilation, dilation]


def _living(kernel: Tensor, size: Sequence[int], padding: list[int], dilation: int) -> tuple[Tensor, list[int]]:
    """The kernel without the taps that lie outside of a map of this size wherever it is put, and its padding."""
    for axis, length in enumerate(size):
        if dilation >= length:
            kernel = kernel.narrow(2 + axis, 1, 1)
    return kernel, [0 if dilation >= length else sides for length, sides in zip(size, padding, strict=True)]
