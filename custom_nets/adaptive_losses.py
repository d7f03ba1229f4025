# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy whose class weights follow from how well each class is segmented (S2aNet's weight-adaptive loss)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.metrics.slice_overlap import OverlapCounts, overlap_counts, slice_dice, slice_iou

#: Where the class weights come from.
WEIGHTINGS = ("adaptive", "static", "rank", "none")

_RANK_OFFSET = 0.0001  # the best class keeps this weight


class WeightAdaptiveCrossEntropy(nn.Module):
    """Weighted cross-entropy Σ_i w_{y_i} (-log softmax(z_i)_{y_i}) / Σ_i w_{y_i} over all pixels i of the batch.

    The weights w_k of the classes k = 0 … K - 1, background included, carry no gradient and no memory:

    * ``adaptive``: w_k = 1 - (1/S) Σ_b D_bk with D_bk the Dice coefficient of the hard prediction in image b, which is
      0 for a class that image and prediction both lack. β (1/K) Σ_k w_k is added, which shifts the value only.
    * ``rank``: w_k = rank_k / (K - 1) + 0.0001, rank 0 for the class with the highest IoU in the batch.
    * ``static``: given, for example by :func:`weights_from_dice` from a trained model.
    * ``none``: plain cross-entropy.

    Where every present class is perfect all weights are 0 and the published loss is NaN; here the cross-entropy is 0
    then, and its gradient 0. Nothing waits for the device.

    Args:
        classes: K; None takes the logits' channels.
        samples: S; None is the number of images in the batch. Published is a constant, 3, the batch size, for which an
            incomplete batch counts as badly segmented; images beyond it make no weight negative.
        beta: β, of ``adaptive``.
        weighting: ``adaptive``, ``rank``, ``static`` or ``none``.
        static_weights: K numbers of at least 0, or a JSON file with their list, for ``static``.

    Shape:
        logits N x K x H x W of any floating type, and labels N x H x W or N x 1 x H x W, 0 … K - 1 -> a number, float32
        or better.

    Raises:
        InputError: naming the option, the value found and what would do; when called, for logits or labels that do not
            fit the classes (labels on a GPU are not looked at, which would wait for it).
    """

    weights: Tensor | None

    def __init__(
        self,
        classes: int | None = None,
        samples: int | None = None,
        beta: float = 1.0,
        weighting: str = "adaptive",
        static_weights: Sequence[float] | str | Path | None = None,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise InputError(f"weighting is {weighting!r}: choose one of {', '.join(WEIGHTINGS)}")
        if (weighting == "static") != (static_weights is not None):
            raise InputError(f"weighting is {weighting!r}: static_weights belong to 'static', which needs them")
        if samples is not None and samples < 1:
            raise InputError(f"samples is {samples!r}: give the batch size, or None for that of each batch")
        weights = None if static_weights is None else torch.tensor(_static(static_weights))
        if weights is not None and classes not in (None, len(weights)):
            raise InputError(f"static_weights has {len(weights)} numbers for {classes} classes: give one a class")
        self.classes = classes if weights is None else len(weights)
        self.samples = samples
        self.beta = beta
        self.weighting = weighting
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        if self.classes not in (None, logits.shape[1]):
            raise InputError(
                f"the network gives {logits.shape[1]} classes, the loss has {self.classes}: make them equal"
            )
        logits = logits.as_subclass(Tensor).to(torch.promote_types(logits.dtype, torch.float32))
        label = (label.squeeze(1) if label.ndim == logits.ndim else label).as_subclass(Tensor).long()
        if self.weighting == "none":
            return F.cross_entropy(logits, label)
        weights = self.class_weights(logits, label).to(logits.dtype)
        loss = weighted_cross_entropy(logits, label, weights)
        return loss + self.beta * weights.mean() if self.weighting == "adaptive" else loss

    @torch.no_grad()
    def class_weights(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the weights of a batch, K: logits N x K x H x W, labels N x H x W."""
        if self.weights is not None:
            if self.weights.device != logits.device:  # once, as each copy would wait for the device
                self.weights = self.weights.to(logits.device)
            return self.weights
        counts = overlap_counts(logits.argmax(1), label, logits.shape[1])
        if self.weighting == "rank":
            return rank_weights(slice_iou(counts).mean(0))
        return adaptive_weights(counts, self.samples)


def weighted_cross_entropy(logits: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with class weights, divided by the pixels' sum of weights; 0 with gradient 0 where that is 0.

    Args:
        logits: N x K x H x W.
        label: N x H x W, int64.
        weights: K, at least 0.

    Returns:
        A number.
    """
    total = weights[label].sum()
    return F.cross_entropy(logits, label, weights, reduction="sum") / torch.where(total > 0, total, 1)


def adaptive_weights(counts: OverlapCounts, samples: int | None = None) -> Tensor:
    """w_k = 1 - (1/S) Σ_b D_bk, K, float32; 0 at least.

    Args:
        counts: of the batch's images.
        samples: S; None is the number of images.
    """
    dice = slice_dice(counts).float()  # a perfect class has exactly 1, as published
    return (1 - dice.sum(0) / (len(dice) if samples is None else samples)).clamp(min=0)


def rank_weights(iou: Tensor) -> Tensor:
    """w_k = rank_k / (K - 1) + 0.0001, with rank 0 for the highest IoU; of equal ones the first class is ahead.

    Args:
        iou: K.

    Returns:
        K, in the type of ``iou``.
    """
    ranks = iou.argsort(descending=True, stable=True).argsort()
    return ranks.to(iou.dtype) / max(len(iou) - 1, 1) + _RANK_OFFSET


def weights_from_dice(dice: Tensor) -> Tensor:
    """Static weights from a trained model, w_k = 1 - mean over the training images, for a second stage of training.

    Args:
        dice: images x K, 0 for a class that an image and its prediction both lack, of
            :func:`~custom_nets.metrics.slice_overlap.slice_dice`.

    Returns:
        K weights, 0 to 1.
    """
    return 1 - dice.mean(0)


def _static(weights: Sequence[float] | str | Path) -> list[float]:
    """Read and check static weights."""
    source = "static_weights"
    if isinstance(weights, str | Path):
        source = str(weights)
        try:
            weights = json.loads(Path(weights).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: the static weights cannot be read ({error}): give a JSON list") from None
    if not isinstance(weights, Sequence) or not all(_is_weight(weight) for weight in weights) or not any(weights):
        raise InputError(f"{source}: static weights are a list of one number a class, at least 0 and not all 0")
    return [float(weight) for weight in weights]


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
