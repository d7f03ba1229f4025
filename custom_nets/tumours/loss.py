# SPDX-License-Identifier: Apache-2.0
"""The loss of S2CA-Net on one head: soft Dice of overlapping regions and a cross-entropy, on the same logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn


class RegionDiceCELoss(nn.Module):
    """Dice of the overlapping channels plus the cross-entropy of the first channel that is set.

    With p = sigmoid(z) and t the target, sums over the voxels of a case:

        1 / (N C) Σ_n Σ_c [1 - (2 Σ p t + 1e-5) / (Σ p² + Σ t² + 1e-5)] + mean CE(softmax(z), argmax_c t)

    The argmax takes the first maximum, which of (background, ET, TC, WT) is the innermost region. So MONAI 0.6's
    `DiceCELoss` was, with which the paper was trained; MONAI 1's takes a target of several channels for probabilities
    of classes, though those of regions add up to as much as 3.

    For several heads put it into `monai.losses.DeepSupervisionLoss`.

    Shape:
        logits and target (0 or 1) N x C x D x H x W -> a number, in at least float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.region_dice = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss; `ValueError` for two shapes."""
        return self.dice(logits, target) + self.cross_entropy(logits, target)

    def dice(self, logits: Tensor, target: Tensor) -> Tensor:
        """The first term, 0 (equal) to 1."""
        logits = _prepared(logits, target)
        return self.region_dice(logits, target.to(logits.dtype))

    def cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """The second term, at least 0."""
        return F.cross_entropy(_prepared(logits, target), target.argmax(1))


def _prepared(logits: Tensor, target: Tensor) -> Tensor:
    """The logits in at least float32: half precision cannot add up a volume."""
    if logits.shape != target.shape:
        raise ValueError(
            f"logits of shape {list(logits.shape)} and a target of {list(target.shape)}: give equal shapes."
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
