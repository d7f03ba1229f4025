# SPDX-License-Identifier: Apache-2.0
"""The zoom-in&out loss against its golden numbers, its edge cases, and MONAI's loss of the same formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from custom_nets.losses import DiceBCELoss
from tests import golden
from tests.recipe import document

LOSS = document("zoom_resunet")["loss"]
CASES = {name: case for name, case in LOSS["cases"].items() if "dtype" in case}
SHAPE = tuple(LOSS["shape"])


def inputs(name: str = "plain", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits that need a gradient, and the label of a case."""
    label = torch.from_numpy(golden.draw("loss_target", SHAPE)) > 1.0
    if name.startswith("empty"):
        label = torch.zeros_like(label)
    elif name.startswith("full"):
        label = torch.ones_like(label)
    return torch.from_numpy(golden.draw("loss_logits", SHAPE)).to(dtype).requires_grad_(), label.to(dtype)


def gradient_norm(loss: Tensor, logits: Tensor) -> float:
    return torch.autograd.grad(loss, logits)[0].norm().item()


@pytest.mark.parametrize("name", CASES)
def test_golden_values_and_gradients(name: str) -> None:
    case = CASES[name]
    loss = DiceBCELoss(positive_weight=case["positive_weight"])
    squared = DiceBCELoss(squared=True)
    logits, label = inputs(name, getattr(torch, case["dtype"]))
    found = {
        "bce": loss.bce(logits, label).item(),
        "dice": loss.dice(logits, label).item(),
        "dice_squared": squared.dice(logits, label).item(),
        "total": loss(logits, label).item(),
        "grad_total_l2": gradient_norm(loss(logits, label), logits),
        "grad_bce_l2": gradient_norm(loss.bce(logits, label), logits),
    }
    relative = 1e-9 if case["dtype"] == "float64" else 1e-6
    assert found == pytest.approx({key: case[key] for key in found}, rel=relative)
    of_dice = gradient_norm(loss.dice(logits, label), logits)
    assert of_dice == pytest.approx(case["grad_dice_l2"], rel=max(relative, 1e-6), abs=1e-18)


def test_number_of_lesion_voxels_is_the_goldens() -> None:
    assert inputs()[1].sum() == LOSS["positives"]


@pytest.mark.parametrize("probabilities", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize(
    ("name", "value"), [("zero_prediction_empty_target", 0.0), ("one_prediction_empty_target", 1.0)]
)
def test_certain_predictions_of_an_empty_label(name: str, value: float, probabilities: bool) -> None:
    loss = DiceBCELoss(probabilities=probabilities)
    certain = torch.full(SHAPE, value if probabilities else 2e4 * value - 1e4, dtype=torch.float64, requires_grad=True)
    label = torch.zeros(SHAPE, dtype=torch.float64)
    expected = LOSS["cases"][name]
    assert loss.dice(certain, label).item() == pytest.approx(expected["dice"], abs=1e-12)
    assert loss.bce(certain, label).item() == expected["bce"]
    if not probabilities:  # those serve validation alone
        assert torch.autograd.grad(loss(certain, label), certain)[0].isfinite().all()


def test_wrong_certainty_costs_100_and_no_more() -> None:
    loss = DiceBCELoss(probabilities=True)
    assert loss.bce(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])) == 100
    assert DiceBCELoss().bce(torch.tensor([-1e4, 1e4]), torch.tensor([1.0, 0.0])) == 100


@pytest.mark.parametrize("options", [{}, {"positive_weight": 3.0}, {"squared": True}], ids=str)
@pytest.mark.parametrize("name", ["plain", "empty_target", "full_target"])
def test_probabilities_give_what_logits_give(options: dict[str, Any], name: str) -> None:
    logits, label = inputs(name)
    of_logits = DiceBCELoss(**options)(logits, label)
    of_probabilities = DiceBCELoss(**options, probabilities=True)(torch.sigmoid(logits), label)
    torch.testing.assert_close(of_probabilities, of_logits)
    torch.testing.assert_close(
        torch.autograd.grad(of_probabilities, logits), torch.autograd.grad(of_logits, logits), rtol=1e-9, atol=1e-12
    )


def test_monais_loss_has_the_same_value_and_gradient() -> None:
    theirs = DiceCELoss(
        sigmoid=True, batch=True, smooth_nr=torch.finfo(torch.float64).eps, smooth_dr=torch.finfo(torch.float64).eps,
        lambda_dice=0.9, lambda_ce=0.1,
    )  # fmt: skip
    logits, label = inputs()
    ours = DiceBCELoss()(logits, label)
    other = theirs(logits, label)
    torch.testing.assert_close(ours, other)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(other, logits))


def test_all_voxels_of_a_batch_are_one_sum() -> None:
    logits, label = inputs()
    one, many = (x.detach() for x in (logits, label))
    parts = DiceBCELoss()(one.view(5, 1, 1, 6, 7), many.view(5, 1, 1, 6, 7))
    torch.testing.assert_close(parts, DiceBCELoss()(logits, label).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 1, 64, 64, 32, dtype=dtype, requires_grad=True)  # float16 counts to 65,504
    label = torch.ones_like(logits, dtype=torch.uint8)
    loss = DiceBCELoss()(logits, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.9 * (1 - 1 / 1.5) + 0.1 * 0.6931472, rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad.dtype == dtype and logits.grad.isfinite().all()


def test_the_weights_of_both_parts_are_options() -> None:
    logits, label = inputs()
    loss = DiceBCELoss(dice_weight=2.0, bce_weight=3.0)
    expected = 2 * LOSS["cases"]["plain"]["dice"] + 3 * LOSS["cases"]["plain"]["bce"]
    assert loss(logits, label).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("part", ["forward", "dice", "bce"])
def test_a_label_of_another_shape_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match=r"logits of shape \[1, 1, 4\] and a label of \[1, 4\]"):
        getattr(DiceBCELoss(), part)(torch.zeros(1, 1, 4), torch.zeros(1, 4))
