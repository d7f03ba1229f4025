# SPDX-License-Identifier: Apache-2.0
"""Lesion-wise scores: values by hand, what counts as one lesion, what does not count, what moves nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from custom_nets.errors import InputError
from custom_nets.metrics import lesion_wise_metrics

SHAPE = (16, 16, 40)
Block = tuple[int, int]


def lesions(*blocks: Block, depth: slice = slice(4, 8)) -> np.ndarray:
    """Blocks of 4 x 4 voxels across, each from one place to another, exclusively, along the last axis."""
    mask = np.zeros(SHAPE, dtype=bool)
    for start, stop in blocks:
        mask[depth, 4:8, start:stop] = True
    return mask


def counts(row: dict[str, float]) -> tuple[float, ...]:
    return row["lesions_found"], row["lesions_missed"], row["lesions_invented"]


def scores(row: dict[str, float]) -> tuple[float, float]:
    return row["lesion_dice"], row["lesion_hd95"]


@pytest.mark.parametrize(
    ("prediction", "reference", "expected", "numbers"),
    [
        ((), (), (1.0, 0.0), (0, 0, 0)),
        (((0, 6),), ((0, 6),), (1.0, 0.0), (1, 0, 0)),
        ((), ((0, 6),), (0.0, 374.0), (0, 1, 0)),
        (((0, 6),), (), (0.0, 374.0), (0, 0, 1)),
        # half of the only lesion: 2 * 64 / (64 + 128)
        (((0, 4),), ((0, 8),), (2 / 3, 4.0), (1, 0, 0)),
        # one right, one missed, one invented
        (((0, 6), (34, 40)), ((0, 6), (16, 22)), (1 / 3, 2 * 374 / 3), (1, 1, 1)),
        # one predicted component that reaches two lesions counts for both: 2 * 64 / (64 + 320) and the same
        (((0, 20),), ((0, 4), (16, 20)), (1 / 3, 16.0), (2, 0, 0)),
        # two predicted components of one lesion are one answer: 2 * 128 / (128 + 160)
        (((0, 4), (6, 10)), ((0, 10),), (8 / 9, 1.0), (1, 0, 0)),
        # near, without a common voxel: matched by the dilated reference, not by the reference
        (((8, 12),), ((0, 6),), (0.0, 8.0), (1, 0, 0)),
        (((9, 13),), ((0, 6),), (0.0, 374.0), (0, 1, 1)),
    ],
)
def test_values_by_hand(
    prediction: tuple[Block, ...],
    reference: tuple[Block, ...],
    expected: tuple[float, float],
    numbers: tuple[int, int, int],
) -> None:
    row = lesion_wise_metrics(lesions(*prediction), lesions(*reference))
    assert counts(row) == numbers
    assert scores(row) == pytest.approx(expected)


@pytest.mark.parametrize(("gap", "dilations", "count"), [(6, 3, 1), (7, 3, 2), (2, 1, 1), (3, 1, 2), (1, 0, 2)])
def test_parts_that_nearly_touch_are_one_lesion(gap: int, dilations: int, count: int) -> None:
    reference = lesions((0, 8), (8 + gap, 16 + gap))
    row = lesion_wise_metrics(lesions((0, 8)), reference, dilations=dilations)
    assert counts(row) == (1, count - 1, 0)
    assert row["lesion_dice"] == pytest.approx(2 * 128 / (128 + 256) if count == 1 else 0.5)


@pytest.mark.parametrize(("element", "missed"), [(6, 1), (18, 1), (26, 0)])
def test_element_of_the_dilation(element: int, missed: int) -> None:
    """Two blocks that are two steps apart along all three axes at once."""
    reference, prediction = lesions((0, 6)), np.zeros(SHAPE, dtype=bool)
    reference[10:14, 10:14, 8:14] = True
    prediction[lesions((0, 6))] = True
    row = lesion_wise_metrics(prediction, reference, dilations=1, element=element)
    assert counts(row) == (1, missed, 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize(("length", "counted"), [(3, False), (4, True)])
def test_lesions_below_the_smallest_volume_do_not_count(
    length: int, counted: bool, spacing: tuple[float, float, float]
) -> None:
    small, large = lesions((20, 20 + length)), lesions((0, 6))
    options: dict[str, Any] = {"spacing": spacing, "min_volume": 64.0}
    for prediction, reference, number in (
        (large, large | small, (1, int(counted), 0)),
        (large | small, large, (1, 0, int(counted))),
        (large | small, large | small, (1 + int(counted), 0, 0)),
        # a large answer to a lesion that does not count is not invented
        (large | lesions((18, 26)), large | small, (1 + int(counted), 0, 0)),
    ):
        row = lesion_wise_metrics(prediction, reference, **options)
        assert counts(row) == number
    assert scores(lesion_wise_metrics(small * 0, small, **options)) == ((0.0, 374.0) if counted else (1.0, 0.0))


def test_distances_follow_the_spacing_and_the_penalty_is_an_option() -> None:
    row = lesion_wise_metrics(lesions((0, 4)), lesions((0, 8), (30, 40)), (1.0, 1.0, 2.5), missed_hd95=100.0)
    assert row["lesion_hd95"] == pytest.approx((4 * 2.5 + 100.0) / 2)


def test_room_around_the_masks_and_flips_change_nothing() -> None:
    """Lesions are grown inside the smallest box around both masks: what happens outside must not matter."""
    for seed in range(5):
        noise = gaussian_filter(np.random.default_rng(seed).standard_normal((2, 18, 20, 22)), (0, 1.5, 1.5, 1.5))
        prediction, reference = (one > np.quantile(one, 0.96) for one in noise)
        options: dict[str, Any] = {"dilations": 2, "min_volume": 4.0}
        row = lesion_wise_metrics(prediction, reference, **options)
        assert sum(counts(row)) > 3
        assert lesion_wise_metrics(np.pad(prediction, 6), np.pad(reference, 6), **options) == pytest.approx(row)
        assert lesion_wise_metrics(prediction[::-1], reference[::-1], **options) == pytest.approx(row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilations": -1}, "dilations is -1"),
        ({"min_volume": -5.0}, "min_volume is -5.0"),
        ({"min_volume": float("nan")}, "min_volume is nan"),
        ({"connectivity": 8}, "connectivity is 8"),
        ({"element": 8}, "connectivity is 8"),
        ({"reference": np.zeros((4, 4, 4))}, "must be equal"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lesion_wise_metrics(**{"prediction": lesions((0, 4)), "reference": lesions((0, 8)), **options})
