# SPDX-License-Identifier: Apache-2.0
"""Scores of several evaluations of spines as one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.metrics.spine_reports import write_spine_reports
from custom_nets.metrics.structure_reports import STRUCTURE_TABLE

_TEXTS = ("case", "name", "group")


def merged_scores(folders: Sequence[Path], graph: LabelGraph, folder: Path) -> list[Path]:
    """Write the reports of all cases of several evaluations: mean ± deviation over all cases, not over evaluations.

    Args:
        folders: of the evaluations, with the tables that `write_spine_reports` writes; no case occurs twice.
        graph: of the label maps.
        folder: where the reports go.

    Returns:
        The files.

    Raises:
        InputError: a table is missing, or a case occurs twice.
    """
    cases, structures = (
        [row for one in folders for row in _rows(one / name)] for name in ("metrics_per_case.csv", STRUCTURE_TABLE)
    )
    names = [row["case"] for row in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{min(twice)}: is scored in two of {len(folders)} evaluations; delete the older one.")
    summary = json.loads((folders[0] / "metrics_summary.json").read_text(encoding="utf-8"))
    notes = {key: summary[key] for key in ("assd",) if key in summary}
    return write_spine_reports(cases, structures, graph, folder, **notes)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: is missing; run the same command again.")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: value if key in _TEXTS else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
