# SPDX-License-Identifier: Apache-2.0
"""The validation metrics of the SpineParseNet paper's released training: a mean over the classes that are there."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from custom_nets.metrics.slice_overlap import OverlapCounts

#: Added to the denominators, as published.
EPSILON = 1e-7


def validation_dice(counts: OverlapCounts, skip: Iterable[int] = (0,)) -> Tensor:
    """Average 2 I / (P + T + 1e-7) over the classes that the prediction or the reference has.

    The released training scores the first sample of a batch alone; here every sample has its value.

    Args:
        counts: of N label maps with K classes.
        skip: classes that are left out: the background as in the volumes' training and in tests, none as in the
            training of the slices' refinement.

    Returns:
        N values, float64; NaN where no class is left.
    """
    total = (counts.predicted + counts.reference).double()
    return _mean(2 * counts.intersection / (total + EPSILON), total > 0, skip)


def validation_iou(counts: OverlapCounts, skip: Iterable[int] = (0,)) -> Tensor:
    """Average I / (U + 1e-7) over the classes that the reference has; see :func:`validation_dice`."""
    union = (counts.predicted + counts.reference - counts.intersection).double()
    return _mean(counts.intersection / (union + EPSILON), counts.reference > 0, skip)


def _mean(scores: Tensor, counted: Tensor, skip: Iterable[int]) -> Tensor:
    kept = counted.clone()
    kept[:, list(skip)] = False
    return torch.where(kept, scores, torch.nan).nanmean(dim=1)
