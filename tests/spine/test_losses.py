# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet's losses against golden numbers and against their written formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.spine.losses import FalsePositiveFalseNegativeLoss, PixelwiseCrossEntropy, spine_loss
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("spineparsenet")["losses"]
SHAPE = GOLDEN["logits_shape"]


def drawn(name: str, shape: Any) -> Tensor:
    return torch.from_numpy(draw(name, tuple(shape)).astype(np.float32))


def logits() -> Tensor:
    return drawn("loss_logits", SHAPE)


def target() -> Tensor:
    return drawn("loss_target", SHAPE).argmax(1, keepdim=True)


def weighted_target() -> Tensor:
    weights = drawn("loss_weight", [SHAPE[0], *SHAPE[2:]]).abs()[:, None] + 1
    return torch.cat([target(), weights], 1)


def test_golden_cross_entropies() -> None:
    loss, aux = spine_loss(), drawn("loss_aux_logits", GOLDEN["aux_shape"])
    assert loss(logits(), target()).item() == pytest.approx(GOLDEN["ce_main"], abs=1e-5)
    assert loss([logits(), aux], target()).item() == pytest.approx(GOLDEN["total_ds0.3"], abs=1e-5)
    alone = spine_loss(aux_weight=1.0)([logits(), aux], target()) - loss(logits(), target())
    assert alone.item() == pytest.approx(GOLDEN["ce_aux_upsampled"], abs=1e-5)


def test_golden_cross_entropy_of_slices() -> None:
    shape = (2, 20, 6, 5)
    nodes = drawn("loss2d_target", shape).argmax(1, keepdim=True)
    assert spine_loss()(drawn("loss2d_logits", shape), nodes).item() == pytest.approx(GOLDEN["ce_2d"], abs=1e-5)


def test_golden_gradient() -> None:
    scores = logits().requires_grad_()
    spine_loss()(scores, target()).backward()
    assert scores.grad is not None and scores.grad.norm().item() == pytest.approx(GOLDEN["ce_grad_l2"], rel=1e-4)


def test_golden_optional_terms() -> None:
    found = spine_loss("pixelwise")(logits(), weighted_target()).item()
    assert found == pytest.approx(GOLDEN["pixelwise_ce"], abs=1e-5)
    fpfn = spine_loss("fpfn")
    assert fpfn(logits(), target()).item() == pytest.approx(GOLDEN["fpfn_0.1"], rel=1e-6)
    assert fpfn(logits(), weighted_target()).item() == pytest.approx(GOLDEN["fpfn_0.1_weighted"], rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_short_forms_are_the_written_ones(alpha: float) -> None:
    scores, both = logits().double(), weighted_target().double()
    one_hot = F.one_hot(both[:, 0].long(), SHAPE[1]).movedim(-1, 1)
    p, w = scores.softmax(1), both[:, 1:]
    written = (alpha * (w * (1 - one_hot) * p).sum() + (w * (1 - p) * one_hot).sum()) / SHAPE[0]
    torch.testing.assert_close(FalsePositiveFalseNegativeLoss(alpha)(scores, both), written)
    torch.testing.assert_close(PixelwiseCrossEntropy()(scores, both), -(w * one_hot * p.log()).mean())


def test_weights_of_voxels_do_not_reach_the_published_term() -> None:
    assert torch.equal(spine_loss()(logits(), weighted_target()), spine_loss()(logits(), target()))


def test_scores_in_half_precision_are_added_up_in_full() -> None:
    scores = torch.zeros(1, 4, 70, 100, 100, dtype=torch.bfloat16)
    found = spine_loss()([scores, scores[..., ::4, ::4]], torch.zeros(1, 1, 70, 100, 100, dtype=torch.uint8))
    assert found.dtype == torch.float32 and found.item() == pytest.approx(1.3 * np.log(4), rel=1e-5)


def test_unfit_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logits of shape \[2, 20, 3, 6, 5\] and a target of \[2, 1, 3, 6, 4\]"):
        spine_loss()(logits(), target()[..., :4])
    with pytest.raises(InputError, match="loss_name is 'dice': choose one of cross_entropy, pixelwise, fpfn"):
        spine_loss("dice")
    with pytest.raises(InputError, match="aux_weight is -1: give a number of at least 0"):
        spine_loss(aux_weight=-1)
