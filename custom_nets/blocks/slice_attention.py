# SPDX-License-Identifier: Apache-2.0
"""Slice-wise attention (SA) and the recurrent slice-wise attention (RSA) block.

Paper: Zhang et al., "RSANet: Recurrent Slice-wise Attention Network for Multiple Sclerosis Lesion Segmentation",
MICCAI 2019, doi 10.1007/978-3-030-32248-9_46. The block follows the published code, which differs from the paper's
figure in the order of the directions (coronal, sagittal, axial) and in the scalars β.

A direction is an axis of the array N x C x D x H x W, whatever the anatomy along it; the names hold for arrays stored
superior-inferior, anterior-posterior, left-right. For an image in RAS order "axial" attends over sagittal slices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from custom_nets.blocks.derived import DerivedWeights
from custom_nets.blocks.pointwise import PointwiseConvolution, present, project
from custom_nets.blocks.slice_products import is_recorded, mix_pieces, pieces, pieces_channels_last, softmax_of_products

#: Axis of N x C x D x H x W whose slices attend to each other, by the name of the direction; the published order.
SLICE_AXES: dict[str, int] = {"coronal": 3, "sagittal": 4, "axial": 2}


def slice_attention_map(query: Tensor, key: Tensor, axis: int, scaled: bool = False) -> Tensor:
    """Attention of every slice of ``axis`` (rows) over all slices (columns): softmax_j of S_ij = <θ_i, φ_j>.

    Sums up to millions of products and is not scaled, so S overflows float16 and bfloat16 rounds it by whole units:
    the product and the softmax are formed in the precision given, outside autocast. Hand it float32 or float64.

    Args:
        query: θ, N x C x D x H x W.
        key: φ, the same shape.
        axis: 2, 3 or 4.
        scaled: divide S by √K. The published block does not; a network trained one way is no network of the other.

    Returns:
        N x L x L, every row sums to 1.
    """
    with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        return softmax_of_products(pieces(query, axis), pieces(key, axis), scaled)


def mix_slices(attention: Tensor, value: Tensor, axis: int) -> Tensor:
    """Replace slice i of ``value`` by Σ_j A_ij value_j; shape N x C x D x H x W is kept."""
    with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        if axis == 4:  # the transposed product, whose result lies as value does
            return torch.bmm(value.flatten(1, 3), attention.transpose(1, 2)).view(value.shape)
        return mix_pieces(attention, pieces(value, axis)).view(value.shape)


def slice_attention(query: Tensor, key: Tensor, value: Tensor, axis: int, scaled: bool = False) -> Tensor:
    """SA along ``axis``: o_i = Σ_j softmax_j(<θ_i, φ_j>) g_j (paper section 2; no parameters, no residual).

    Args:
        query: θ, N x C x D x H x W, float32 or float64.
        key: φ, the same shape.
        value: g, the same shape.
        axis: 2, 3 or 4.
        scaled: see :func:`slice_attention_map`.

    Returns:
        N x C x D x H x W.
    """
    return mix_slices(slice_attention_map(query, key, axis, scaled), value, axis)


def add_attended(x: Tensor, attention: Tensor, axis: int, weight: Tensor, bias: Tensor) -> Tensor:
    """``x`` + W (A x) + b: the slices of ``x`` mixed along ``axis``, then projected, then added."""
    weights, mixed = weight.flatten(1).expand(x.shape[0], -1, -1), mix_slices(attention, x, axis).flatten(2)
    return torch.baddbmm(bias.unsqueeze(1), weights, mixed).add_(x.flatten(2)).unflatten(2, x.shape[2:])


def fold(theta_weight: Tensor, theta_bias: Tensor, phi_weight: Tensor) -> tuple[Tensor, Tensor]:
    """M = W_φᵀW_θ and u = W_φᵀb_θ, of weights C x C x 1 x 1 x 1 and a bias C; see :class:`RSABlock`."""
    transposed = phi_weight.flatten(1).t()
    return transposed @ theta_weight.flatten(1), transposed @ theta_bias


class RSABlock(nn.Module):
    """Recurrent slice-wise attention: x^t = x^(t-1) + β_t SA_t(θ(x^(t-1)), φ(x^(t-1)), g(x^(t-1))).

    One set of projections serves all directions and is applied anew to the current x before each. β starts at 0, so
    the block is the identity when it is put into a network. With one direction it is the paper's SA block. The block
    computes in float32 (float64 for float64 input) whatever autocast says, and returns the dtype that it was given.

    Rows of A sum to 1, so A(W_g x + b_g) = W_g(A x) + b_g: g is projected behind the mixing, and A x, which costs far
    less than a projection, is mixed again in the backward pass in place of being kept. In eval mode without gradients
    the block takes the folded form, the same function with two products in place of three: up to constants within a
    row of the softmax <θ_i, φ_j> = <M x_i + u, x_j> with M = W_φᵀW_θ, u = W_φᵀb_θ (the bias of φ cancels). M and u stay
    until the weights change, and a direction whose β is exactly 0 is skipped.

    Args:
        channels: C of the feature map; the projections keep it.
        directions: ordered choice out of "coronal" (dim 3), "sagittal" (dim 4) and "axial" (dim 2).
        scaled: divide the scores by √K, which makes the softmax independent of the patch size. Another function than
            the published one: train with it from the start.
        recompute: keep only the input of each direction for the backward pass and compute the rest again.

    Shape:
        N x C x D x H x W -> the same, any D, H, W of at least 1.

    Raises:
        ValueError: for no direction, an unknown or a repeated one.
    """

    def __init__(
        self,
        channels: int,
        directions: tuple[str, ...] | list[str] = ("coronal", "sagittal", "axial"),
        scaled: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if not directions or len(set(directions)) < len(directions) or not set(directions) <= SLICE_AXES.keys():
            raise ValueError(
                f"directions {list(directions)}: name each of {list(SLICE_AXES)} at most once, at least one."
            )
        self.directions = list(directions)
        self.axes = tuple(SLICE_AXES[direction] for direction in directions)
        self.scaled = scaled
        self.recompute = recompute
        self.theta_conv = PointwiseConvolution(channels, channels)
        self.phi_conv = PointwiseConvolution(channels, channels)
        self.g_conv = PointwiseConvolution(channels, channels)
        self.betas = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in directions])
        self._fold = DerivedWeights(fold)

    def forward(self, x: Tensor) -> Tensor:
        """Pass ``x`` through all directions; see the class."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            out = x.to(dtype)
            if self.training or torch.is_grad_enabled():
                out = self._forward_published(out)
            else:
                out = self._forward_folded(out)
        return out.to(x.dtype)

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the L x L attention of every direction, by name, for the input ``x`` of the block (N x L x L)."""
        maps = {}
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            for direction, axis, beta in zip(self.directions, self.axes, self.betas, strict=True):
                maps[direction] = self._attention(x, axis)
                x = self._add_attended(x, maps[direction], beta, axis)
        return maps

    def _forward_published(self, x: Tensor) -> Tensor:
        for axis, beta in zip(self.axes, self.betas):  # noqa: B905  TorchScript knows no strict=
            if not torch.jit.is_scripting() and self.recompute and torch.is_grad_enabled():
                x = checkpoint(self._direction, x, beta, axis, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._direction(x, beta, axis)
        return x

    def _direction(self, x: Tensor, beta: Tensor, axis: int) -> Tensor:
        return self._add_attended(x, self._attention(x, axis), beta, axis)

    def _attention(self, x: Tensor, axis: int) -> Tensor:
        """As published, with θ and φ by one product."""
        weight = torch.cat([self.theta_conv.weight, self.phi_conv.weight]).to(x.dtype)
        bias = torch.cat([present(self.theta_conv.bias), present(self.phi_conv.bias)]).to(x.dtype)
        theta, phi = project(weight, bias, x).chunk(2, dim=1)
        return slice_attention_map(theta, phi, axis, self.scaled)

    def _add_attended(self, x: Tensor, attention: Tensor, beta: Tensor, axis: int) -> Tensor:
        """Return x + β (W_g (A x) + b_g); A x is made again in the backward pass and not kept."""
        attention = beta * attention
        weight, bias = self.g_conv.weight.to(x.dtype), beta * present(self.g_conv.bias).to(x.dtype)
        if not torch.jit.is_scripting() and torch.is_grad_enabled() and not (self.recompute or is_recorded()):
            return checkpoint(
                add_attended, x, attention, axis, weight, bias, use_reentrant=False, preserve_rng_state=False
            )
        return add_attended(x, attention, axis, weight, bias)

    def _forward_folded(self, x: Tensor) -> Tensor:
        """With the channels last, N x D x H x W x C, where the slices of every axis are views of long pieces."""
        weight, bias = self._folded_weights(x.dtype)
        g_weight, g_bias = self.g_conv.weight.to(x.dtype).flatten(1), present(self.g_conv.bias).to(x.dtype)
        x = x.movedim(1, 4).clone(memory_format=torch.contiguous_format)  # ours to write to
        for axis, beta in zip(self.axes, self.betas):  # noqa: B905
            if is_recorded() or bool(beta != 0):  # a recorded graph must hold for every β
                values = pieces_channels_last(x, axis)
                query = F.linear(x, weight, bias).view(values.shape)
                attention = beta * softmax_of_products(query, values, self.scaled)
                mixed = mix_pieces(attention, values).view(x.shape)
                x.flatten(0, 3).addmm_(mixed.flatten(0, 3), g_weight.t())
                x.add_(beta * g_bias)
        return x.movedim(4, 1).contiguous()

    def _folded_weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        theta_weight, theta_bias = self.theta_conv.weight.to(dtype), present(self.theta_conv.bias).to(dtype)
        phi_weight = self.phi_conv.weight.to(dtype)
        if not torch.jit.is_scripting() and not is_recorded():
            weight, bias = self._fold(theta_weight, theta_bias, phi_weight)
            return weight, bias
        return fold(theta_weight, theta_bias, phi_weight)
