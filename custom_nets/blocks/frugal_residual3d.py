# SPDX-License-Identifier: Apache-2.0
"""The residual unit of separable convolutions for inference on a CPU, in two maps of the result's size.

The units' own functions hold up to five maps of that size, and upsampled, gated and joined inputs besides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from custom_nets.blocks.frugal_separable3d import Separable, separable_planes
from custom_nets.blocks.lean_instance_norm import norm_prelu_sum_prelu_
from custom_nets.blocks.plane_sources import PlaneSource, normed
from custom_nets.blocks.pointwise import present
from custom_nets.blocks.separable3d import ResUnit, SepUnit


def suits(unit: object) -> bool:
    """Whether a unit is one that `residual_planes` computes: of separable convolutions, with a shortcut of its own."""
    return isinstance(unit, ResUnit) and isinstance(unit.unit1, SepUnit) and unit.shortcut is not None


def residual_planes(unit: ResUnit, sources: Sequence[PlaneSource], into: Tensor | None = None) -> Tensor:
    """Apply a unit that `suits`, to volumes that follow one another along the channels; the result to the bit.

    Args:
        unit: of any stride.
        sources: 1 x C_i x D x H x W, each.
        into: a map that nothing else needs, channels side by side, which takes the result where it has its shape;
            with stride 1 it may be what the sources read.

    Returns:
        1 x C' x ceil(D / stride) x ceil(H / stride) x ceil(W / stride), channels side by side.
    """
    first, second, shortcut = unit.unit1, unit.unit2, unit.shortcut
    assert isinstance(first, SepUnit) and isinstance(second, SepUnit) and shortcut is not None
    assert first.prelu is not None and second.prelu is not None
    size = [-(-length // unit.stride) for length in sources[0].size]
    shape = [1, second.pointwise.out_channels, *size]
    like = unit.prelu.weight
    middle = _map(shape, like)
    if into is not None and list(into.shape) == shape and into.is_contiguous(memory_format=torch.channels_last_3d):
        middle = into
    identity = _map(shape, like)
    separable_planes(sources, _weights(first), unit.stride, middle, shortcut.weight, identity)
    separable_planes([normed(middle, first.prelu.weight)], _weights(second), 1, middle)
    return norm_prelu_sum_prelu_(middle, second.prelu.weight.item(), identity, unit.prelu.weight.item())


def _map(shape: Sequence[int], like: Tensor) -> Tensor:
    sample, channels, *size = shape
    return like.new_empty(sample, *size, channels).permute(0, 4, 1, 2, 3)


def _weights(unit: SepUnit) -> Separable:
    return Separable(unit.depthwise.weight, unit.pointwise.weight, present(unit.pointwise.bias))
