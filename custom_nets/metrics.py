# SPDX-License-Identifier: Apache-2.0
"""Metrics of multiple-sclerosis lesion segmentation: voxel by voxel, lesion by lesion, and over a set of cases.

The set is the usual one of the field (the measures of the ISBI-2015 longitudinal MS lesion challenge and lesion-wise
F1). The RSANet paper's own evaluation code was never published, so no number from here is "the paper's".
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.components import VOLUME_TOLERANCE, bounding_box, connected_components
from custom_nets.errors import InputError
from custom_nets.files import write_json, write_text

#: Classes of single lesions: name -> smallest volume in mm³; a class ends where the next one starts.
LESION_VOLUME_CLASSES: dict[str, float] = {"small": 0.0, "medium": 10.0, "large": 100.0}

#: What one row counts of lesions, over all of them and (name + "_small" …) per lesion-volume class.
LESION_COUNTS = ("n_ref", "n_pred", "n_ref_detected", "n_pred_true")

#: What is averaged over cases.
AVERAGED = ("dice", "tpr", "ppv", "volume_difference", "ltpr", "lppv", "lfpr", "lf1")

#: The keys of one row, in the order of the table; all values are numbers.
ROW_KEYS = (
    *("tp", "fp", "fn", "dice", "tpr", "ppv", "volume_difference"),
    *LESION_COUNTS,
    *("ltpr", "lppv", "lfpr", "lf1", "volume_ref_ml", "volume_pred_ml"),
    *(f"{count}_{name}" for name in LESION_VOLUME_CLASSES for count in LESION_COUNTS),
)


def lesion_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    connectivity: int = 26,
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
    predicted, true = np.asarray(prediction) != 0, np.asarray(reference) != 0
    if predicted.shape != true.shape or true.ndim != 3:
        raise InputError(
            f"the prediction's shape {predicted.shape} and the reference's {true.shape} must be equal and D x H x W;"
            " bring both onto one grid"
        )
    box = bounding_box(predicted | true)
    predicted, true = predicted[box], true[box]
    voxel_volume = float(np.prod(np.asarray(spacing, dtype=float)))
    row = {
        **_voxel_metrics(predicted, true),
        **_lesion_counts(predicted, true, voxel_volume, connectivity),
        "volume_ref_ml": int(np.count_nonzero(true)) * voxel_volume / 1000.0,
        "volume_pred_ml": int(np.count_nonzero(predicted)) * voxel_volume / 1000.0,
    }
    ltpr, lppv = _rates(*(row[key] for key in LESION_COUNTS))
    lfpr = 1.0 - lppv if row["n_pred"] else 0.0
    row |= {"ltpr": ltpr, "lppv": lppv, "lfpr": lfpr, "lf1": _harmonic_mean(ltpr, lppv)}
    return {key: row[key] for key in ROW_KEYS}


def _ratio(numerator: float, denominator: float, of_nothing: float) -> float:
    return numerator / denominator if denominator else of_nothing


def _harmonic_mean(first: float, second: float) -> float:
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


def volume_correlation(cases: Sequence[Mapping[str, float]]) -> float:
    """Pearson correlation of predicted and reference total lesion volume over cases.

    Args:
        cases: rows of ``lesion_metrics``.

    Returns:
        -1 … 1; NaN where it does not exist: fewer than two cases, or a volume that is the same in all of them.
    """
    volumes = np.array([[row["volume_ref_ml"], row["volume_pred_ml"]] for row in cases], dtype=float).reshape(-1, 2)
    if len(volumes) < 2 or np.any(np.ptp(volumes, axis=0) == 0):
        return math.nan
    return float(np.corrcoef(volumes, rowvar=False)[0, 1])


def isbi2015_score(cases: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Score of the ISBI-2015 challenge for every case, before the challenge scales it by its second rater.

    Dice / 8 + PPV / 8 + (1 - LFPR) / 4 + LTPR / 4 + Corr / 4 with Corr the ``volume_correlation`` over all cases.

    Args:
        cases: rows of ``lesion_metrics``.

    Returns:
        One value a case, 1 at best; all NaN where the correlation does not exist.
    """
    correlation = volume_correlation(cases)
    scores = [(row["dice"] + row["ppv"]) / 8.0 + (1.0 - row["lfpr"] + row["ltpr"] + correlation) / 4.0 for row in cases]
    return np.array(scores, dtype=float)


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Average rows of ``lesion_metrics`` over cases.

    Args:
        rows: at least one row; other keys, such as the case's name, are ignored.

    Returns:
        A JSON-able dictionary. ``cases``: their number. ``metrics``: for each averaged metric and the ISBI-2015 score
        ``mean``, ``std`` (sample standard deviation, 0 for one case), ``n`` and ``left_out``, the number of cases
        whose value is not finite. ``volume_correlation``. ``lesion_volume_classes``: the lesions of all cases pooled,
        by the volume of the single lesion: the four counts, ``ltpr``, ``lppv`` and ``lf1``. What does not exist, such
        as the mean of no finite value or a rate of no lesion, is None.

    Raises:
        InputError: without any row.
    """
    cases = list(rows)
    if not cases:
        raise InputError("no case to summarise: the evaluation saw no image with a label; check the datalist")
    correlation = volume_correlation(cases)
    metrics = {key: _mean_and_deviation([float(row[key]) for row in cases]) for key in AVERAGED}
    return {
        "cases": len(cases),
        "metrics": {**metrics, "isbi2015_score": _mean_and_deviation(isbi2015_score(cases))},
        "volume_correlation": None if math.isnan(correlation) else correlation,
        "lesion_volume_classes": {name: _pooled(cases, name) for name in LESION_VOLUME_CLASSES},
    }


def _mean_and_deviation(values: ArrayLike) -> dict[str, float | int | None]:
    everything = np.asarray(values, dtype=float)
    finite = everything[np.isfinite(everything)]
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "std": float(finite.std(ddof=min(1, finite.size - 1))) if finite.size else None,
        "n": int(finite.size),
        "left_out": int(everything.size - finite.size),
    }


def _pooled(cases: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | int | None]:
    """Detection of the lesions of one volume class, all cases together; a hit may come from a lesion of any class."""
    counts = {key: sum(int(row[f"{key}_{name}"]) for row in cases) for key in LESION_COUNTS}
    ltpr = counts["n_ref_detected"] / counts["n_ref"] if counts["n_ref"] else None
    lppv = counts["n_pred_true"] / counts["n_pred"] if counts["n_pred"] else None
    lf1 = None if ltpr is None or lppv is None else _harmonic_mean(ltpr, lppv)
    larger = [volume for volume in LESION_VOLUME_CLASSES.values() if volume > LESION_VOLUME_CLASSES[name]]
    bounds = {"from_mm3": LESION_VOLUME_CLASSES[name], "below_mm3": min(larger, default=None)}
    return {**bounds, **counts, "ltpr": ltpr, "lppv": lppv, "lf1": lf1}


def write_reports(rows: Sequence[Mapping[str, Any]], folder: str | Path) -> tuple[Path, Path]:
    """Write ``metrics_per_case.csv`` (one row a case) and ``metrics_summary.json`` into ``folder``.

    Args:
        rows: rows of ``lesion_metrics``, each with the name of its ``case``.
        folder: made if missing.

    Returns:
        The paths of both files.

    Raises:
        InputError: without any row.
    """
    summary = summarise(rows)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["case", *ROW_KEYS])
    writer.writerows([row["case"], *(format(float(row[key]), ".10g") for key in ROW_KEYS)] for row in rows)
    return (
        write_text(Path(folder) / "metrics_per_case.csv", table.getvalue()),
        write_json(Path(folder) / "metrics_summary.json", summary),
    )
