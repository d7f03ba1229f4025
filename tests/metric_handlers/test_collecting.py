# SPDX-License-Identifier: Apache-2.0
"""Which of several metrics picks the best model."""

from __future__ import annotations

import pytest

from custom_nets.errors import InputError
from custom_nets.metric_handlers import chosen_first

METRICS = {"mean_iou": 1, "mean_dice": 2, "sensitivity": 3}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("mean_iou", ["mean_iou", "mean_dice", "sensitivity"]),
        ("mean_dice", ["mean_dice", "mean_iou", "sensitivity"]),
        ("sensitivity", ["sensitivity", "mean_iou", "mean_dice"]),
    ],
)
def test_the_chosen_metric_comes_first_and_all_stay(name: str, order: list[str]) -> None:
    chosen = chosen_first(METRICS, name)
    assert list(chosen) == order and chosen == METRICS
    assert list(METRICS) == ["mean_iou", "mean_dice", "sensitivity"]


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="select_by is 'dice': choose one of mean_iou, mean_dice, sensitivity"):
        chosen_first(METRICS, "dice")
