# SPDX-License-Identifier: Apache-2.0
"""Surface distances: golden numbers, MONAI's values, what moves and scales them, empty masks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from custom_nets.errors import InputError
from custom_nets.metrics import SURFACE_KEYS, surface_distances, surface_metrics
from custom_nets.metrics.surfaces import surface
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("zoom_resunet")["reference_not_official"]["surface"]
SHAPE = tuple(GOLDEN["shape"])
UNEVEN = (1.0, 0.8, 2.0)
NOTHING = np.zeros(SHAPE, dtype=bool)


def ball(index: int) -> np.ndarray:
    centre = np.asarray(SHAPE) / 2 + 3 * draw(f"lesion_centre{index}", (3,))
    radius = 2.5 + abs(draw(f"lesion_radius{index}", (1,))[0])
    return ((np.moveaxis(np.indices(SHAPE), 0, -1) - centre) ** 2).sum(-1) <= radius**2


@pytest.mark.parametrize("pair", GOLDEN["pairs"], ids=lambda pair: f"{pair['i']}-{pair['spacing']}")
def test_golden_pair(pair: dict[str, Any]) -> None:
    masks = (ball(pair["i"]), ball(pair["i"] + 10))
    assert [int(mask.sum()) for mask in masks] == pair["voxels"]
    assert [int(surface(mask).sum()) for mask in masks] == pair["surface_voxels"]
    row = surface_metrics(*masks, pair["spacing"])
    names = {"hd": "hd", "hd95": "hd95_percentile_of_each_side_max", "assd": "assd_pooled"}
    assert row == pytest.approx({key: pair[name] for key, name in names.items()}, rel=1e-9)
    directed = surface_metrics(*masks, pair["spacing"], assd="directed")
    assert directed == pytest.approx({**row, "assd": pair["assd_mean_of_means"]}, rel=1e-9)


def test_percentile_of_the_joined_sets() -> None:
    masks = (ball(1), ball(12))
    larger, joined = (surface_metrics(*masks, UNEVEN, hd95=convention) for convention in ("larger", "joined"))
    distances = np.concatenate(surface_distances(*masks, UNEVEN))
    assert joined == pytest.approx({**larger, "hd95": np.percentile(distances, 95)}, rel=1e-12)
    assert joined["hd95"] < larger["hd95"]


@pytest.mark.parametrize("kind", ["overlapping", "at the border", "single voxel", "noise"])
def test_monai_computes_the_same(kind: str) -> None:
    rng = np.random.default_rng(0)
    one, other = ball(1), ball(12)
    if kind == "at the border":
        one, other = np.ones(SHAPE, dtype=bool), np.roll(other, 9, axis=1)
    if kind == "single voxel":
        one = NOTHING.copy()
        one[0, 3, -1] = True
    if kind == "noise":
        one, other = rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.001
    tensors = [torch.from_numpy(mask)[None, None] for mask in (one, other)]
    options: dict[str, Any] = {"include_background": True, "spacing": list(UNEVEN)}
    expected = {
        "hd": float(compute_hausdorff_distance(*tensors, **options)),
        "hd95": float(compute_hausdorff_distance(*tensors, percentile=95, **options)),
        "assd": float(compute_average_surface_distance(*tensors, symmetric=True, **options)),
    }
    assert surface_metrics(one, other, UNEVEN) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("assd", ["pooled", "directed"])
def test_exchanging_the_masks_changes_nothing(assd: str) -> None:
    there, back = surface_metrics(ball(0), ball(10), UNEVEN, assd), surface_metrics(ball(10), ball(0), UNEVEN, assd)
    assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_change_nothing(axis: int) -> None:
    flipped = (np.flip(ball(index), axis) for index in (0, 10))
    assert surface_metrics(*flipped, UNEVEN) == pytest.approx(surface_metrics(ball(0), ball(10), UNEVEN), rel=1e-12)


def test_distances_follow_the_axes_and_scale_with_the_spacing() -> None:
    expected = surface_metrics(ball(0), ball(10), UNEVEN)
    turned = (ball(index).transpose(2, 0, 1) for index in (0, 10))
    assert surface_metrics(*turned, (UNEVEN[2], *UNEVEN[:2])) == pytest.approx(expected, rel=1e-12)
    tripled = surface_metrics(ball(0), ball(10), [3 * size for size in UNEVEN])
    assert tripled == pytest.approx({key: 3 * value for key, value in expected.items()}, rel=1e-12)


def test_agreement_is_zero_and_a_shift_is_its_length() -> None:
    assert surface_metrics(ball(0), ball(0)) == dict.fromkeys(SURFACE_KEYS, 0.0)
    block = np.zeros((4, 4, 12))
    block[1:3, 1:3, 2] = 1
    shifted = np.roll(block, 5, axis=2)
    assert surface_metrics(block, shifted, (1.0, 1.0, 0.5)) == dict.fromkeys(SURFACE_KEYS, 2.5)


def test_one_distance_a_surface_voxel() -> None:
    distances = surface_distances(ball(0), ball(10))
    assert [values.shape for values in distances] == [(int(surface(ball(index)).sum()),) for index in (0, 10)]


@pytest.mark.parametrize(("prediction", "reference"), [(NOTHING, ball(0)), (ball(0), NOTHING), (NOTHING, NOTHING)])
@pytest.mark.parametrize("both_empty_is_zero", [False, True])
def test_empty_masks_have_no_distance(prediction: np.ndarray, reference: np.ndarray, both_empty_is_zero: bool) -> None:
    row = surface_metrics(prediction, reference, both_empty_is_zero=both_empty_is_zero)
    agree = both_empty_is_zero and not (prediction | reference).any()
    assert row == pytest.approx(dict.fromkeys(SURFACE_KEYS, 0.0 if agree else math.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assd": "mean"}, "assd is 'mean'.*pooled, directed"),
        ({"hd95": "mean"}, "hd95 is 'mean'.*larger, joined"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing is .*above 0"),
        ({"spacing": (1.0, 1.0)}, "three voxel sizes"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        surface_metrics(ball(0), ball(10), **options)
