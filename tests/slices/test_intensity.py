# SPDX-License-Identifier: Apache-2.0
"""Slices to 8 bits and to a network's input, against golden arrays and on slices that break the published rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.intensity import normalise, scale_slices
from tests import golden
from tests.recipe import arrays

GOLDEN = arrays("s2anet")


def golden_volume() -> Tensor:
    """4 slices of 10 x 12, int16, of which the golden windows are made."""
    return torch.from_numpy(np.round(200 + 80 * golden.draw("volume", (4, 10, 12))).astype(np.int16))


def windows(slices: Tensor) -> Tensor:
    """Previous, centre and next of every slice, ends repeated: D x 3 x H x W."""
    padded = torch.cat([slices[:1], slices, slices[-1:]])
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]], dim=1)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float32, torch.float64], ids=str)
def test_golden_slices(dtype: torch.dtype) -> None:
    scaled = scale_slices(golden_volume().to(dtype))
    assert scaled.dtype == torch.uint8
    assert np.array_equal(windows(scaled), GOLDEN["prep_uint8"])


@pytest.mark.parametrize("span", range(1, 400, 7))
def test_scaling_of_integers_is_exact_and_truncates(span: int) -> None:
    values = torch.arange(span + 1, dtype=torch.int32)[None] - 50
    assert scale_slices(values)[0].tolist() == [255 * v // span for v in range(span + 1)]


def test_each_slice_has_its_own_scale() -> None:
    volume = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    stretched = volume * torch.tensor([1.0, 8.0, 64.0])[:, None, None] - 32  # exact in float32
    scaled = scale_slices(stretched.double())
    assert torch.equal(scaled[:, 1], scale_slices(stretched[:, 1].double()))
    assert (scaled.flatten(-2).amin(-1) == 0).all() and (scaled.flatten(-2).amax(-1) == 255).all()


def test_already_scaled_slices_stay_as_they_are() -> None:
    scaled = scale_slices(golden_volume())
    assert torch.equal(scale_slices(scaled), scaled)


@pytest.mark.parametrize("rule", ["minmax", "percentile"])
@pytest.mark.parametrize("value", [0.0, 7.5, float("nan"), float("inf")])
def test_a_constant_or_broken_slice_is_black_and_alone(rule: str, value: float) -> None:
    volume = golden_volume().double()
    expected = scale_slices(volume, rule)
    volume[2] = value
    scaled = scale_slices(volume, rule)
    assert (scaled[2] == 0).all()
    assert torch.equal(scaled[[0, 1, 3]], expected[[0, 1, 3]])


def test_percentiles_are_robust_to_a_hot_pixel() -> None:
    image = torch.arange(1000.0).reshape(1, 20, 50)
    hot = image.clone()
    hot[0, 3, 4] = 1e6
    assert scale_slices(hot).float().mean() < 1, "as published a hot pixel leaves nothing of the slice"
    difference = scale_slices(hot, "percentile").int() - scale_slices(image, "percentile").int()
    difference[0, 3, 4] = 0
    assert difference.abs().max() <= 1


def test_percentiles_are_those_of_numpy() -> None:
    image = torch.from_numpy(golden.draw("slice", (40, 50)))
    low, high = np.percentile(image, [0.5, 99.5], method="nearest")
    expected = (255 * (image.clamp(low, high) - low) / (high - low)).byte()
    assert torch.equal(scale_slices(image, "percentile"), expected)


def test_metadata_are_left_behind() -> None:
    volume = MetaTensor(golden_volume().float())
    assert type(scale_slices(volume)) is Tensor
    assert type(normalise(MetaTensor(scale_slices(volume)))) is Tensor


def test_normalised_ends_of_the_scale() -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8)
    assert normalise(ends).tolist() == pytest.approx([-0.956098, 3.921951], abs=1e-6)
    assert normalise(ends, 0.5, 0.25).tolist() == [-2, 2]


def test_normalising_leaves_its_input_alone() -> None:
    slices = torch.full((2, 2), 51.0)
    normalise(slices)
    assert (slices == 51).all()


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="intensity is 'zscore': choose one of minmax, percentile"):
        scale_slices(golden_volume(), "zscore")
