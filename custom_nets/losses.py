# SPDX-License-Identifier: Apache-2.0
"""Losses of the papers that MONAI does not have as published."""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = sys.float_info.epsilon  # 2.22e-16, in every precision, as published


class DiceBCELoss(nn.Module):
    """The 3D-ResU-Net's loss, 0.1 B + 0.9 D, over all voxels of the batch together.

    With p = sigmoid(logit): D = 1 - (2 Σpy + ε) / (Σp + Σy + ε), ε = 2.22e-16, and B the mean of
    w (-y log p - (1 - y) log(1 - p)) with w = 1 + (positive_weight - 1) y and each logarithm at least -100. In a crop
    without lesion D is 1 without a gradient, so that B alone trains there.

    MONAI's `DiceCELoss` with ``batch=True`` is the same but for the bound of the logarithm, and keeps one more copy of
    the probabilities.

    Args:
        dice_weight: of D.
        bce_weight: of B.
        positive_weight: of lesion voxels in B.
        squared: square p and y in D's denominator.
        probabilities: the input is p itself and not the logit, as in a validation behind a sigmoid.

    Shape:
        logits and labels (0 or 1), both of any one shape -> a number.
    """

    def __init__(
        self,
        dice_weight: float = 0.9,
        bce_weight: float = 0.1,
        positive_weight: float = 1.0,
        squared: bool = False,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.positive_weight = positive_weight
        self.squared = squared
        self.probabilities = probabilities

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss; `ValueError` for two shapes."""
        return self.bce_weight * self.bce(logits, label) + self.dice_weight * self.dice(logits, label)

    def dice(self, logits: Tensor, label: Tensor) -> Tensor:
        """D alone, 0 (equal) to 1."""
        logits, label = _prepared(logits, label)
        p = logits if self.probabilities else torch.sigmoid(logits)
        sizes = (p * p).sum() + (label * label).sum() if self.squared else p.sum() + label.sum()
        return 1 - (2 * (p * label).sum() + _EPSILON) / (sizes + _EPSILON)

    def bce(self, logits: Tensor, label: Tensor) -> Tensor:
        """B alone, at least 0."""
        logits, label = _prepared(logits, label)
        if self.probabilities:
            log_p, log_rest = logits.log(), (-logits).log1p()
        else:
            log_p, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
        of_lesion = self.positive_weight * label * log_p.clamp(min=-100)
        return -(of_lesion + (1 - label) * log_rest.clamp(min=-100)).mean()


def _prepared(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one precision, at least float32: half precision cannot add up a volume."""
    if logits.shape != label.shape:
        raise ValueError(f"logits of shape {list(logits.shape)} and a label of {list(label.shape)}: give equal shapes.")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), label.to(dtype)
