# SPDX-License-Identifier: Apache-2.0
"""Convolution of one map or several joined ones on a CPU, with norm and ReLU before or ReLU behind.

Autograd keeps the input of a norm, the output of a ReLU, the concatenation of maps and the input of a convolution. Here
each map is kept once, as it was made; what follows from it by a norm and a ReLU is computed again, chunk by chunk,
when the gradient needs it. The convolutions are those of `custom_nets.blocks.winograd`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.lean_norm2d import ChunkSums, Normed, NormGradient, moments, side_by_side
from custom_nets.blocks.modes import captured, recorded
from custom_nets.blocks.winograd import ChunkAccess, Size, convolve, kernel_gradient, transformed_kernel

#: From these numbers on, fewer multiplications pay for the transforms (measured on a CPU).
_CHANNELS_THAT_PAY, _VOXELS_THAT_PAY = 32, 512
#: Up to this part of the map may be computed where tiles stand over.
_WASTE_THAT_PAYS = 1.25


def on_cpu(x: Tensor, weight: Tensor) -> bool:
    """True on a CPU at full precision, unless another form of the network is being made."""
    if x.device.type != "cpu" or captured() or torch.is_autocast_enabled("cpu"):
        return False
    return x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)


def is_lean(x: Tensor, weight: Tensor) -> bool:
    """True in a training step on a CPU at full precision; else PyTorch's plain operations run."""
    return on_cpu(x, weight) and recorded(x, weight)


def pays(x: Tensor, weight: Tensor, dilation: int = 1) -> bool:
    """True for 3x3 kernels and sizes for which the functions below are faster than the plain operations."""
    size = Size(x.shape[0], x.shape[2], x.shape[3], dilation)
    if size.tile_rows * size.tile_columns * size.tile**2 > _WASTE_THAT_PAYS * size.height * size.width:
        return False
    if weight.shape[2:] != (3, 3) or min(weight.shape[:2]) < _CHANNELS_THAT_PAY:
        return False
    return x.shape[0] * x.shape[2] * x.shape[3] >= _VOXELS_THAT_PAY


def convolution(
    parts: list[Tensor], weight: Tensor, bias: Tensor | None, dilation: int = 1, rectify: bool = False
) -> Tensor:
    """Convolve the concatenation of maps, which is not made; kernel 3, padding that keeps the size.

    Args:
        parts: maps N x C_i x H x W.
        weight: C' x ΣC_i x 3 x 3.
        bias: C' or None.
        dilation: of the kernel.
        rectify: with a ReLU behind.
    """
    return _Convolution.apply(weight, bias, dilation, rectify, *parts)


def norm_relu_convolution(
    x: Tensor, norm: nn.BatchNorm2d, positions: int, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Convolve ReLU(BatchNorm(x)), the norm in train mode; kernel 3, padding 1.

    Args:
        x: (positions · B) x C x H x W; kept for the backward pass.
        norm: see `custom_nets.blocks.lean_norm2d.norm_relu`.
        positions: number of positions.
        weight: C' x C x 3 x 3.
        bias: C' or None.
    """
    return _NormReLUConvolution.apply(x, norm.weight, norm.bias, *moments(x, norm, positions), weight, bias)


def split(x: Tensor, parts: int) -> list[Tensor]:
    """Split a batch into equal parts, whose gradients are joined without a copy where `convolution` made them."""
    return list(_Split.apply(x, parts))


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, dilation: int, rectify: bool, *parts: Tensor) -> Tensor:
        maps = [side_by_side(part) for part in parts]
        out = _convolved(_joined(maps), _size(maps[0], dilation), weight, bias, rectify)
        ctx.save_for_backward(weight, out if rectify else None, *parts)
        ctx.has_bias, ctx.dilation = bias is not None, dilation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        weight, out, *parts = ctx.saved_tensors
        maps = [side_by_side(part) for part in parts]
        size = _size(maps[0], ctx.dilation)
        read = _gradient(gradient, out)
        by_maps: list[Tensor | None] = [None] * len(maps)
        if any(ctx.needs_input_grad[4:]):
            by_maps = [by_map.permute(0, 3, 1, 2) for by_map in _input_gradients(read, size, weight, maps)]
        by_weight, by_bias = _weight_gradients(_joined(maps), read, size, weight, ctx.has_bias)
        return by_weight, by_bias, None, None, *by_maps


class _NormReLUConvolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        mean: Tensor,
        deviation: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift, mean, deviation, weight)
        ctx.has_bias = bias is not None
        normed = Normed(side_by_side(x), scale, shift, mean, deviation)
        return _convolved(normed.rectified, normed.size, weight, bias, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, *norm, weight = ctx.saved_tensors
        normed = Normed(side_by_side(x), *norm)
        read = _gradient(gradient, None)
        by_weight, by_bias = _weight_gradients(normed.rectified, read, normed.size, weight, ctx.has_bias)
        back = NormGradient(normed)
        convolve(read, back.add, normed.size, transformed_kernel(weight), transposed=True)
        return *back.finish(), None, None, by_weight, by_bias


class _Split(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.chunk(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _rejoined(list(gradients)), None


def _rejoined(parts: list[Tensor]) -> Tensor:
    """Concatenate; without a copy where the parts lie behind one another in one tensor, channels side by side."""
    first = parts[0]
    n, channels, height, width = first.shape
    step = first.numel() * first.element_size()
    for number, part in enumerate(parts):
        behind = _storage(part) == _storage(first) and part.data_ptr() == first.data_ptr() + number * step
        if not behind or not part.is_contiguous(memory_format=torch.channels_last):
            return torch.cat(parts)
    strides = (channels * height * width, 1, width * channels, channels)
    return first.as_strided((len(parts) * n, *first.shape[1:]), strides)


def _size(x: Tensor, dilation: int) -> Size:
    return Size(x.shape[0], x.shape[1], x.shape[2], dilation)


def _joined(maps: list[Tensor]) -> ChunkAccess:
    def read(images: slice, rows: slice, out: Tensor) -> None:
        for x, channels in zip(maps, out.split([x.shape[3] for x in maps], dim=3), strict=True):
            channels.copy_(x[images, rows])

    return read


def _gradient(gradient: Tensor, rectified: Tensor | None) -> ChunkAccess:
    """Reads the gradient, through the ReLU whose result is given."""
    gradient = side_by_side(gradient)
    if rectified is None:
        return _joined([gradient])
    result = side_by_side(rectified)

    def read(images: slice, rows: slice, out: Tensor) -> None:
        torch.ops.aten.threshold_backward.grad_input(gradient[images, rows], result[images, rows], 0, grad_input=out)

    return read


def _convolved(read: ChunkAccess, size: Size, weight: Tensor, bias: Tensor | None, rectify: bool) -> Tensor:
    out = weight.new_empty(size.images, size.height, size.width, len(weight))

    def write(images: slice, rows: slice, values: Tensor) -> None:
        if rectify:
            torch.clamp_min(values if bias is None else values.add_(bias), 0, out=out[images, rows])
        elif bias is None:
            out[images, rows] = values
        else:
            torch.add(values, bias, out=out[images, rows])

    convolve(read, write, size, transformed_kernel(weight))
    return out.permute(0, 3, 1, 2)


def _input_gradients(read: ChunkAccess, size: Size, weight: Tensor, maps: list[Tensor]) -> list[Tensor]:
    by_maps = _empty_like(maps)

    def write(images: slice, rows: slice, values: Tensor) -> None:
        for by_map, part in zip(by_maps, values.split([x.shape[3] for x in maps], dim=3), strict=True):
            by_map[images, rows] = part

    convolve(read, write, size, transformed_kernel(weight), transposed=True)
    return by_maps


def _weight_gradients(
    read: ChunkAccess, read_gradient: ChunkAccess, size: Size, weight: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor | None]:
    if not has_bias:
        return kernel_gradient(read, read_gradient, size, weight), None
    sums = ChunkSums()

    def read_and_sum(images: slice, rows: slice, out: Tensor) -> None:
        read_gradient(images, rows, out)
        sums.add(images, rows, out)

    by_weight = kernel_gradient(read, read_and_sum, size, weight)
    return by_weight, sums.of_images().sum(0).to(weight.dtype)


def _empty_like(maps: list[Tensor]) -> list[Tensor]:
    """Empty maps, those that are parts of one tensor again as parts of one."""
    count = Counter(map(_storage, maps))
    shared = {_storage(x): x.new_empty(count[_storage(x)] * len(x), *x.shape[1:]) for x in maps}
    parts = {storage: iter(x.chunk(count[storage])) for storage, x in shared.items()}
    return [next(parts[_storage(x)]) for x in maps]


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
