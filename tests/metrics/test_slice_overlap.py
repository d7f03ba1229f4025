# SPDX-License-Identifier: Apache-2.0
"""Overlap slice by slice: golden numbers, counting by hand, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.metrics import OverlapCounts, overlap_counts, slice_dice, slice_iou
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("s2anet")["loss"]
CLASSES = 5
PREDICTION = torch.from_numpy(draw("loss_logits", (2, CLASSES, 8, 9)).argmax(1))
LABEL = torch.from_numpy(draw("loss_target", (2, CLASSES, 8, 9)).argmax(1))


def counts(prediction: Tensor = PREDICTION, label: Tensor = LABEL, classes: int = CLASSES) -> OverlapCounts:
    return overlap_counts(prediction, label, classes)


def test_golden_values() -> None:
    golden, means = GOLDEN["cal_iou_per_class"], GOLDEN["cal_iou_mean"]
    assert len(LABEL) == golden["allNums"]
    iou, dice = slice_iou(counts()).mean(0), slice_dice(counts()).mean(0)
    assert iou.tolist() == pytest.approx(golden["iou"], rel=1e-5)
    assert dice.tolist() == pytest.approx(golden["dice"], rel=1e-5)
    assert (float(iou.mean()), float(dice.mean())) == pytest.approx((means["mIoU"], means["mDice"]), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
@pytest.mark.parametrize("classes", [CLASSES, 9])
def test_counts_are_those_of_masks(dtype: torch.dtype, classes: int) -> None:
    found = counts(PREDICTION.to(dtype), LABEL.to(dtype), classes)
    for image in range(len(LABEL)):
        for structure in range(classes):
            predicted, true = PREDICTION[image] == structure, LABEL[image] == structure
            expected = [int(mask.sum()) for mask in (predicted & true, predicted, true)]
            assert [int(group[image, structure]) for group in found] == expected


def test_class_absent_from_both_counts_as_zero_and_agreement_as_one() -> None:
    iou = slice_iou(counts(LABEL, LABEL, CLASSES + 1))
    assert iou[:, :CLASSES].numpy() == pytest.approx(np.ones((2, CLASSES)), rel=1e-9)
    assert iou[:, CLASSES].tolist() == [0.0, 0.0]


def test_images_of_any_number_of_axes() -> None:
    flat = counts(PREDICTION.flatten(1), LABEL.flatten(1))
    deep = counts(PREDICTION[:, None, :, None], LABEL[:, None, :, None])
    assert all(torch.equal(*pair) for pair in zip(flat, deep, strict=True))


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (PREDICTION, LABEL[:1], r"\(2, 8, 9\).*\(1, 8, 9\)"),
        (PREDICTION[0, 0], LABEL[0, 0], "N x"),
        (PREDICTION + 1, LABEL, "prediction holds values 1 … 5.*0 … 4"),
        (PREDICTION, LABEL - 1, "label holds values -1 … 3"),
    ],
)
def test_wrong_input(prediction: Tensor, label: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        counts(prediction, label)
