# SPDX-License-Identifier: Apache-2.0
"""Brain tumours over the cases of an evaluation: distributions per region, and the result table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from custom_nets.metrics.reports import markdown_table
from custom_nets.metrics.statistics import at_least_one, distribution, left_out_note
from custom_nets.metrics.table_cells import DESCRIPTION, description, with_interval
from custom_nets.metrics.tumours import EMPTY_HD95, TUMOUR_AVERAGED, TUMOUR_MEASURES, TUMOUR_SIZES, empty_rule_regions
from custom_nets.tumours.regions import REGIONS

#: Measure -> (heading of its column, digits after the point).
COLUMNS: dict[str, tuple[str, int]] = {
    "dice": ("Dice", 3),
    "hd95": ("HD95 mm", 2),
    "sensitivity": ("sensitivity", 3),
    "specificity": ("specificity", 4),
    "lesion_dice": ("lesion-wise Dice", 3),
    "lesion_hd95": ("lesion-wise HD95 mm", 1),
}


#: Rule for empty regions -> what the table says of it.
_EMPTY_NOTES = {
    "all": "Empty regions, as the challenge: both masks empty is Dice 1 and HD95 0 mm, one empty Dice 0 and HD95"
    f" {EMPTY_HD95} mm.",
    "et": f"Empty regions: both masks of ET empty is Dice 1 and HD95 0 mm, one empty Dice 0 and HD95 {EMPTY_HD95} mm;"
    " TC and WT have no Dice without a reference and no HD95 where a mask is empty.",
}


def summarise_tumours(
    rows: Iterable[Mapping[str, Any]], empty_rule: str = "all", resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Describe rows of ``tumour_metrics`` over cases.

    Args:
        rows: at least one row; other keys, such as the case's name, are ignored.
        empty_rule: with which the rows were made.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A JSON-able dictionary. ``cases``: their number. ``metrics``: for each averaged key of the rows, such as
        ``dice_et`` or ``mean_dice`` (of a case over its three regions), ``mean``, ``ci95`` (95 % bootstrap interval of
        the mean), ``std`` (sample standard deviation), ``median``, ``iqr`` (first and third quartile), ``n``, and
        ``left_out``, the number of cases for which it is undefined; what does not exist is None. ``empty_rule``.
        ``bootstrap``: ``resamples`` and ``seed``.

    Raises:
        InputError: without any row, for another rule, or for fewer than one resample.
    """
    empty_rule_regions(empty_rule)
    cases = at_least_one(rows)
    return {
        "cases": len(cases),
        "metrics": {
            key: distribution([float(row[key]) for row in cases], resamples, seed) for key in averaged_keys(cases)
        },
        "empty_rule": empty_rule,
        "bootstrap": {"resamples": resamples, "seed": seed},
    }


def averaged_keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the averaged keys that rows of ``tumour_metrics`` hold."""
    return [key for key in TUMOUR_AVERAGED if key in rows[0]]


def region_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a case and region, named ``case`` and ``name``: the table that compares structures reads these."""
    return [
        {"case": row["case"], "name": region}
        | {
            measure: row[f"{measure}_{region.lower()}"]
            for measure in (*TUMOUR_MEASURES, *TUMOUR_SIZES)
            if f"{measure}_{region.lower()}" in row
        }
        for row in rows
        for region in REGIONS
    ]


def tumour_table(summary: Mapping[str, Any]) -> str:
    """Write a summary as Markdown: one line a region and one for their mean, and everything that was measured.

    Args:
        summary: of :func:`summarise_tumours`.

    Returns:
        Markdown. A dash stands for what does not exist.
    """
    metrics, bootstrap = summary["metrics"], summary["bootstrap"]
    columns = {measure: column for measure, column in COLUMNS.items() if f"{measure}_et" in metrics}
    keys = {region: [f"{measure}_{region.lower()}" for measure in columns] for region in REGIONS}
    keys["mean of the regions"] = [f"mean_{measure}" for measure in columns]
    digits = [column[1] for column in columns.values()]
    lines = [
        [name, *(with_interval(metrics.get(key), places) for key, places in zip(own, digits, strict=True))]
        for name, own in keys.items()
    ]
    note = left_out_note(metrics, summary["cases"]) or "no scan was left out of a mean"
    return "\n".join(
        [
            *markdown_table(["region", *(heading for heading, _ in columns.values())], lines),
            "",
            f"Mean over {summary['cases']} scans (95 % confidence interval of the mean: percentile bootstrap,"
            f" {bootstrap['resamples']} resamples, seed {bootstrap['seed']}).",
            f"{_EMPTY_NOTES[summary['empty_rule']]} {note[0].upper()}{note[1:]}.",
            "",
            *markdown_table(("metric", *DESCRIPTION), [[key, *description(value)] for key, value in metrics.items()]),
            "",
        ]
    )
