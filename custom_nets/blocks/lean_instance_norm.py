# SPDX-License-Identifier: Apache-2.0
"""Instance norm without parameters, alone, before a PReLU, and before a PReLU, a sum and another PReLU.

Autograd keeps the input of the norm, that of each PReLU and the sum's. On a CPU at full precision the norm's input and
the identity that is added are all that is kept here; the rest is computed again when the gradient needs it. Maps lie
with their channels side by side and are worked through in pieces that stay in a cache. PyTorch's own norms are no
choice there: instance norm copies such maps, and batch norm adds up the squares of a large map with an error of 1e-3.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.lean_convolution2d import on_cpu

_EPSILON = 1e-5
#: Numbers in a piece of a map: a megabyte.
_PIECE = 262144
#: Voxels are worked on side by side until a row is so long: operations on rows of few channels are slow.
_ROW = 512


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each sample at mean 0 and variance 1, eps 1e-5; N x C x D x H x W."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if on_cpu(x, x):
            return _NormPReLU.apply(_channels_last(x), None, None, None)
    return F.instance_norm(x)


def norm_prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU of one slope behind an instance norm; N x C x D x H x W."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if on_cpu(x, slope):
            return _NormPReLU.apply(_channels_last(x), slope, None, None)
    return F.prelu(F.instance_norm(x), slope)


def norm_prelu_sum_prelu(x: Tensor, slope: Tensor | None, identity: Tensor, outer_slope: Tensor) -> Tensor:
    """PReLU(PReLU(norm(x)) + identity); without ``slope`` the inner PReLU is left out. Both N x C x D x H x W."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if on_cpu(x, outer_slope) and identity.dtype == x.dtype:
            return _NormPReLU.apply(_channels_last(x), slope, _channels_last(identity), outer_slope)
    inner = F.instance_norm(x) if slope is None else F.prelu(F.instance_norm(x), slope)
    return F.prelu(inner + identity, outer_slope)


class _NormPReLU(Function):
    """The three functions above; a slope that is None leaves its PReLU out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: Tensor | None, identity: Tensor | None, outer_slope: Tensor | None
    ) -> Tensor:
        out = torch.empty_like(x)
        means = torch.empty(x.shape[:2], dtype=x.dtype)
        deviations = torch.empty_like(means)  # their reciprocals
        inner, outer = _number(slope), _number(outer_slope)
        for n in range(len(x)):
            into = _rows(out, n)
            means[n], deviations[n] = ChannelMoments.of(x, n, into)
            deviation = _along(into, deviations[n])
            for result, *added in _pieces(into, *_given(identity, n)):
                _activated(result.mul_(deviation), inner)
                if added:
                    _activated(result.add_(added[0]), outer)
        ctx.save_for_backward(x, slope, identity, outer_slope, means, deviations)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, identity, outer_slope, means, deviations = ctx.saved_tensors
        gradient = _channels_last(gradient)
        by_x = torch.empty_like(x)
        by_identity = None if identity is None else torch.empty_like(x)
        inner, outer = _number(slope), _number(outer_slope)
        by_slope, by_outer = x.new_zeros(1), x.new_zeros(1)
        for n in range(len(x)):
            both = (_rows(x, n), _rows(gradient, n), _rows(by_x, n))
            mean, deviation = _along(both[0], means[n]), _along(both[0], deviations[n])
            total, along = torch.zeros_like(mean), torch.zeros_like(mean)
            for piece, by_out, result, *added in _pieces(*both, *_given(identity, n), *_given(by_identity, n)):
                normed = (piece - mean).mul_(deviation)
                if added:
                    summed = _activated(normed.clone(), inner).add_(added[0])
                    by_outer += _by_slope(by_out, summed)
                    by_out = added[1].copy_(torch.ops.aten.leaky_relu_backward(by_out, summed, outer, False))
                if inner is None:
                    result.copy_(by_out)
                else:
                    by_slope += _by_slope(by_out, normed)
                    result.copy_(torch.ops.aten.leaky_relu_backward(by_out, normed, inner, False))
                total += result.sum(dim=0)
                along += normed.mul_(result).sum(dim=0)
            shift = _along(mean, _mean(total, x))
            along = deviation * _along(mean, _mean(along, x))
            for piece, result in _pieces(both[0], both[2]):
                result.sub_(shift).sub_((piece - mean).mul_(along)).mul_(deviation)
        slopes = [None if of is None else by for of, by in ((slope, by_slope), (outer_slope, by_outer))]
        return by_x, slopes[0], by_identity, slopes[1]


class ChannelMoments(NamedTuple):
    """Mean and reciprocal deviation of each channel of a sample."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor, sample: int, centred: Tensor | None = None) -> ChannelMoments:
        """Those of a channels-last map, N x C x D x H x W.

        Args:
            x: the map.
            sample: which one.
            centred: takes the sample less its means, in the map's rows; None keeps a piece of it only.
        """
        rows = _rows(x, sample)
        mean = _mean(rows.sum(dim=0), x)
        means = _along(rows, mean)
        squares = torch.zeros_like(means)
        for number, (piece,) in enumerate(_pieces(rows)):
            result = torch.empty_like(piece) if centred is None else centred.narrow(0, number * _step(rows), len(piece))
            torch.sub(piece, means, out=result)
            squares += (result * result).sum(dim=0)
        return cls(mean, (_mean(squares, x) + _EPSILON).rsqrt())


def normed_(planes: Tensor, moments: ChannelMoments, slope: float | None) -> Tensor:
    """Norm planes, ... x C and contiguous, in place, with a PReLU behind if there is a slope."""
    rows = _matrix(planes.view(-1), planes.shape[-1])
    rows.sub_(_along(rows, moments.mean)).mul_(_along(rows, moments.deviation))
    _activated(rows, slope)
    return planes


def norm_prelu_sum_prelu_(x: Tensor, slope: float | None, identity: Tensor, outer_slope: float) -> Tensor:
    """PReLU(PReLU(norm(x)) + norm(identity)), written over both; channels-last, 1 x C x D x H x W."""
    both = [(_rows(one, 0), ChannelMoments.of(one, 0)) for one in (x, identity)]
    for piece, added in _pieces(*(rows for rows, _ in both)):
        for part, (_, moments), number in zip((piece, added), both, (slope, None), strict=True):
            part.sub_(_along(part, moments.mean)).mul_(_along(part, moments.deviation))
            _activated(part, number)
        _activated(piece.add_(added), outer_slope)
    return x


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _rows(x: Tensor, sample: int) -> Tensor:
    """A sample as a matrix: the channels of a voxel, and of some voxels more, make a row."""
    return _matrix(x[sample].permute(1, 2, 3, 0).flatten(), x.shape[1])


def _matrix(numbers: Tensor, channels: int) -> Tensor:
    voxels = math.gcd(numbers.numel() // channels, 2 ** max((_ROW // channels).bit_length() - 1, 0))
    return numbers.view(-1, voxels * channels)


def _mean(sums: Tensor, x: Tensor) -> Tensor:
    """The mean of each channel of a map, from the sums over its rows."""
    return sums.view(-1, x.shape[1]).sum(dim=0) / (x.shape[2:].numel())


def _along(row: Tensor, channels: Tensor) -> Tensor:
    """A number for each channel, as often as a row has voxels."""
    return channels.repeat(row.shape[-1] // len(channels))


def _given(x: Tensor | None, sample: int) -> list[Tensor]:
    return [] if x is None else [_rows(x, sample)]


def _pieces(*maps: Tensor) -> list[tuple[Tensor, ...]]:
    """The same voxels of each map, a piece at a time."""
    return list(zip(*(map_.split(_step(maps[0])) for map_ in maps), strict=True))


def _step(rows: Tensor) -> int:
    """Rows in a piece."""
    return max(_PIECE // rows.shape[1], 1)


def _number(slope: Tensor | None) -> float | None:
    return None if slope is None else slope.detach().item()


def _activated(x: Tensor, slope: float | None) -> Tensor:
    return x if slope is None else F.leaky_relu_(x, slope)


def _by_slope(gradient: Tensor, x: Tensor) -> Tensor:
    """A piece's part of the gradient by a PReLU's slope, whose input was x."""
    return (gradient * x.clamp(max=0)).sum()
