# SPDX-License-Identifier: Apache-2.0
"""Spines over the cases of an evaluation: the paper's table, and which names are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from custom_nets.metrics.label_order import CALLS
from custom_nets.metrics.reports import markdown_table
from custom_nets.metrics.spine import SPINE_MEASURES
from custom_nets.metrics.statistics import at_least_one, left_out_note, mean_and_deviation
from custom_nets.metrics.structure_summary import Row, grouped, pair_counts
from custom_nets.metrics.table_cells import with_deviation

#: Measure -> (heading of its column, digits after the point, factor).
COLUMNS: dict[str, tuple[str, int, float]] = {
    "dice": ("DSC %", 2, 100.0),
    "precision": ("precision %", 2, 100.0),
    "recall": ("recall %", 2, 100.0),
    "assd": ("ASSD mm", 2, 1.0),
}

#: What a structure is called that its prediction lacks.
NOTHING = "background"


def summarise_spine(cases: Sequence[Row], structures: Sequence[Row]) -> dict[str, Any]:
    """Describe the scores of ``spine_metrics`` over cases.

    Args:
        cases: at least one: ``SpineScores.case`` with the name of the ``case``.
        structures: ``SpineScores.structures`` of all of them, each with the name of its ``case``.

    Returns:
        A JSON-able dictionary. ``cases``: their number. ``metrics``: for each number of a case ``mean``, ``std`` of
        the population as in the paper's table, ``n`` and ``left_out``, as fractions. ``structures``: for each name its
        ``label``, ``group``, how many cases have it, miss it or invent it, and the same numbers over cases. ``order``:
        ``calls``, the structures of all cases by what they are called; ``confusion``, name -> name it is called ->
        number of cases; ``shifted``, name of a case -> number of its chain -> places, for whole chains.

    Raises:
        InputError: without any case.
    """
    rows = at_least_one(cases)
    keys = averaged_keys(rows)
    shifts = [key for key in rows[0] if key.startswith("chain_shift_")]
    return {
        "cases": len(rows),
        "metrics": {key: _average(rows, key) for key in keys},
        "structures": {name: _structure(own) for name, own in grouped(structures, "name").items()},
        "order": {
            "calls": {kind: int(sum(row[f"called_{kind}"] for row in rows)) for kind in CALLS},
            "confusion": confusion(structures),
            "shifted": {
                row["case"]: {key: int(row[key]) for key in shifts if row[key]}
                for row in rows
                if any(row[key] for key in shifts)
            },
        },
    }


def averaged_keys(cases: Sequence[Row]) -> list[str]:
    """Return the numbers of a case that are averaged over cases."""
    return [key for key in cases[0] if key != "case" and not key.startswith(("called_", "chain_shift_"))]


def confusion(structures: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Count by name how often a structure of the reference is called what."""
    names = {int(row["structure"]): str(row["name"]) for row in structures} | {0: NOTHING}
    return {
        name: dict(Counter(names[int(row["called"])] for row in own if not np.isnan(row["called"])))
        for name, own in grouped(structures, "name").items()
    }


def spine_table(summary: Mapping[str, Any]) -> str:
    """Write a summary as Markdown: the paper's table of groups, one line a structure, and the errors of order.

    Args:
        summary: of :func:`summarise_spine`.

    Returns:
        Markdown. A dash stands for what does not exist.
    """
    metrics, order = summary["metrics"], summary["order"]
    columns = [measure for measure in SPINE_MEASURES if f"{measure}_all" in metrics]
    headings = [COLUMNS[measure][0] for measure in columns]
    groups = [key.removeprefix("dice_") for key in metrics if key.startswith("dice_") and key != "dice_whole"]
    lines = [[group, *(_cell(metrics[f"{measure}_{group}"], measure) for measure in columns)] for group in groups]
    each = [
        [
            name,
            *(_cell(own[measure], measure) for measure in columns),
            *(str(own[key]) for key in ("present", "missed", "hallucinated")),
        ]
        for name, own in summary["structures"].items()
    ]
    note = left_out_note(metrics, summary["cases"]) or "no scan was left out of a mean"
    return "\n".join(
        [
            *markdown_table(["group", *headings], lines),
            "",
            f"Mean ± standard deviation (of the population) over {summary['cases']} scans of the mean over a scan's"
            f" structures. {note[0].upper()}{note[1:]}.",
            "",
            *markdown_table(["structure", *headings, "scans", "missed", "invented"], each),
            "",
            *_order_lines(order),
            "",
        ]
    )


def _order_lines(order: Mapping[str, Any]) -> list[str]:
    """What is said of the names."""
    calls = ", ".join(f"{kind} {count}" for kind, count in order["calls"].items())
    lines = [f"Names of vertebrae and discs, by the label of most voxels: {calls}."]
    wrong = [
        [name, other, str(count)]
        for name, called in order["confusion"].items()
        for other, count in called.items()
        if other != name
    ]
    if wrong:
        lines += ["", *markdown_table(["structure", "called", "scans"], wrong)]
    if order["shifted"]:
        places = [
            [case, key.removeprefix("chain_shift_"), f"{shift:+d}"]
            for case, own in order["shifted"].items()
            for key, shift in own.items()
        ]
        lines += ["", *markdown_table(["scan", "whole chain shifted", "places upwards"], places)]
    return lines


def _average(rows: Sequence[Row], key: str) -> dict[str, Any]:
    return mean_and_deviation([float(row[key]) for row in rows], of_population=True)


def _structure(rows: Sequence[Row]) -> dict[str, Any]:
    """One structure over cases."""
    keys = [key for key in (*SPINE_MEASURES, "neighbour_share") if key in rows[0]]
    label = {"label": int(rows[0]["value"]), "group": rows[0]["group"]}
    return {**label, **pair_counts(rows), **{key: _average(rows, key) for key in keys}}


def _cell(value: Mapping[str, Any], measure: str) -> str:
    _, digits, factor = COLUMNS[measure]
    return with_deviation(value, digits, factor)
