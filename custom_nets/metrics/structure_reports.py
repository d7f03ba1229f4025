# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation of many structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.files import write_text
from custom_nets.metrics.reports import cases_csv, write_reports
from custom_nets.metrics.structure_figure import structure_figure
from custom_nets.metrics.structure_summary import case_means, grouped, summarise_structures

#: One row a case and structure; what tools.compare reads.
STRUCTURE_TABLE = "metrics_per_structure.csv"


def write_structure_reports(rows: Sequence[Mapping[str, Any]], folder: str | Path, **notes: Any) -> list[Path]:
    """Write the tables, the summary and the picture of an evaluation.

    ``metrics_per_structure.csv`` has one row a case and structure, ``metrics_per_case.csv`` one row a case with means
    over its structures, ``metrics_summary.json`` is that of ``summarise_structures``, and ``structures.png`` shows the
    structures sorted by their mean Dice, with each case's value.

    Args:
        rows: at least one: those of ``structure_metrics``, each with the name of its ``case``.
        folder: made if missing.
        notes: JSON-able, for the summary; how the numbers were computed.

    Returns:
        The paths of the files, each of them whole.

    Raises:
        InputError: without any row.
    """
    folder = Path(folder)
    summary = {**summarise_structures(rows), **notes}
    dice = {name: np.array([row["dice"] for row in own], dtype=float) for name, own in grouped(rows, "name").items()}
    return [
        write_text(folder / STRUCTURE_TABLE, cases_csv(rows)),
        *write_reports(case_means(rows), summary, folder),
        structure_figure(dice, folder / "structures.png"),
    ]
