# SPDX-License-Identifier: Apache-2.0
"""Finished zoom-in&out runs, ranked by their Dice on whole validation volumes.

The loss on crops does not compare between crop sizes, the Dice of the whole volume does.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError

RECORD = "zoom_in_out.json"
STAGES = ("zoom_in", "zoom_out")
_SUMMARY = "eval/evaluation/{stage}/metrics_summary.json"


class Unfinished(Exception):
    """A run that cannot be ranked; the message says why."""


@dataclass(frozen=True)
class RankedRun:
    """A finished run; Dice is over whole validation volumes.

    Attributes:
        rank: 1 is the best.
        run: its folder, relative to the folder that was searched.
        dice: mean over scans after zoom-out.
        dice_low: lower end of its 95 % confidence interval; None where there is none.
        dice_high: upper end.
        micro_dice: over all voxels of all scans.
        zoom_in_dice: mean over scans after zoom-in alone; None where that was not evaluated.
        zoom_in_size: crop of the first stage.
        zoom_out_size: crop of the second stage.
        zoom_in_epochs: budget of the first stage.
        zoom_out_epochs: budget of the second stage.
        seconds: how long the run took.
    """

    rank: int
    run: str
    dice: float
    dice_low: float | None
    dice_high: float | None
    micro_dice: float | None
    zoom_in_dice: float | None
    zoom_in_size: str
    zoom_out_size: str
    zoom_in_epochs: int
    zoom_out_epochs: int
    seconds: float


@dataclass(frozen=True)
class BrokenRun:
    """A run that could not be ranked."""

    run: str
    reason: str


def rank_runs(folder: str | Path) -> tuple[list[RankedRun], list[BrokenRun]]:
    """Find and rank the runs below a folder (which may be a run itself).

    A run is a folder with ``zoom_in_out.json`` or with the evaluation of a stage.

    Returns:
        The finished runs, best first, ties in the order of their names; and the others with the reason.

    Raises:
        InputError: the folder does not exist or holds no run.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder: give the folder that holds the runs")
    records = {path.parent for path in root.rglob(RECORD)}
    evaluated = {path.parents[3] for stage in STAGES for path in root.rglob(_SUMMARY.format(stage=stage))}
    if not records | evaluated:
        raise InputError(f"{folder}: there is no {RECORD} below it: start the runs with 'python -m tools.zoom_in_out'")
    finished, broken = list[RankedRun](), list[BrokenRun]()
    for run in sorted(records | evaluated):
        name = run.relative_to(root).as_posix()
        try:
            finished.append(_read_run(run, name))
        except Unfinished as reason:
            broken.append(BrokenRun(name, str(reason)))
    finished.sort(key=lambda run: -run.dice)
    return [RankedRun(**{**asdict(run), "rank": place}) for place, run in enumerate(finished, 1)], broken


def ranking_csv(ranked: Sequence[RankedRun]) -> str:
    """The ranked runs as comma-separated text with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(RankedRun)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(run) for run in ranked)
    return text.getvalue()


def _read_run(run: Path, name: str) -> RankedRun:
    """One run, its place still open.

    Raises:
        Unfinished: a file or a value is missing or broken.
    """
    record, summary = _load(run, RECORD), _load(run, _SUMMARY.format(stage="zoom_out"))
    metrics = summary.get("metrics")
    dice = metrics.get("dice") if isinstance(metrics, dict) else None
    mean = _number(dice.get("mean")) if isinstance(dice, dict) else None
    if mean is None:
        raise Unfinished(f"{_SUMMARY.format(stage='zoom_out')} has no finite metrics.dice.mean")
    interval = dice.get("ci95") if isinstance(dice, dict) else None
    low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
    return RankedRun(
        rank=0,
        run=name,
        dice=mean,
        dice_low=_number(low),
        dice_high=_number(high),
        micro_dice=_number(summary.get("micro_dice")),
        zoom_in_dice=_zoom_in_dice(run),
        zoom_in_size=_size(record, "zoom_in_size"),
        zoom_out_size=_size(record, "zoom_out_size"),
        zoom_in_epochs=int(_recorded(record, "zoom_in_epochs")),
        zoom_out_epochs=int(_recorded(record, "zoom_out_epochs")),
        seconds=_recorded(record, "seconds"),
    )


def _load(run: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((run / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Unfinished(f"no {name}: not finished") from None
    except (OSError, ValueError) as error:
        raise Unfinished(f"{name} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise Unfinished(f"{name} holds a {type(content).__name__}, not an object")
    return content


def _zoom_in_dice(run: Path) -> float | None:
    """Of the first stage; the ranking does not depend on it."""
    try:
        return _number(_load(run, _SUMMARY.format(stage="zoom_in"))["metrics"]["dice"]["mean"])
    except (Unfinished, KeyError, TypeError):
        return None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _recorded(record: dict[str, Any], key: str) -> float:
    value = _number(record.get(key))
    if value is None:
        raise Unfinished(f"{RECORD} has no number {key!r} (found {record.get(key)!r})")
    return value


def _size(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, list) or len(value) != 3 or not all(type(length) is int for length in value):
        raise Unfinished(f"{RECORD} has no size {key!r} of three whole numbers (found {value!r})")
    return "x".join(map(str, value))
