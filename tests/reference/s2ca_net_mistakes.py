# SPDX-License-Identifier: Apache-2.0
"""One mistake each in the plain S2CA-Net: misreadings of the paper that the golden numbers must tell apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import s2ca_net as reference
from tests.s2ca_net_files import StateDict

Mistake = Callable[[pytest.MonkeyPatch], Any]


def instead(name: str, owner: Any = reference) -> Callable[[Callable[..., Tensor]], Mistake]:
    """Put a function in the place of one of the transcription's, which it gets first."""

    def decorate(function: Callable[..., Tensor]) -> Mistake:
        def mistake(patch: pytest.MonkeyPatch) -> None:
            patch.setattr(owner, name, partial(function, getattr(owner, name)))

        mistake.__name__ = function.__name__
        return mistake

    return decorate


def by_grid_sample(x: Tensor, offsets: Tensor, padding: str) -> Tensor:
    base = torch.meshgrid(*[torch.arange(float(length)) for length in x.shape[2:]], indexing="ij")
    taps = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
    places = offsets.unflatten(1, (3, 27)) + torch.stack(base)[:, None] + taps.t()[:, :, None, None, None]
    size = torch.tensor(x.shape[2:]).view(3, 1, 1, 1, 1)
    grid = (places * 2 / (size - 1) - 1).flip(1).movedim(1, -1).flatten(1, 2)
    read = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)
    return read.unflatten(2, (27, -1))


@instead("sampled")
def zeros_beyond_the_border(_: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    return by_grid_sample(x, offsets, "zeros")


@instead("sampled")
def last_voxel_beyond_the_border(_: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    return by_grid_sample(x, offsets, "border")


@instead("sampled")
def no_offsets(right: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    return right(x, torch.zeros_like(offsets))


@instead("sampled")
def offsets_of_the_last_axis_first(right: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    return right(x, offsets.unflatten(1, (3, 27)).flip(1).flatten(1, 2))


@instead("sampled")
def offsets_tap_by_tap(right: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    return right(x, offsets.unflatten(1, (27, 3)).transpose(1, 2).flatten(1, 2))


@instead("sampled")
def taps_with_the_first_axis_fastest(right: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    order = torch.arange(27).view(3, 3, 3).permute(2, 1, 0).flatten()
    back = offsets.unflatten(1, (3, 27))[:, :, order].flatten(1, 2)
    return right(x, back)[:, :, order]


@instead("sampled")
def kernel_with_the_channel_fastest(right: Any, x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    out = right(x, offsets)
    return out.transpose(1, 2).reshape(out.shape)


@instead("deformable")
def offsets_not_modulated(right: Any, p: StateDict, x: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "spatial_gate", lambda p, x: 1)
        return right(p, x)


@instead("deformable")
def samples_modulated_too(right: Any, p: StateDict, x: Tensor) -> Tensor:
    offsets = reference.convolution(p, "offset_conv_kernel", reference.convolution(p, "conv_se", x), padding=1)
    return right(p, x) * reference.spatial_gate(reference.part(p, "att"), offsets)


@instead("deformable")
def shortcut_around_the_deformable_convolution(right: Any, p: StateDict, x: Tensor) -> Tensor:
    return x + right(p, x)


@instead("shift")
def reverse_shift_not_reversed(right: Any, x: Tensor, axis: int, reverse: bool = False) -> Tensor:
    return right(x, axis)


@instead("shift")
def shifts_the_other_way(right: Any, x: Tensor, axis: int, reverse: bool = False) -> Tensor:
    return right(x, axis, not reverse)


@instead("shift")
def axes_of_the_shift_exchanged(right: Any, x: Tensor, axis: int, reverse: bool = False) -> Tensor:
    return right(x, 5 - axis, reverse)


@instead("shift")
def shifts_wrap_around(_: Any, x: Tensor, axis: int, reverse: bool = False) -> Tensor:
    groups = x.split(-(-x.shape[1] // 5), dim=1)
    step = -1 if reverse else 1
    return torch.cat([group.roll(step * (number - 2), axis) for number, group in enumerate(groups)], dim=1)


@instead("encoder")
def encoders_global_branch_sees_the_result(right: Any, p: StateDict, x: Tensor) -> list[Tensor]:
    unit = reference.res_unit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "res_unit", lambda *inputs: (unit(*inputs)[1],) * 2)
        return right(p, x)


@instead("decoder_unit")
def decoders_global_branch_sees_the_middle(right: Any, p: StateDict, level: int, x: Tensor) -> Tensor:
    if level != 3:
        return right(p, level, x)
    middle, out = reference.res_unit(reference.part(p, "conv3_1"), x)
    return out + reference.global_branch(reference.part(p, "former3_1"), middle)


@instead("former_block")
def no_layer_scale(right: Any, p: StateDict, x: Tensor) -> Tensor:
    return right(p | {name: torch.ones_like(p[name]) for name in ("layer_scale_1", "layer_scale_2")}, x)


@instead("former_block")
def layer_scale_zero(_: Any, p: StateDict, x: Tensor) -> Tensor:
    return x


@instead("global_branch")
def folded_with_the_channel_fastest(right: Any, p: StateDict, x: Tensor) -> Tensor:
    channels = x.shape[1]
    down = p["conv1x1_down.weight"].unflatten(1, (-1, channels)).transpose(1, 2).flatten(1, 2)
    up, bias = (p[f"conv1x1_up.{n}"].unflatten(0, (-1, channels)).transpose(0, 1) for n in ("weight", "bias"))
    changed = {"conv1x1_down.weight": down, "conv1x1_up.weight": up.flatten(0, 1), "conv1x1_up.bias": bias.flatten()}
    return right(p | changed, x)


@instead("cbam")
def no_spatial_attention(right: Any, p: StateDict, x: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "spatial_gate", lambda p, x: 1)
        return right(p, x)


@instead("context")
def no_addition_of_the_deepest_level(right: Any, p: StateDict, levels: list[Tensor], swapped: bool) -> Tensor:
    return right(p, levels, swapped) - levels[3]


@instead("gate")
def instance_norm_in_the_gates(right: Any, p: StateDict, g: Tensor, x: Tensor, training: bool) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "batch_norm", lambda p, x, training: F.instance_norm(x))
        return right(p, g, x)


@instead("up")
def aligned_corners(_: Any, x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


@instead("gelu", F)
def approximate_gelu(right: Any, x: Tensor) -> Tensor:
    return right(x, approximate="tanh")


@instead("prelu", F)
def slopes_as_initialised(right: Any, x: Tensor, weight: Tensor) -> Tensor:
    return right(x, torch.full_like(weight, 0.25))


@instead("res_unit")
def shortcut_without_norm(_: Any, p: StateDict, x: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    middle = reference.sep_unit(reference.part(p, "conv1"), x, stride)
    out = reference.sep_unit(reference.part(p, "conv2"), middle)
    if out.shape != x.shape:
        x = reference.convolution(p, "identity_mapping.conv", x, stride)
    return middle, F.prelu(out + x, p["act.weight"])


@instead("group_norm")
def norms_of_one_channel_a_group(_: Any, p: StateDict, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, x.shape[1], p[f"{name}.weight"], p[f"{name}.bias"])
