# SPDX-License-Identifier: Apache-2.0
"""Intensities of slices: each on its own to 8 bits, then to a network's input."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_nets.errors import InputError

#: How the darkest and the brightest value of a slice are found.
INTENSITY_RULES = ("minmax", "percentile", "none")

#: Of u / 255 over the slices of S2aNet's training set, as published; one value for every channel.
MEAN, STD = 0.196, 0.205

_TAIL = 0.005  # share of the pixels that "percentile" leaves out at either end


def scale_slices(volume: Tensor, rule: str = "minmax") -> Tensor:
    """Scale each slice on its own to 8 bits: u = truncate(255 (v - min) / (max - min)), as S2aNet's preparation does.

    A constant slice becomes 0, as does one whose limits are NaN or infinite.

    Args:
        volume: ... x H x W, any real type, on any device.
        rule: ``minmax``, as published; ``percentile`` takes the 0.5th and the 99.5th percentile for minimum and maximum
            and clips to them, so that a single hot pixel does not darken its slice; ``none`` takes 0 to 255 as it is,
            for what was scaled before.

    Returns:
        The same shape, uint8, 0 to 255, without metadata.

    Raises:
        InputError: for another rule.
    """
    check_intensity_rule(rule)
    if rule == "none":
        return torch.as_tensor(volume).detach().as_subclass(Tensor).clamp(0, 255).to(torch.uint8)
    values = torch.as_tensor(volume).detach().as_subclass(Tensor).double()  # exact for integers, as published
    low, high = _limits(values.flatten(-2), rule)
    if rule == "percentile":
        values = values.clamp(low, high)
    scaled = 255 * (values - low) / (high - low)
    return torch.where(scaled >= 0, scaled, 0).to(torch.uint8)  # 0 for NaN, which a constant slice gives


def normalise(slices: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """Turn 8-bit slices into a network's input, (u / 255 - mean) / std.

    Args:
        slices: any shape, 0 to 255.
        mean: of u / 255.
        std: of u / 255, above 0.

    Returns:
        The same shape, float32.
    """
    return (slices.as_subclass(Tensor).float() / 255).sub_(mean).div_(std)


def check_intensity_rule(rule: str) -> None:
    """Refuse a rule that :func:`scale_slices` does not know.

    Raises:
        InputError: naming the rules.
    """
    if rule not in INTENSITY_RULES:
        raise InputError(f"intensity is {rule!r}: choose one of {', '.join(INTENSITY_RULES)}")


def _limits(pixels: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each slice (... x HW), as ... x 1 x 1."""
    if rule == "minmax":
        low, high = pixels.aminmax(dim=-1)
    else:
        last = pixels.shape[-1] - 1
        low = pixels.kthvalue(1 + round(_TAIL * last), dim=-1).values
        high = pixels.kthvalue(1 + round((1 - _TAIL) * last), dim=-1).values
    return low[..., None, None], high[..., None, None]
