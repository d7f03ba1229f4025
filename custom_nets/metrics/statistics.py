# SPDX-License-Identifier: Apache-2.0
"""A metric over the scans of an evaluation: mean, spread, and how sure the mean is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.errors import InputError


def at_least_one(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of an evaluation as a list.

    Raises:
        InputError: if there is none.
    """
    cases = list(rows)
    if not cases:
        raise InputError("no case to summarise: the evaluation saw no image with a label; check the datalist")
    return cases


def mean_and_deviation(values: ArrayLike, of_population: bool = False) -> dict[str, Any]:
    """Average the finite values.

    Args:
        values: one a scan; NaN and infinity are values that do not exist.
        of_population: ``std`` is that of these values themselves, divided by n in place of n - 1.

    Returns:
        ``mean`` and ``std`` (sample standard deviation, 0 for one value), both None without a finite value; ``n``, the
        number of values averaged, and ``left_out``, of those that were not.
    """
    everything = np.asarray(values, dtype=float)
    finite = _finite(everything)
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "std": float(finite.std(ddof=0 if of_population else min(1, finite.size - 1))) if finite.size else None,
        "n": int(finite.size),
        "left_out": int(everything.size - finite.size),
    }


def bootstrap_interval(values: ArrayLike, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean over scans: the percentile bootstrap.

    The scans are drawn with replacement ``resamples`` times; the interval runs from the 2.5th to the 97.5th percentile
    of the means. The brackets of the 3D-ResU-Net paper's result table are such intervals, not quartiles.

    Args:
        values: one finite value a scan, at least one.
        resamples: 1 or more; 2000 settle the second digit.
        seed: of the draws.

    Raises:
        InputError: without a value, or for fewer than one resample.
    """
    scans = np.asarray(values, dtype=float)
    if resamples < 1 or not scans.size:
        raise InputError(f"a bootstrap of {scans.size} values in {resamples} resamples; give at least one of each")
    drawn = np.random.RandomState(seed).randint(0, scans.size, size=(resamples, scans.size))
    low, high = np.percentile(scans[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def distribution(values: ArrayLike, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Describe a metric over scans.

    Args:
        values: one a scan; NaN and infinity are values that do not exist.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``mean``, ``ci95`` (:func:`bootstrap_interval` of the mean), ``std``, ``median``, ``iqr`` (first and third
        quartile), ``n`` and ``left_out``; all but the last two are None without a finite value.
    """
    moments = mean_and_deviation(values)
    finite = _finite(np.asarray(values, dtype=float))
    quartiles = np.percentile(finite, [25, 50, 75]).tolist() if finite.size else [None] * 3
    return {
        "mean": moments["mean"],
        "ci95": list(bootstrap_interval(finite, resamples, seed)) if finite.size else None,
        "std": moments["std"],
        "median": quartiles[1],
        "iqr": [quartiles[0], quartiles[2]] if finite.size else None,
        "n": moments["n"],
        "left_out": moments["left_out"],
    }


def left_out_note(metrics: Mapping[str, Mapping[str, Any]], cases: int) -> str:
    """Return one sentence on the means that leave scans out, empty when none does.

    Args:
        metrics: entries with ``left_out`` by name of the metric.
        cases: number of scans.
    """
    gaps = [f"{key} {value['left_out']}" for key, value in metrics.items() if value["left_out"]]
    if not gaps:
        return ""
    return f"scans left out of a mean, because a mask is empty, of {cases}: {', '.join(gaps)}"


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]
