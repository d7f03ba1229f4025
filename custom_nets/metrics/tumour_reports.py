# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation of brain tumours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.files import write_text
from custom_nets.metrics.region_figure import region_figure
from custom_nets.metrics.reports import cases_csv, write_reports
from custom_nets.metrics.structure_reports import STRUCTURE_TABLE
from custom_nets.metrics.tumour_summary import region_rows, summarise_tumours, tumour_table
from custom_nets.tumours.regions import REGIONS


def write_tumour_reports(
    rows: Sequence[Mapping[str, Any]],
    folder: str | Path,
    empty_rule: str = "all",
    resamples: int = 2000,
    seed: int = 0,
    **notes: Any,
) -> list[Path]:
    """Write the tables, the summary and the picture of an evaluation.

    ``metrics_per_case.csv`` has one row a case, ``metrics_per_structure.csv`` one row a case and region,
    ``metrics_summary.json`` is that of ``summarise_tumours``, ``metrics_table.md`` that of ``tumour_table``, and
    ``dice_by_region.png`` shows the Dice of all cases.

    Args:
        rows: at least one: those of ``tumour_metrics``, each with the name of its ``case``.
        folder: made if missing.
        empty_rule: with which the rows were made.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        notes: JSON-able, for the summary; how the numbers were computed.

    Returns:
        The paths of the files, each of them whole.

    Raises:
        InputError: without any row, for another rule, or for fewer than one resample.
    """
    folder = Path(folder)
    summary = {**summarise_tumours(rows, empty_rule, resamples, seed), **notes}
    dice = {region: np.array([row[f"dice_{region.lower()}"] for row in rows], dtype=float) for region in REGIONS}
    return [
        *write_reports(rows, summary, folder, tumour_table(summary)),
        write_text(folder / STRUCTURE_TABLE, cases_csv(region_rows(rows))),
        region_figure(dice, folder / "dice_by_region.png"),
    ]
