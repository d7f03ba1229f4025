# SPDX-License-Identifier: Apache-2.0
"""Multiple-sclerosis lesions over a set of cases.

The set of metrics is the usual one of the field (the measures of the ISBI-2015 longitudinal MS lesion challenge and
lesion-wise F1). The RSANet paper's own evaluation code was never published, so no number from here is "the paper's".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.metrics.lesions import LESION_COUNTS, LESION_VOLUME_CLASSES, harmonic_mean
from custom_nets.metrics.statistics import at_least_one, mean_and_deviation

#: What is averaged over cases.
AVERAGED = ("dice", "tpr", "ppv", "volume_difference", "ltpr", "lppv", "lfpr", "lf1")


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


def summarise_ms(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
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
    cases = at_least_one(rows)
    correlation = volume_correlation(cases)
    metrics = {key: mean_and_deviation([float(row[key]) for row in cases]) for key in AVERAGED}
    return {
        "cases": len(cases),
        "metrics": {**metrics, "isbi2015_score": mean_and_deviation(isbi2015_score(cases))},
        "volume_correlation": None if math.isnan(correlation) else correlation,
        "lesion_volume_classes": {name: _pooled(cases, name) for name in LESION_VOLUME_CLASSES},
    }


def _pooled(cases: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | int | None]:
    """Detection of the lesions of one volume class, all cases together; a hit may come from a lesion of any class."""
    counts = {key: sum(int(row[f"{key}_{name}"]) for row in cases) for key in LESION_COUNTS}
    ltpr = counts["n_ref_detected"] / counts["n_ref"] if counts["n_ref"] else None
    lppv = counts["n_pred_true"] / counts["n_pred"] if counts["n_pred"] else None
    lf1 = None if ltpr is None or lppv is None else harmonic_mean(ltpr, lppv)
    larger = [volume for volume in LESION_VOLUME_CLASSES.values() if volume > LESION_VOLUME_CLASSES[name]]
    bounds = {"from_mm3": LESION_VOLUME_CLASSES[name], "below_mm3": min(larger, default=None)}
    return {**bounds, **counts, "ltpr": ltpr, "lppv": lppv, "lf1": lf1}
