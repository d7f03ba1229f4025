# SPDX-License-Identifier: Apache-2.0
"""The cells of result tables: a metric over scans, as ``statistics.distribution`` describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Heading of the cells of :func:`description`.
DESCRIPTION = ("mean", "95 % CI", "std", "median", "IQR", "n", "left out")


def with_interval(value: Mapping[str, Any] | None, digits: int) -> str:
    """Return the mean and its confidence interval, a dash without a mean."""
    if value is None or value["mean"] is None:
        return "–"
    return f"{value['mean']:.{digits}f} ({_range(value['ci95'], digits)})"


def with_deviation(value: Mapping[str, Any], digits: int, factor: float = 1.0) -> str:
    """Return the mean and the standard deviation, both times ``factor``, a dash without a mean."""
    if value["mean"] is None:
        return "–"
    return " ± ".join(_number(factor * value[key], digits) for key in ("mean", "std"))


def description(value: Mapping[str, Any]) -> list[str]:
    """Return one cell for everything that is known of a metric; dashes for what does not exist."""
    spread = [_number(value["std"]), _number(value["median"]), _range(value["iqr"])]
    return [_number(value["mean"]), _range(value["ci95"]), *spread, str(value["n"]), str(value["left_out"])]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else format(value, f".{digits}f")


def _range(bounds: Sequence[float] | None, digits: int = 3) -> str:
    if bounds is None:
        return "–"
    low, high = (_number(bound, digits) for bound in bounds)
    # a minus sign beside a dash reads as neither
    return f"{low} to {high}" if bounds[0] < 0 else f"{low}–{high}"
