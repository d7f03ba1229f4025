# SPDX-License-Identifier: Apache-2.0
"""Two other averages of the S2A-Net paper's released evaluation, kept to compare with numbers that were made so.

Both flatter. :func:`~custom_nets.metrics.summarise_structures` is the evaluation to report.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from custom_nets.metrics.slice_overlap import overlap_counts, slice_dice, slice_iou


class VolumeOverlap(NamedTuple):
    """Overlap of two label maps.

    Attributes:
        iou: one value a class, the background first; 0 for a class absent from both.
        dice: likewise.
        mean_iou: the sum of ``iou`` over the number of classes that the reference has.
        mean_dice: likewise.
    """

    iou: NDArray[np.float64]
    dice: NDArray[np.float64]
    mean_iou: float
    mean_dice: float


def volume_overlap(prediction: ArrayLike, reference: ArrayLike, classes: int) -> VolumeOverlap:
    """Compare two label maps as one image each, and average over the classes that the reference has.

    Flattering: the background is one of the classes, and its IoU and Dice are near 1 whatever the network does. A class
    that only the prediction has adds 0 to the sum and nothing to its divisor, so that it goes unpunished.

    Args:
        prediction: any shape, whole numbers 0 … classes - 1.
        reference: the same shape and values.
        classes: with the background.

    Raises:
        InputError: if the shapes differ or for a value out of range.
    """
    counts = overlap_counts(torch.as_tensor(prediction)[None], torch.as_tensor(reference)[None], classes)
    iou, dice = (score(counts)[0].numpy() for score in (slice_iou, slice_dice))
    present = int(torch.count_nonzero(counts.reference))
    return VolumeOverlap(iou, dice, float(iou.sum() / present), float(dice.sum() / present))


def non_zero_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Average the values of every structure over the cases in which they are not exactly 0.

    Flattering: a structure that was missed altogether has Dice 0 and is left out with its worst cases, so that finding
    nothing in a difficult case raises the mean.

    Args:
        values: structures x cases, such as Dice.

    Returns:
        One mean a structure, NaN where all values are 0.
    """
    table = np.asarray(values, dtype=float)
    counts = np.count_nonzero(table, axis=1)
    return np.divide(table.sum(axis=1), counts, out=np.full(len(table), np.nan), where=counts > 0)
