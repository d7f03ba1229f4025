# SPDX-License-Identifier: Apache-2.0
"""Scores of a cross-validation: each case's from the fold that had not seen it, and how they vary."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import write_json, write_text
from custom_nets.metrics.reports import cases_csv
from custom_nets.metrics.statistics import mean_and_deviation
from custom_nets.metrics.structure_reports import STRUCTURE_TABLE

Row = dict[str, Any]

CASE_TABLE = "metrics_per_case.csv"
_TEXTS = ("case", "name", "group")
_NO_METRICS = (*_TEXTS, "structure", "fold")


@dataclass(frozen=True)
class FoldScores:
    """What the evaluation of one fold wrote.

    Attributes:
        cases: one row a case.
        structures: one row a case and structure; none where the bundle writes no such table.
    """

    cases: Sequence[Row]
    structures: Sequence[Row]


def read_fold(folder: str | Path) -> FoldScores:
    """Read the tables of an evaluation.

    Args:
        folder: with ``metrics_per_case.csv`` and maybe ``metrics_per_structure.csv``.

    Raises:
        InputError: the first is missing, or a table cannot be read.
    """
    folder = Path(folder)
    structures = folder / STRUCTURE_TABLE
    return FoldScores(_rows(folder / CASE_TABLE), _rows(structures) if structures.is_file() else [])


def summarise_folds(folds: Sequence[FoldScores]) -> dict[str, Any]:
    """Average each metric over cases and over folds.

    Args:
        folds: one or more, each with at least one case.

    Returns:
        A JSON-able dictionary: number of ``cases``, ``cases_per_fold``, and under ``metrics`` for each metric ``mean``,
        ``std`` (sample standard deviation over all cases), ``n``, ``left_out`` (values that do not exist), the means of
        the folds ``fold_means`` and of these ``mean_of_folds`` and ``std_of_folds`` (sample standard deviation, which
        for folds of few cases mostly tells how cases differ). ``structures``: the same for each structure by name,
        where the bundle scores structures.

    Raises:
        InputError: a case is scored in two folds.
    """
    names = [row["case"] for fold in folds for row in fold.cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{min(twice)}: is scored in two of {len(folds)} folds; delete the older scores.")
    structures = dict.fromkeys(row["name"] for fold in folds for row in fold.structures)
    return {
        "cases": len(names),
        "cases_per_fold": [len(fold.cases) for fold in folds],
        "metrics": _averages([fold.cases for fold in folds]),
        "structures": {
            name: _averages([[row for row in fold.structures if row["name"] == name] for fold in folds])
            for name in structures
        },
    }


def write_fold_reports(folds: Sequence[FoldScores], folder: str | Path) -> dict[str, Any]:
    """Write the tables of a cross-validation, each of them whole.

    ``metrics_per_case.csv`` (and ``metrics_per_structure.csv``) have the rows of all folds with the number of the fold,
    ``metrics_summary.json`` is that of :func:`summarise_folds`, ``metrics.csv`` the same as a table.

    Args:
        folds: as for :func:`summarise_folds`.
        folder: made if missing.

    Returns:
        The summary.
    """
    folder = Path(folder)
    summary = summarise_folds(folds)
    for name, tables in (
        (CASE_TABLE, [fold.cases for fold in folds]),
        (STRUCTURE_TABLE, [fold.structures for fold in folds]),
    ):
        rows = [{"case": row["case"], "fold": number, **row} for number, own in enumerate(tables, 1) for row in own]
        if rows:
            write_text(folder / name, cases_csv(rows))
    write_text(folder / "metrics.csv", _table(summary))
    write_json(folder / "metrics_summary.json", summary)
    return summary


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {key: value if key in _TEXTS else float(value) for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): run the same command again.") from error
    if not rows:
        raise InputError(f"{path}: has no row: delete its folder and run the same command again.")
    return rows


def _averages(folds: Sequence[Sequence[Row]]) -> dict[str, Any]:
    rows = [row for fold in folds for row in fold]
    return {key: _average([[row[key] for row in fold] for fold in folds]) for key in _metrics_in(rows)}


def _metrics_in(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that are numbers to be averaged."""
    return [key for key in rows[0] if key not in _NO_METRICS]


def _average(folds: Sequence[Sequence[float]]) -> dict[str, Any]:
    means = [mean_and_deviation(fold)["mean"] for fold in folds]
    over_folds = mean_and_deviation([mean for mean in means if mean is not None])
    return {
        **mean_and_deviation([value for fold in folds for value in fold]),
        "fold_means": means,
        "mean_of_folds": over_folds["mean"],
        "std_of_folds": over_folds["std"],
    }


def _table(summary: Mapping[str, Any]) -> str:
    """One line a metric, then one a structure and metric."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    numbers = ("mean", "std", "n", "left_out", "mean_of_folds", "std_of_folds")
    folds = [f"fold{number}" for number, _ in enumerate(summary["cases_per_fold"], 1)]
    writer.writerow(["structure", "metric", *numbers, *folds])
    for structure, metrics in {"": summary["metrics"], **summary["structures"]}.items():
        for key, one in metrics.items():
            values = [*(one[number] for number in numbers), *one["fold_means"]]
            writer.writerow([structure, key, *("" if value is None else f"{value:.10g}" for value in values)])
    return table.getvalue()
