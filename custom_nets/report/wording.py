# SPDX-License-Identifier: Apache-2.0
"""Numbers as the page writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

_DASH = "–"
_SIDES = ("RL", "AP", "SI")


def millilitres(value: float | None) -> str:
    """A volume: two decimals, ``<0.01`` below them."""
    if value is None:
        return _DASH
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def digits_of(metric: str) -> int:
    """Decimals of a metric: three of a Dice, two of a distance in mm."""
    return 3 if metric == "dice" else 2


def metric(value: float | None, name: str) -> str:
    """A metric, a dash where it does not exist."""
    return _DASH if value is None else f"{value:.{digits_of(name)}f}"


def place(position: Sequence[float] | None) -> str:
    """RAS coordinates in mm with the letter of the side: ``R 12.0, P 3.5, S 40.1``."""
    if position is None:
        return _DASH
    sides = (pair[value < 0] for pair, value in zip(_SIDES, position, strict=True))
    return ", ".join(f"{side} {abs(value):.1f}" for side, value in zip(sides, position, strict=True))


def along(position: float, plane: str) -> str:
    """Where a plane cuts the axis across it: ``S 40.1 mm``."""
    pair = _SIDES[("sagittal", "coronal", "axial").index(plane)]
    return f"{pair[position < 0]} {abs(position):.1f} mm"


def duration(seconds: float | None) -> str:
    """Seconds, from two minutes on minutes."""
    if seconds is None:
        return _DASH
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def counted(number: int, noun: str) -> str:
    """A number and its noun: ``1 case``, ``2 cases``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def times(values: Sequence[float], digits: int = 0) -> str:
    """Sizes along the axes: ``240 × 240 × 155``."""
    return " × ".join(f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:g}" for value in values)


def shown(value: Any) -> str:
    """A setting: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


#: Of the page's templates.
FILTERS: dict[str, Callable[..., str]] = {
    one.__name__: one for one in (millilitres, metric, place, along, duration, counted, times, shown)
}
