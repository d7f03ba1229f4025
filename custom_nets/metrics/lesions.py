# SPDX-License-Identifier: Apache-2.0
"""One case: its lesions voxel by voxel and lesion by lesion, and their volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.components import VOLUME_TOLERANCE, connected_components
from custom_nets.metrics.masks import cropped_pair

#: Classes of single lesions: name -> smallest volume in mm³; a class ends where the next one starts.
LESION_VOLUME_CLASSES: dict[str, float] = {"small": 0.0, "medium": 10.0, "large": 100.0}

#: What one row counts of lesions, over all of them and (name + "_small" …) per lesion-volume class.
LESION_COUNTS = ("n_ref", "n_pred", "n_ref_detected", "n_pred_true")

#: The keys of one row, in the order of the table; all values are numbers.
ROW_KEYS = (
    *("tp", "fp", "fn", "dice", "tpr", "ppv", "volume_difference"),
    *LESION_COUNTS,
    *("ltpr", "lppv", "lfpr", "lf1", "volume_ref_ml", "volume_pred_ml"),
    *(f"{count}_{name}" for name in LESION_VOLUME_CLASSES for count in LESION_COUNTS),
)


def lesion_metrics(
    prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1.0, 1.0, 1.0), connectivity: int = 26
) -> dict[str, float]:
    """Compare a predicted lesion mask P with a reference mask R.

    Voxels: Dice = 2TP / (2TP + FP + FN), TPR = TP / (TP + FN), PPV = TP / (TP + FP),
    volume_difference = abs(|P| - |R|) / |R|.
    Lesions are connected components; a reference lesion is detected when it shares a voxel with P, a predicted lesion
    is true when it shares a voxel with R: LTPR = n_ref_detected / n_ref, LPPV = n_pred_true / n_pred,
    LFPR = 1 - LPPV, LF1 = the harmonic mean of LTPR and LPPV.
    Empty masks: both empty is perfect agreement. An empty P makes every rate 0 and volume_difference 1. An empty R
    leaves nothing to miss (TPR = LTPR = 1), all else is wrong, and volume_difference is infinite.

    Args:
        prediction: D x H x W; lesion where it is not 0.
        reference: the same shape.
        spacing: voxel size in mm along the three axes.
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.

    Returns:
        One row: the values of ``ROW_KEYS``, volumes in ml.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, or for another connectivity.
    """
    predicted, true = cropped_pair(prediction, reference)
    voxel_volume = float(np.prod(np.asarray(spacing, dtype=float)))
    row = {
        **_voxel_metrics(predicted, true),
        **_lesion_counts(predicted, true, voxel_volume, connectivity),
        "volume_ref_ml": int(np.count_nonzero(true)) * voxel_volume / 1000.0,
        "volume_pred_ml": int(np.count_nonzero(predicted)) * voxel_volume / 1000.0,
    }
    ltpr, lppv = _rates(*(row[key] for key in LESION_COUNTS))
    lfpr = 1.0 - lppv if row["n_pred"] else 0.0
    row |= {"ltpr": ltpr, "lppv": lppv, "lfpr": lfpr, "lf1": harmonic_mean(ltpr, lppv)}
    return {key: row[key] for key in ROW_KEYS}


def _ratio(numerator: float, denominator: float, of_nothing: float) -> float:
    return numerator / denominator if denominator else of_nothing


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two rates, 0 when both are 0."""
    return _ratio(2.0 * first * second, first + second, 0.0)


def _rates(n_ref: float, n_pred: float, n_ref_detected: float, n_pred_true: float) -> tuple[float, float]:
    """Sensitivity and precision, of voxels or of lesions, by the rules for empty masks."""
    precision_of_nothing = 0.0 if n_ref else 1.0
    return _ratio(n_ref_detected, n_ref, 1.0), _ratio(n_pred_true, n_pred, precision_of_nothing)


def _voxel_metrics(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, float]:
    n_ref, n_pred, tp = (int(np.count_nonzero(mask)) for mask in (true, predicted, true & predicted))
    tpr, ppv = _rates(n_ref, n_pred, tp, tp)
    return {
        "tp": tp,
        "fp": n_pred - tp,
        "fn": n_ref - tp,
        "dice": _ratio(2 * tp, n_ref + n_pred, 1.0),
        "tpr": tpr,
        "ppv": ppv,
        "volume_difference": _ratio(abs(n_pred - n_ref), n_ref, math.inf if n_pred else 0.0),
    }


def _lesion_counts(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], voxel_volume: float, connectivity: int
) -> dict[str, float]:
    """Count lesions and hits, over all lesions and per lesion-volume class."""
    smallest = np.asarray(list(LESION_VOLUME_CLASSES.values()))
    counts: dict[str, float] = {}
    for mask, other, total, hit in (
        (true, predicted, "n_ref", "n_ref_detected"),
        (predicted, true, "n_pred", "n_pred_true"),
    ):
        labels, voxels = connected_components(mask, connectivity)
        touched = np.zeros(len(voxels) + 1, dtype=bool)
        touched[labels[other]] = True
        hits = touched[1:]  # the first entry is the background
        counts |= {total: len(voxels), hit: int(hits.sum())}
        classes = np.searchsorted(smallest, voxels * voxel_volume * (1.0 + VOLUME_TOLERANCE), side="right") - 1
        for index, name in enumerate(LESION_VOLUME_CLASSES):
            counts[f"{total}_{name}"] = int(np.count_nonzero(classes == index))
            counts[f"{hit}_{name}"] = int(np.count_nonzero(hits & (classes == index)))
    return counts
