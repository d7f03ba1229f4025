# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.files import write_json, write_text


def write_reports(
    rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], folder: str | Path, table: str | None = None
) -> list[Path]:
    """Write ``metrics_per_case.csv`` (one row a case), ``metrics_summary.json`` and ``metrics_table.md``.

    Args:
        rows: at least one, with the same keys: the name of the ``case``, then numbers.
        summary: of these rows; JSON-able.
        folder: made if missing.
        table: text of ``metrics_table.md``; None writes none.

    Returns:
        The paths of the files, each of them whole.
    """
    folder = Path(folder)
    text = cases_csv(rows)
    written = [write_text(folder / "metrics_per_case.csv", text), write_json(folder / "metrics_summary.json", summary)]
    return written if table is None else [*written, write_text(folder / "metrics_table.md", table)]


def cases_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a CSV table with one line a row, the ``case`` first.

    Texts stand as they are; numbers have ten digits, or are ``nan`` or ``inf``.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    keys = ["case", *(key for key in rows[0] if key != "case")]
    writer.writerow(keys)
    writer.writerows([_cell(row[key]) for key in keys] for row in rows)
    return table.getvalue()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else format(float(value), ".10g")


def markdown_table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *lines)]
