# SPDX-License-Identifier: Apache-2.0
"""The result table of an evaluation of stroke lesions, with the columns of the 3D-ResU-Net paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custom_nets.metrics.reports import markdown_table
from custom_nets.metrics.stroke import left_out_note

#: Heading of the paper's column -> (metric, digits after the point). microDSC, without an interval, comes before them.
PAPER_COLUMNS: dict[str, tuple[str, int]] = {
    "DSC": ("dice", 2),
    "HD mm": ("hd", 1),
    "ASSD mm": ("assd", 1),
    "TPR": ("tpr", 2),
    "precision": ("precision", 2),
}

_EVERYTHING = ("metric", "mean", "95 % CI", "std", "median", "IQR", "n", "left out")


def stroke_table(summary: Mapping[str, Any]) -> str:
    """Write a summary as Markdown: one line in the paper's form, and everything that was measured.

    Args:
        summary: of :func:`~custom_nets.metrics.summarise_stroke`.

    Returns:
        Markdown. A dash stands for what does not exist or was not computed.
    """
    metrics, bootstrap = summary["metrics"], summary["bootstrap"]
    headline = [format(summary["micro_dice"], ".2f")]
    headline += [_with_interval(metrics.get(key), digits) for key, digits in PAPER_COLUMNS.values()]
    note = left_out_note(metrics, summary["cases"]) or "no scan was left out of a mean"
    return "\n".join(
        [
            *markdown_table(["scans", "microDSC", *PAPER_COLUMNS], [[str(summary["cases"]), *headline]]),
            "",
            "microDSC: Dice over the voxels of all scans together. The others: mean over scans"
            " (95 % confidence interval of the mean: percentile bootstrap,"
            f" {bootstrap['resamples']} resamples, seed {bootstrap['seed']}).",
            f"{note[0].upper()}{note[1:]}.",
            "",
            *markdown_table(_EVERYTHING, [_description(key, value) for key, value in metrics.items()]),
            "",
        ]
    )


def _with_interval(value: Mapping[str, Any] | None, digits: int) -> str:
    if value is None or value["mean"] is None:
        return "–"
    return f"{value['mean']:.{digits}f} ({_range(value['ci95'], digits)})"


def _description(key: str, value: Mapping[str, Any]) -> list[str]:
    spread = [_number(value["std"]), _number(value["median"]), _range(value["iqr"])]
    return [key, _number(value["mean"]), _range(value["ci95"]), *spread, str(value["n"]), str(value["left_out"])]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else format(value, f".{digits}f")


def _range(bounds: Sequence[float] | None, digits: int = 3) -> str:
    if bounds is None:
        return "–"
    low, high = (_number(bound, digits) for bound in bounds)
    # a minus sign beside a dash reads as neither
    return f"{low} to {high}" if bounds[0] < 0 else f"{low}–{high}"
