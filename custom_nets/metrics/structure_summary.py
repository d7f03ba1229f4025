# SPDX-License-Identifier: Apache-2.0
"""Many structures over a set of cases: means as the S2A-Net paper takes them, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.metrics.statistics import at_least_one, mean_and_deviation
from custom_nets.metrics.structures import STRUCTURE_AVERAGED

Row = Mapping[str, Any]


def summarise_structures(rows: Iterable[Row]) -> dict[str, Any]:
    """Average rows of ``structure_metrics`` over cases and structures.

    Args:
        rows: at least one, each with the name of its ``case`` beside the values of ``structure_metrics``.

    Returns:
        A JSON-able dictionary. ``cases``: their number. ``pairs``: how many case-structure pairs the reference has
        (``present``), how many of those the prediction lacks altogether (``missed``), and how many are predicted where
        the reference has none (``hallucinated``, with their volume ``hallucinated_ml``). ``metrics``: for each metric
        ``mean``, ``std`` (sample standard deviation), ``n`` and ``left_out`` over all case-structure pairs, which is
        the paper's mean. ``over_structures``: the same of the structures' means, in which a structure that few cases
        have weighs as much as any other. ``structures``: for each name its ``label``, the counts of its pairs and the
        same numbers over cases. What does not exist is None.

        The mean of ``rvd``, which has a sign, is no measure of error: too large and too small cancel; see
        ``rvd_absolute``. ``hd``, ``hd95`` and ``assd`` leave missed structures out, which flatters a model that misses
        what is difficult: read them beside ``missed``.

    Raises:
        InputError: without any row.
    """
    pairs = at_least_one(rows)
    keys = averaged_keys(pairs)
    groups = grouped(pairs, "name")
    structures: dict[str, dict[str, Any]] = {
        name: {"label": int(own[0]["structure"]), **pair_counts(own), **_averages(own, keys)}
        for name, own in groups.items()
    }
    means = {key: [_as_float(one[key]["mean"]) for one in structures.values()] for key in keys}
    return {
        "cases": len(grouped(pairs, "case")),
        "pairs": pair_counts(pairs),
        "metrics": _averages(pairs, keys),
        "over_structures": {key: mean_and_deviation(values) for key, values in means.items()},
        "structures": structures,
    }


def case_means(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Average rows of ``structure_metrics`` over the structures of each case.

    Args:
        rows: at least one, each with the name of its ``case``.

    Returns:
        One row a case: the ``case``, the counts of its pairs as in :func:`summarise_structures`, and for each metric
        the mean over the structures that have a value, NaN without one.

    Raises:
        InputError: without any row.
    """
    pairs = at_least_one(rows)
    keys = averaged_keys(pairs)
    return [
        {
            "case": case,
            **pair_counts(own),
            **{key: _as_float(mean["mean"]) for key, mean in _averages(own, keys).items()},
        }
        for case, own in grouped(pairs, "case").items()
    ]


def structure_means(values: ArrayLike, nan_as_zero: bool = False) -> NDArray[np.float64]:
    """Average a metric of every structure over cases.

    Args:
        values: cases x structures; NaN where the metric does not exist.
        nan_as_zero: NaN counts as 0, as in the paper's significance test: a structure that half of the cases have
            cannot have a mean Dice above 0.5, and a missed structure gets the best of all distances. Otherwise NaN is
            left out.

    Returns:
        One mean a structure, NaN where there is no value.
    """
    table = np.asarray(values, dtype=float)
    known = ~np.isnan(table)
    sums = np.where(known, table, 0.0).sum(axis=0)
    counts = np.full(sums.shape, len(table)) if nan_as_zero else known.sum(axis=0)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def averaged_keys(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that rows of ``structure_metrics`` hold: surface distances may not have been computed."""
    return [key for key in STRUCTURE_AVERAGED if key in rows[0]]


def grouped(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """Return rows by their value of ``key``, in the order of its first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def pair_counts(rows: Sequence[Row]) -> dict[str, float]:
    """Count case-structure pairs: ``present``, ``missed``, ``hallucinated`` and the volume of those in ml."""
    hallucinated = [row["volume_pred_ml"] for row in rows if not row["volume_ref_ml"] and row["volume_pred_ml"]]
    present = [row for row in rows if row["volume_ref_ml"]]
    return {
        "present": len(present),
        "missed": sum(not row["volume_pred_ml"] for row in present),
        "hallucinated": len(hallucinated),
        "hallucinated_ml": float(sum(hallucinated)),
    }


def _averages(rows: Sequence[Row], keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {key: mean_and_deviation([float(row[key]) for row in rows]) for key in keys}


def _as_float(mean: float | None) -> float:
    return float("nan") if mean is None else mean
