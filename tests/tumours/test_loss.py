# SPDX-License-Identifier: Apache-2.0
"""The loss of S2CA-Net against golden numbers of the MONAI it was published with, alone and over four heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor

from custom_nets.tumours.loss import RegionDiceCELoss
from custom_nets.tumours.regions import region_masks
from tests import golden
from tests.recipe import document

GOLDEN = document("s2ca_net")["misc"]["loss"]["values"]
SHAPE = (2, 4, 6, 6, 6)
WEIGHTS = [0.8, 0.6, 0.3, 0.2]


def logits(name: str = "logits") -> Tensor:
    return torch.from_numpy(2 * golden.draw(name, SHAPE)).float().requires_grad_()


def target(case: str = "mixed") -> Tensor:
    """Channels background, ET, TC, WT of a case; the labels are the discrete ones of BraTS 2023."""
    label = np.digitize(golden.draw("label", (2, 1, 6, 6, 6))[:, 0], [0, 0.5, 1], right=True)
    if case != "mixed":
        label[...] = {"all_background": 0, "all_enhancing": 3}[case]
    masks = region_masks(label, "brats2023")
    return torch.from_numpy(np.stack([~masks["WT"], *masks.values()], 1)).float()


def heads() -> list[Tensor]:
    """Full resolution first, as the network returns them."""
    return [logits(f"logits{index}") for index in (3, 2, 1, 0)]


@pytest.mark.parametrize("case", ["mixed", "all_background", "all_enhancing"])
def test_golden_values_and_gradient(case: str) -> None:
    loss, z, t = RegionDiceCELoss(), logits(), target(case)
    found = {"dice_ce": loss(z, t).item(), "dice": loss.dice(z, t).item(), "ce": loss.cross_entropy(z, t).item()}
    found["grad_l2"] = torch.autograd.grad(loss(z, t), z)[0].norm().item()
    assert found == pytest.approx(GOLDEN[case], abs=1e-5, rel=1e-5)


def test_golden_deep_supervision_through_monai() -> None:
    loss = DeepSupervisionLoss(RegionDiceCELoss(), weights=WEIGHTS)
    assert loss(heads(), target()).item() == pytest.approx(GOLDEN["deep_supervision"], abs=1e-5)
    assert loss(heads()[:1], target()).item() == pytest.approx(0.8 * GOLDEN["no_deep_supervision"], abs=1e-5)
    assert loss(heads()[0], target()).item() == pytest.approx(GOLDEN["no_deep_supervision"], abs=1e-5)


def test_golden_heads_one_by_one() -> None:
    found = [RegionDiceCELoss()(head, target()).item() for head in reversed(heads())]
    assert found == pytest.approx(GOLDEN["per_head"], abs=1e-5)


def test_monais_loss_of_the_same_name_is_another_one_today() -> None:
    theirs = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
    assert theirs(logits(), target()).item() > GOLDEN["mixed"]["dice_ce"] + 1


def test_the_formula_written_plainly() -> None:
    z, t = logits().double().detach().requires_grad_(), target().double()
    p = torch.sigmoid(z)
    ratios = [
        (2 * (p[n, c] * t[n, c]).sum() + 1e-5) / ((p[n, c] ** 2).sum() + (t[n, c] ** 2).sum() + 1e-5)
        for n in range(2)
        for c in range(4)
    ]
    innermost = torch.where(t[:, 0] > 0, 0, torch.where(t[:, 1] > 0, 1, torch.where(t[:, 2] > 0, 2, 3)))
    cross_entropy = -z.log_softmax(1).gather(1, innermost[:, None]).mean()
    expected = 1 - torch.stack(ratios).mean() + cross_entropy
    found = RegionDiceCELoss()(z, t)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, z), torch.autograd.grad(expected, z), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("target_dtype", [torch.float32, torch.uint8], ids=str)
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype, target_dtype: torch.dtype) -> None:
    z = logits().detach().to(dtype).requires_grad_()
    t = target().to(target_dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = RegionDiceCELoss()(z, t)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(RegionDiceCELoss()(z.detach().float(), target()).item(), rel=1e-6)
    loss.backward()
    assert z.grad is not None and z.grad.dtype == dtype and z.grad.isfinite().all()


def test_a_target_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logits of shape \[2, 4, 6, 6, 6\] and a target of \[2, 1, 6, 6, 6\]"):
        RegionDiceCELoss()(logits(), target()[:, :1])
