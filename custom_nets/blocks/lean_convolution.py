# SPDX-License-Identifier: Apache-2.0
"""ReLU, group norm and 3x3x3 convolution in a row, with one tensor kept for the backward pass in place of three.

Autograd keeps the input of a norm, the output of a ReLU and the input of a convolution. Here the input of the norm
alone is kept; what follows from it by a norm and a ReLU is computed again when the gradient needs it, which costs a
fraction of the convolution. While the network is scripted, traced, compiled for inference or exported, PyTorch's plain
operations run.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.modes import captured, recorded

_EPSILON = 1e-5
_ONES, _ZEROS = [1, 1, 1], [0, 0, 0]


def convolution_onto(x: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """Convolve ``x`` (kernel 3, padding 1, no bias) and add ``total``, without a tensor for the summand alone.

    Args:
        x: N x C x D x H x W.
        weight: C' x C x 3 x 3 x 3.
        total: N x C' x D x H x W.
    """
    if not torch.jit.is_scripting():  # TorchScript leaves out what stands under this very condition
        if recorded(x, weight):
            return _Convolution.apply(x, weight, None, False, total)
        if not captured():
            return _convolved(x, weight, None).add_(total)
    return F.conv3d(x, weight, padding=1).add_(total)


def relu_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve the rectified ``x``: conv(ReLU(x)), kernel 3, padding 1.

    Args:
        x: N x C x D x H x W; kept for the backward pass, its rectified copy is not.
        weight: C' x C x 3 x 3 x 3.
        bias: C' or None.
    """
    if not torch.jit.is_scripting():
        if recorded(x, weight):
            return _Convolution.apply(x, weight, bias, True, None)
        if not captured():
            return _convolved(F.relu(x), weight, bias)
    return F.conv3d(F.relu(x), weight, bias, padding=1)


def norm_relu_convolution(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Convolve the normed and rectified ``x``: conv(ReLU(GroupNorm(x))), kernel 3, padding 1, eps 1e-5.

    Args:
        x: N x C x D x H x W; kept for the backward pass.
        scale: of the norm, C.
        shift: of the norm, C.
        groups: of the norm.
        weight: C' x C x 3 x 3 x 3.
        bias: C' or None.
    """
    if not torch.jit.is_scripting():
        if recorded(x, weight):
            return _NormReLUConvolution.apply(x, scale, shift, groups, weight, bias)
        if not captured():
            return _convolved(_normed(x, scale, shift, groups)[0].relu_(), weight, bias)
    return F.conv3d(F.relu_(F.group_norm(x, groups, scale, shift, 1e-5)), weight, bias, padding=1)


def norm_relu_sum(x: Tensor, scale: Tensor, shift: Tensor, groups: int, identity: Tensor) -> Tensor:
    """Add ``identity`` onto the last channels of ReLU(GroupNorm(x)); no padded copy of the identity is made.

    Args:
        x: N x C x D x H x W; kept for the backward pass.
        scale: of the norm, C.
        shift: of the norm, C.
        groups: of the norm.
        identity: N x K x D x H x W, K <= C.
    """
    if not torch.jit.is_scripting():
        if recorded(x, scale):
            return _NormReLUSum.apply(x, scale, shift, groups, identity)
        if not captured():
            return _added(_normed(x, scale, shift, groups)[0].relu_(), identity)
    out = F.relu_(F.group_norm(x, groups, scale, shift, 1e-5))
    if torch.is_grad_enabled():  # a graph that is exported: autograd keeps the ReLU's result
        return out + F.pad(identity, [0, 0, 0, 0, 0, 0, out.shape[1] - identity.shape[1], 0])
    return _added(out, identity)


def norm_relu(x: Tensor, scale: Tensor, shift: Tensor, groups: int) -> Tensor:
    """ReLU(GroupNorm(x)), eps 1e-5.

    Args:
        x: N x C x D x H x W; kept for the backward pass, like the result.
        scale: of the norm, C.
        shift: of the norm, C.
        groups: of the norm.
    """
    if not torch.jit.is_scripting():
        if recorded(x, scale):
            return _NormReLU.apply(x, scale, shift, groups)
        if not captured():
            return _normed(x, scale, shift, groups)[0].relu_()
    return F.relu_(F.group_norm(x, groups, scale, shift, 1e-5))


def channels_last_on_cpu(x: Tensor) -> Tensor:
    """Lay channels side by side in memory on a CPU, where oneDNN then need not reorder; else return ``x``.

    3x3x3 convolutions of 32 channels take three quarters of their time this way (forward and backward, 64³ voxels).
    CUDA's group norm would copy it back. Other forms of the network keep the usual layout: PyTorch's own group norm is
    not to be trusted with this one, see `_moments`.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102
        if x.device.type == "cpu" and not captured():
            return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    return x


def _added(out: Tensor, identity: Tensor) -> Tensor:
    """Add ``identity`` onto the last channels of ``out``, in place."""
    out[:, out.shape[1] - identity.shape[1] :] += identity
    return out


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution itself; by oneDNN also where PyTorch takes a single small or one-channel volume elsewhere.

    There oneDNN needs a half (256 channels, 8³ voxels) to a fifth (1 channel, 64³) of the time.
    """
    plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if plain or x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return F.conv3d(x, weight, bias, padding=1)
    if not torch.backends.mkldnn.is_available():
        return F.conv3d(x, weight, bias, padding=1)
    return torch.ops.aten.mkldnn_convolution(x, weight, bias, _ONES, _ONES, _ONES, 1)


def _normed(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, moments: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm with its means and reciprocal deviations, those in ``moments`` where they are known.

    In float32 where the device has no kernel for mixed types.
    """
    x = _for_norm(x, scale)
    if x.dtype != torch.float32 or not _channels_last(x) or torch.compiler.is_compiling():
        return torch.native_group_norm(x, scale, shift, x.shape[0], x.shape[1], x[0, 0].numel(), groups, _EPSILON)
    mean, deviation = moments or _moments(x, groups)
    size = x.shape[1] // groups
    factor = deviation.repeat_interleave(size, dim=1) * scale
    summand = shift - mean.repeat_interleave(size, dim=1) * factor
    return torch.addcmul(_as_volume(summand), x, _as_volume(factor)), mean, deviation


def _moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation of each group, N x groups, of a channels-last ``x``.

    PyTorch's group norm adds up a group of this layout in one float32: its deviations are off by 1e-4 at 96³ voxels and
    by 2e-3 at 170³ (PyTorch 2.13). Here each slice is added up in float32 and the slices in float64.
    """
    rows = x.permute(0, 2, 3, 4, 1).flatten(2, 3)  # N x D x HW x C
    sums = rows.sum(2).double().sum(1).unflatten(1, (groups, -1)).sum(2)
    squares = torch.linalg.vector_norm(rows, dim=2).double().square().sum(1).unflatten(1, (groups, -1)).sum(2)
    count = x[0].numel() // groups
    mean = sums / count
    deviation = (squares / count - mean.square() + _EPSILON).rsqrt()
    return mean.float(), deviation.float()


def _as_volume(values: Tensor) -> Tensor:
    return values[:, :, None, None, None]


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


def _for_norm(x: Tensor, scale: Tensor) -> Tensor:
    return x if x.device.type == "cpu" else x.to(scale.dtype)


def _norm_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, deviation: Tensor, scale: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    values = _for_norm(x, scale)
    layout = torch.channels_last_3d if _channels_last(values) else torch.contiguous_format
    gradient = gradient.to(values.dtype).contiguous(memory_format=layout)
    by_x, by_scale, by_shift = torch.ops.aten.native_group_norm_backward(
        gradient, values, mean, deviation, scale, x.shape[0], x.shape[1], x[0, 0].numel(), groups, [True, True, True]
    )
    return by_x.to(x.dtype), by_scale, by_shift


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, has_bias: bool, needs_x: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients by input, weight and bias, computed in the type of ``gradient``, which is that of the forward pass."""
    if gradient.dtype == torch.bfloat16 and x.device.type == "cpu" and x.shape[2] == 2:
        gradient = gradient.float()  # oneDNN leaves the gradient by the weight unset at this depth (PyTorch 2.13)
    x, cast = x.to(gradient.dtype), weight.to(gradient.dtype)
    by_x, by_weight, by_bias = torch.ops.aten.convolution_backward(
        gradient, x, cast, [len(weight)], _ONES, _ONES, _ONES, False, _ZEROS, 1, [needs_x, True, has_bias]
    )
    return by_x, by_weight.to(weight.dtype), by_bias.to(weight.dtype) if has_bias else None


def _relu_backward_(gradient: Tensor, result: Tensor) -> Tensor:
    """Set ``gradient`` to 0, in place, where the ReLU's ``result`` (or its input) is not positive."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, result, 0, grad_input=gradient)


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rectify: bool, total: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.rectify, ctx.adds = bias is not None, rectify, total is not None
        out = _convolved(F.relu(x) if rectify else x, weight, bias)
        return out if total is None else out.add_(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        needs_x, by_total = ctx.needs_input_grad[0], gradient if ctx.adds else None
        activated = F.relu(x) if ctx.rectify else x
        by_x, by_weight, by_bias = _convolution_backward(gradient, activated, weight, ctx.has_bias, needs_x)
        if not needs_x:
            return None, by_weight, by_bias, None, by_total
        by_x = by_x.to(x.dtype)
        return _relu_backward_(by_x, x) if ctx.rectify else by_x, by_weight, by_bias, None, by_total


class _NormReLUConvolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        activated, mean, deviation = _normed(x, scale, shift, groups)
        ctx.save_for_backward(x, scale, shift, mean, deviation, weight)
        ctx.groups, ctx.has_bias = groups, bias is not None
        return _convolved(activated.relu_(), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, scale, shift, mean, deviation, weight = ctx.saved_tensors
        activated = _normed(x, scale, shift, ctx.groups, (mean, deviation))[0].relu_()
        by_activated, by_weight, by_bias = _convolution_backward(gradient, activated, weight, ctx.has_bias, True)
        by_normed = _relu_backward_(by_activated.to(activated.dtype), activated)
        del activated, by_activated
        by_x, by_scale, by_shift = _norm_backward(by_normed, x, mean, deviation, scale, ctx.groups)
        return by_x, by_scale, by_shift, None, by_weight, by_bias


class _NormReLUSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int, identity: Tensor) -> Tensor:
        out, mean, deviation = _normed(x, scale, shift, groups)
        ctx.save_for_backward(x, scale, shift, mean, deviation)
        ctx.groups, ctx.kept = groups, out.shape[1] - identity.shape[1]
        return _added(out.relu_(), identity)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, scale, shift, mean, deviation = ctx.saved_tensors
        by_normed = _normed(x, scale, shift, ctx.groups, (mean, deviation))[0]
        torch.ops.aten.threshold_backward.grad_input(gradient, by_normed, 0, grad_input=by_normed)
        by_x, by_scale, by_shift = _norm_backward(by_normed, x, mean, deviation, scale, ctx.groups)
        return by_x, by_scale, by_shift, None, gradient[:, ctx.kept :]


class _NormReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int) -> Tensor:
        out, mean, deviation = _normed(x, scale, shift, groups)
        ctx.save_for_backward(x, scale, mean, deviation, out.relu_())
        ctx.groups = groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, scale, mean, deviation, out = ctx.saved_tensors
        by_normed = torch.ops.aten.threshold_backward(gradient, out, 0)
        by_x, by_scale, by_shift = _norm_backward(by_normed, x, mean, deviation, scale, ctx.groups)
        return by_x, by_scale, by_shift, None
