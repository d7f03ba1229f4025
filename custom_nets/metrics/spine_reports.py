# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation of spines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.files import write_text
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.metrics.reports import cases_csv, write_reports
from custom_nets.metrics.spine_figure import spine_figure
from custom_nets.metrics.spine_summary import spine_table, summarise_spine
from custom_nets.metrics.structure_reports import STRUCTURE_TABLE
from custom_nets.metrics.structure_summary import grouped
from custom_nets.spine.order import spine_order


def write_spine_reports(
    cases: Sequence[Mapping[str, Any]],
    structures: Sequence[Mapping[str, Any]],
    graph: LabelGraph,
    folder: str | Path,
    **notes: Any,
) -> list[Path]:
    """Write the tables, the summary and the picture of an evaluation.

    ``metrics_per_case.csv`` has one row a case, ``metrics_per_structure.csv`` one row a case and structure,
    ``metrics_summary.json`` is that of ``summarise_spine``, ``metrics_table.md`` that of ``spine_table``, and
    ``structures.png`` shows the Dice of all cases along the spine, and what is called what.

    Args:
        cases: at least one: ``SpineScores.case``, each with the name of its ``case``.
        structures: ``SpineScores.structures`` of all of them, likewise.
        graph: of the label maps.
        folder: made if missing.
        notes: JSON-able, for the summary; how the numbers were computed.

    Returns:
        The paths of the files, each of them whole.

    Raises:
        InputError: without any case.
    """
    folder = Path(folder)
    summary = {**summarise_spine(cases, structures), **notes}
    names, upwards = graph.node_names(), spine_order(graph)
    dice = {name: np.array([row["dice"] for row in own]) for name, own in grouped(structures, "name").items()}
    downwards = [names[node] for node in [*upwards[::-1], *(node for node in names if node and node not in upwards)]]
    along = {name: dice[name] for name in downwards}
    return [
        *write_reports(cases, summary, folder, spine_table(summary)),
        write_text(folder / STRUCTURE_TABLE, cases_csv(structures)),
        spine_figure(along, summary["order"]["confusion"], folder / "structures.png"),
    ]
