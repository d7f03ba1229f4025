# SPDX-License-Identifier: Apache-2.0
"""The weight-adaptive loss against its golden numbers, and finite where the published one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor
from torch.optim.lr_scheduler import StepLR

from custom_nets.adaptive_losses import WeightAdaptiveCrossEntropy, adaptive_weights, rank_weights, weights_from_dice
from custom_nets.errors import InputError
from custom_nets.metrics.slice_overlap import overlap_counts, slice_dice
from tests import golden
from tests.recipe import document

LOSS = document("s2anet")["loss"]
CASES = [name for name in LOSS if name.startswith("weight_adaptive")]


def inputs(name: str = "plain") -> tuple[Tensor, Tensor]:
    """Logits (2 x 5 x 8 x 9) that need a gradient, and the label of a case."""
    logits = torch.from_numpy((2 * golden.draw("loss_logits", (2, 5, 8, 9))).astype(np.float32))
    target = golden.draw("loss_target", (2, 5, 8, 9))
    label = torch.from_numpy(target.argmax(1))
    if "class4_absent" in name:
        logits[:, 4] -= 100
        label = torch.from_numpy(target[:, :4].argmax(1))
    if "class2_only" in name:
        label[1][label[1] == 2] = 0
    if "perfect" in name:
        logits = 20 * F.one_hot(label, 5).permute(0, 3, 1, 2).float().contiguous()
    return logits.requires_grad_(), label


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("name", CASES)
def test_golden_loss_weights_and_gradient(name: str) -> None:
    case = LOSS[name]
    logits, label = inputs(name)
    loss = WeightAdaptiveCrossEntropy(5, samples=case["samples"], beta=case["beta"])
    weights = loss.class_weights(logits, label)
    value = loss(logits, label)
    slope = gradient(value, logits)
    assert weights.tolist() == pytest.approx(case["weight"], rel=1e-6)
    assert weights.mean().item() == pytest.approx(case["mean_weight"], rel=1e-6)
    assert value.item() == pytest.approx(case["loss"], rel=1e-6)
    assert WeightAdaptiveCrossEntropy(samples=case["samples"], beta=0)(logits, label).item() == pytest.approx(
        case["weighted_ce"], rel=1e-6
    )
    assert slope.norm().item() == pytest.approx(case["grad_l2"], rel=1e-5)
    assert slope.flatten()[:4].tolist() == pytest.approx(case["grad_first4"], rel=1e-5)


def test_samples_default_to_the_images_of_the_batch() -> None:
    logits, label = inputs()
    expected = LOSS["weight_adaptive_a"]["loss"]
    assert WeightAdaptiveCrossEntropy()(logits, label).item() == pytest.approx(expected, rel=1e-6)
    one = WeightAdaptiveCrossEntropy()(logits[:1], label[:1])
    assert torch.equal(one, WeightAdaptiveCrossEntropy(samples=1)(logits[:1], label[:1]))


@pytest.mark.parametrize("samples", [None, 2])
def test_a_perfect_prediction_is_finite_and_trains_nothing(samples: int | None) -> None:
    """The published loss is NaN here, its weights are 0."""
    logits, label = inputs("perfect")
    loss = WeightAdaptiveCrossEntropy(samples=samples)
    assert loss.class_weights(logits, label).tolist() == LOSS["perfect_prediction"]["weight"]
    value = loss(logits, label)
    assert value == 0 and (gradient(value, logits) == 0).all()


@pytest.mark.parametrize("weighting", ["adaptive", "rank", "none"])
def test_background_alone_is_finite(weighting: str) -> None:
    logits = torch.zeros(2, 5, 4, 4)
    logits[:, 0] = 9
    logits.requires_grad_()
    value = WeightAdaptiveCrossEntropy(weighting=weighting)(logits, torch.zeros(2, 4, 4, dtype=torch.uint8))
    assert value.isfinite() and gradient(value, logits).isfinite().all()
    if weighting == "adaptive":
        assert value.item() == pytest.approx(0.8), "the four absent classes weigh 1 each in the mean"


def test_images_beyond_samples_make_no_weight_negative() -> None:
    logits, label = inputs("perfect")
    assert (WeightAdaptiveCrossEntropy(samples=1).class_weights(logits, label) == 0).all()


def test_plain_and_static_golden_values_of_55_classes(tmp_path: Path) -> None:
    logits = torch.from_numpy(golden.draw("loss_logits55", (1, 55, 6, 7)).astype(np.float32))
    label = torch.from_numpy(golden.draw("loss_target55", (1, 55, 6, 7)).argmax(1))
    plain = WeightAdaptiveCrossEntropy(weighting="none")
    assert plain(logits, label).item() == pytest.approx(LOSS["plain_ce_55"], rel=1e-6)
    static = LOSS["static_weight_ce_55"]
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(static["weights"]), encoding="utf-8")
    for source in (static["weights"], path, str(path)):
        loss = WeightAdaptiveCrossEntropy(55, weighting="static", static_weights=source)
        assert loss(logits, label).item() == pytest.approx(static["loss"], rel=1e-6)
        assert not loss.state_dict()


def test_rank_weights_are_golden() -> None:
    case = LOSS["rank_weights"]
    iou = torch.from_numpy(np.abs(golden.draw("rank_iou", (7,))))
    assert iou.tolist() == pytest.approx(case["iou"], rel=1e-12)
    assert rank_weights(iou).tolist() == pytest.approx(case["weight"], rel=1e-12)


def test_rank_weights_of_a_batch_follow_its_iou() -> None:
    logits, label = inputs()
    iou = torch.tensor(LOSS["cal_iou_per_class"]["iou"])
    loss = WeightAdaptiveCrossEntropy(weighting="rank")
    weights = loss.class_weights(logits, label)
    assert weights.tolist() == pytest.approx(rank_weights(iou).tolist())
    expected = F.cross_entropy(logits, label, weights.float())
    torch.testing.assert_close(loss(logits, label), expected)


def test_equal_classes_get_distinct_ranks() -> None:
    assert rank_weights(torch.zeros(3)).tolist() == pytest.approx([0.0001, 0.5001, 1.0001])
    assert rank_weights(torch.zeros(1)).tolist() == pytest.approx([0.0001])


def test_static_weights_from_a_trained_models_dice() -> None:
    logits, label = inputs()
    dice = slice_dice(overlap_counts(logits.argmax(1), label, 5))
    expected = adaptive_weights(overlap_counts(logits.argmax(1), label, 5))
    torch.testing.assert_close(weights_from_dice(dice).float(), expected)


@pytest.mark.parametrize("weighting", ["adaptive", "rank", "none"])
def test_type_and_form_of_the_label_do_not_matter(weighting: str) -> None:
    logits, label = inputs()
    loss = WeightAdaptiveCrossEntropy(weighting=weighting)
    expected = loss(logits, label)
    for other in (label[:, None].byte(), label.float(), MetaTensor(label[:, None].short())):
        found = loss(logits, other)
        assert torch.equal(found, expected) and type(found) is Tensor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_precision_of_the_logits(dtype: torch.dtype) -> None:
    logits, label = inputs()
    rounded = logits.detach().to(dtype).requires_grad_()
    value = WeightAdaptiveCrossEntropy()(rounded, label)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert value.item() == pytest.approx(LOSS["weight_adaptive_a"]["loss"], rel=1e-2)
    assert gradient(value, rounded).dtype == dtype


def test_autocast_changes_nothing() -> None:
    logits, label = inputs()
    loss = WeightAdaptiveCrossEntropy()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, label)
    assert torch.equal(value, loss(logits, label))


@pytest.mark.parametrize("weighting", ["adaptive", "rank", "static", "none"])
def test_nothing_waits_for_the_device(weighting: str) -> None:
    """Tensors without values answer every question for one with an error."""
    weights = [1.0] * 5 if weighting == "static" else None
    logits = torch.empty(2, 5, 8, 9, device="meta", requires_grad=True)
    label = torch.empty(2, 1, 8, 9, dtype=torch.uint8, device="meta")
    loss = WeightAdaptiveCrossEntropy(weighting=weighting, static_weights=weights)
    assert gradient(loss(logits, label), logits).shape == logits.shape


def test_learning_rates_of_the_published_recipe_are_those_of_step_lr() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02, momentum=0.9)
    schedule = StepLR(optimiser, step_size=30, gamma=0.1)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx(document("s2anet")["learning_rate_epochs_0_to_99"], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "focal"}, "weighting is 'focal': choose one of adaptive, static, rank, none"),
        ({"samples": 0}, "samples is 0: give the batch size"),
        ({"weighting": "static"}, "weighting is 'static': static_weights belong to 'static'"),
        ({"static_weights": [1.0, 2.0]}, "weighting is 'adaptive': static_weights belong to 'static'"),
        ({"weighting": "static", "static_weights": [1, 2], "classes": 3}, "2 numbers for 3 classes"),
        ({"weighting": "static", "static_weights": [1, -2]}, "static_weights: static weights are a list"),
        ({"weighting": "static", "static_weights": [0, 0]}, "not all 0"),
        ({"weighting": "static", "static_weights": [1, float("nan")]}, "static weights are a list"),
        ({"weighting": "static", "static_weights": "no.json"}, "no.json: the static weights cannot be read"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WeightAdaptiveCrossEntropy(**options)


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "are a list"), ("[1,", "cannot be read"), ('["a"]', "are a list")]
)
def test_unfit_files_of_weights_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"weights.json: .*{message}"):
        WeightAdaptiveCrossEntropy(weighting="static", static_weights=path)


def test_wrong_classes_are_refused() -> None:
    logits, label = inputs()
    with pytest.raises(InputError, match="the network gives 5 classes, the loss has 55"):
        WeightAdaptiveCrossEntropy(55)(logits, label)
    with pytest.raises(InputError, match="label holds values 0 … 5, but 5 classes"):
        WeightAdaptiveCrossEntropy()(logits, label + (label == 4))
