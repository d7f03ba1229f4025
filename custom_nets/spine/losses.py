# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet's losses (section 3.5): a term on the scores, and a share of the same term on the graph's own scores.

A target is N x 1 x (D x) H x W of node numbers, or N x 2 x (D x) H x W with the weight of each voxel in the second
channel, as `monai.transforms.ConcatItemsd` joins a label map and `custom_nets.spine.border_weights.BorderWeightsd`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.errors import InputError


class NodeCrossEntropy(nn.Module):
    """Mean of -log softmax(logits)[target] over all voxels, without weights of any kind: the published term.

    Shape:
        logits N x K x (D x) H x W and a target of as many voxels -> a number.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the term; weights in the target are left alone."""
        return _cross_entropies(logits, target).mean()


class PixelwiseCrossEntropy(nn.Module):
    """Mean of -w t log softmax(logits) over N, K and all voxels, t being 0 or 1: one K-th of a mean over voxels.

    Published, and not used by the published training.

    Shape:
        logits N x K x (D x) H x W and a target of as many voxels -> a number; w is 1 without weights in the target.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the term."""
        return (_cross_entropies(logits, target) * _weights(target)).mean() / logits.shape[1]


class FalsePositiveFalseNegativeLoss(nn.Module):
    """Mean over samples of alpha Σ w (1 - t) p + Σ w (1 - p) t, sums over K and all voxels, p = softmax(logits).

    As p adds up to 1, both sums are Σ w (1 - p[target]), so that alpha does no more than scale: (1 + alpha) times one
    sum is what is computed. Published, and not used by the published training. It grows with the number of voxels.

    Args:
        alpha: of false positives.

    Shape:
        logits N x K x (D x) H x W and a target of as many voxels -> a number; w is 1 without weights in the target.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the term."""
        missed = -torch.expm1(-_cross_entropies(logits, target))
        return (1 + self.alpha) * (missed * _weights(target)).sum() / len(logits)


class SemanticGraphLoss(nn.Module):
    """term(logits) + aux_weight term(aux_logits), the latter resized to the target.

    They are resized linearly, first to first and last to last voxel (align_corners).

    Args:
        aux_weight: of the graph's assignment of voxels to nodes; 0.3 as published.
        term: of one map of scores; the cross-entropy as published.

    Shape:
        [logits, aux_logits] of `GCSN` in train mode, or logits alone (its graph-free twin, the refinement), and a
        target -> a number, in at least float32.
    """

    def __init__(self, aux_weight: float = 0.3, term: nn.Module | None = None) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.term = NodeCrossEntropy() if term is None else term

    def forward(self, scores: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss; `ValueError` if scores and target do not fit."""
        if isinstance(scores, Tensor):
            return self.term(scores, target)
        logits, aux_logits = scores
        mode = "trilinear" if aux_logits.ndim == 5 else "bilinear"
        resized = F.interpolate(_precise(aux_logits), tuple(target.shape[2:]), mode=mode, align_corners=True)
        return self.term(logits, target) + self.aux_weight * self.term(resized, target)


#: The terms by the names that the option `loss_name` takes.
TERMS = {"cross_entropy": NodeCrossEntropy, "pixelwise": PixelwiseCrossEntropy, "fpfn": FalsePositiveFalseNegativeLoss}


def spine_loss(name: str = "cross_entropy", aux_weight: float = 0.3) -> SemanticGraphLoss:
    """Return the loss of any of the three trainings.

    Args:
        name: "cross_entropy" as published, or "pixelwise" or "fpfn", which take weights of voxels.
        aux_weight: see `SemanticGraphLoss`.

    Raises:
        InputError: for another name, or a negative weight.
    """
    if name not in TERMS:
        raise InputError(f"loss_name is {name!r}: choose one of {', '.join(TERMS)}.")
    if not aux_weight >= 0:
        raise InputError(f"aux_weight is {aux_weight!r}: give a number of at least 0; 0.3 as published.")
    return SemanticGraphLoss(aux_weight, TERMS[name]())


def _cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Of each voxel, N x (D x) H x W."""
    if logits.shape[:1] + logits.shape[2:] != target.shape[:1] + target.shape[2:] or target.shape[1] not in (1, 2):
        raise ValueError(
            f"logits of shape {list(logits.shape)} and a target of {list(target.shape)}: give N x K and N x 1, or N x 2"
            " with weights, and equal sizes."
        )
    return F.cross_entropy(_precise(logits), target[:, 0].long(), reduction="none")


def _weights(target: Tensor) -> Tensor | float:
    return target[:, 1] if target.shape[1] == 2 else 1.0


def _precise(logits: Tensor) -> Tensor:
    """At least float32: half precision cannot add up a volume."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
