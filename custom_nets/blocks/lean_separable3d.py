# SPDX-License-Identifier: Apache-2.0
"""The separable convolution: depthwise 3x3x3, then pointwise; what is between the two is not kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.lean_convolution2d import on_cpu
from custom_nets.blocks.lean_depthwise3d import depthwise_convolution, depthwise_transposed, kernel_gradient


def separable_convolution(
    parts: list[Tensor], depthwise: Tensor, pointwise: Tensor, bias: Tensor, stride: int = 1
) -> Tensor:
    """Convolve each channel by itself, padding 1, then mix the channels.

    Args:
        parts: one map, or several that follow one another along the channels, N x C_i x D x H x W; they are not joined.
        depthwise: ΣC_i x 1 x 3 x 3 x 3.
        pointwise: C' x ΣC_i x 1 x 1 x 1.
        bias: C'.
        stride: of the depthwise convolution, 1 or 2.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if all(on_cpu(part, depthwise) for part in parts):
            return _Separable.apply(depthwise, pointwise, bias, stride, *parts)
    x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return F.conv3d(F.conv3d(x, depthwise, stride=stride, padding=1, groups=x.shape[1]), pointwise, bias)


class _Separable(Function):
    @staticmethod
    def forward(ctx: Any, depthwise: Tensor, pointwise: Tensor, bias: Tensor, stride: int, *parts: Tensor) -> Tensor:
        parts = tuple(part.contiguous(memory_format=torch.channels_last_3d) for part in parts)
        ctx.save_for_backward(depthwise, pointwise, *parts)
        ctx.stride = stride
        total: Tensor | None = None
        for part, kernel, mixing in _with_kernels(parts, depthwise, pointwise):
            between = _side_by_side(depthwise_convolution(part, kernel, (stride, stride)))
            if total is None:
                total = F.linear(between, mixing, bias)
            else:
                total.flatten(0, 3).addmm_(between.flatten(0, 3), mixing.t())
        assert total is not None
        return total.permute(0, 4, 1, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        depthwise, pointwise, *parts = ctx.saved_tensors
        strides = (ctx.stride, ctx.stride)
        rows = _side_by_side(gradient).flatten(0, 3)
        by_parts: list[Tensor | None] = []
        by_kernel, by_pointwise = [], []
        for number, (part, kernel, mixing) in enumerate(_with_kernels(parts, depthwise, pointwise)):
            between = _side_by_side(depthwise_convolution(part, kernel, strides)).flatten(0, 3)
            by_pointwise.append(torch.mm(rows.t(), between))
            by_rows = torch.mm(rows, mixing, out=between)  # which is no longer needed
            by_between = by_rows.view(len(gradient), *gradient.shape[2:], -1).permute(0, 4, 1, 2, 3)
            by_kernel.append(kernel_gradient(part, by_between, kernel, strides))
            needed = ctx.needs_input_grad[4 + number]
            by_parts.append(depthwise_transposed(by_between, kernel, part, strides) if needed else None)
        by_mixing = torch.cat(by_pointwise, dim=1).view(pointwise.shape)
        return torch.cat(by_kernel), by_mixing, rows.sum(dim=0), None, *by_parts


def _with_kernels(
    parts: Sequence[Tensor], depthwise: Tensor, pointwise: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each part with its share of the two kernels."""
    channels = [part.shape[1] for part in parts]
    yield from zip(parts, depthwise.split(channels), pointwise.flatten(1).split(channels, dim=1), strict=True)


def _side_by_side(x: Tensor) -> Tensor:
    """N x C x D x H x W -> N x D x H x W x C, contiguous."""
    return x.permute(0, 2, 3, 4, 1).contiguous()
