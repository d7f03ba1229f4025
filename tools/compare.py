# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.compare RESULT_DIR RESULT_DIR ...`: several evaluated models, structure by structure, and a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.datasets.problems import text_table
from custom_nets.errors import InputError
from custom_nets.files import write_json, write_text
from custom_nets.metrics.comparison import Comparison, NanRule, compare_models, read_metric_table
from custom_nets.metrics.reports import markdown_table
from custom_nets.metrics.structure_figure import comparison_figure
from custom_nets.metrics.surfaces import SURFACE_KEYS
from tools._arguments import names_in
from tools._command import run


def main(
    *result_dirs: str, metric: str = "dice", names: Any = None, nan: NanRule = "zero", output_dir: str = "comparison"
) -> None:
    """Compare models that were evaluated on the same cases, by one metric of every structure.

    Friedman's chi-square test over three models or more, Wilcoxon's signed-rank test of two; the structures are the
    blocks, their means over cases the values. Prints the table and writes comparison.md, comparison.json and
    comparison.png.

    Args:
        result_dirs: folders of evaluations, each with a metrics_per_structure.csv.
        metric: a column of these tables, such as dice, iou, hd95 or assd.
        names: of the models, in the order of the folders, separated by commas; by default the folders' names.
        nan: a value that does not exist (a structure that a scan lacks, the distance of a missed structure) counts as
            0 with "zero", as published, which rewards missed structures with the best of distances; with "leave_out" a
            scan's structure counts only if all models have a value.
        output_dir: folder of the files.
    """
    models = _names(names, result_dirs)
    found = compare_models(
        {name: read_metric_table(folder, metric) for name, folder in zip(models, map(str, result_dirs), strict=True)},
        nan,
    )
    verdict, note = _verdict(found), _note(found, metric, nan)
    heading, lines = ("structure", *models), _lines(found)
    print(f"{text_table(heading, lines)}\n\n{verdict}\n{note}")
    markdown = "\n".join([f"# {metric}, mean over {found.cases} cases", "", *markdown_table(heading, lines), ""])
    folder = Path(str(output_dir))
    for path in (
        write_text(folder / "comparison.md", f"{markdown}\n{verdict}\n\n{note}\n"),
        write_json(folder / "comparison.json", _content(found, metric, nan)),
        comparison_figure(found.structures, found.means, metric, verdict, folder / "comparison.png"),
    ):
        print(f"wrote {path}")


def _names(names: Any, result_dirs: tuple[str, ...]) -> list[str]:
    """The models' names: given, or those of the folders, or the folders."""
    if names is None:
        short = [Path(str(one)).resolve().name for one in result_dirs]
        found = short if len(set(short)) == len(short) else [str(one) for one in result_dirs]
    else:
        found = list(names_in(names))
    if len(found) != len(result_dirs) or len(set(found)) != len(found):
        raise InputError(f"names are {', '.join(found)}; give {len(result_dirs)} different ones, one a folder")
    return found


def _lines(found: Comparison) -> list[list[str]]:
    """One line a structure, then the mean over those of the test."""
    table = np.stack(list(found.means.values()), axis=1)
    counted = table[np.isfinite(table).all(axis=1)]
    lines = [[name, *map(_cell, values)] for name, values in zip(found.structures, table, strict=True)]
    return [*lines, [f"mean of {len(counted)} structures", *map(_cell, counted.mean(axis=0))]]


def _cell(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"


def _verdict(found: Comparison) -> str:
    where = f"{found.test} of {len(found.means)} models over {found.blocks} structures"
    if found.p_value is None:
        return f"{where}: no difference to test, the models are equal in every structure"
    return f"{where}: statistic {found.statistic:.4g}, p = {found.p_value:.3g}"


def _note(found: Comparison, metric: str, nan: NanRule) -> str:
    where = (
        f"{found.undefined} of {found.cases * len(found.structures)} scan-structure pairs have no {metric} in a model"
    )
    if nan == "leave_out":
        return f"{where} and are left out of all models."
    note = f"{where}; each missing value counts as 0, as published (--nan leave_out leaves them out)."
    rewarded = metric in SURFACE_KEYS and found.undefined
    return f"{note} Of a distance, 0 is the best: this rewards missed structures." if rewarded else note


def _content(found: Comparison, metric: str, nan: NanRule) -> dict[str, Any]:
    return {
        "metric": metric,
        "nan": nan,
        "cases": found.cases,
        "undefined_pairs": found.undefined,
        "test": found.test,
        "blocks": found.blocks,
        "statistic": found.statistic,
        "p_value": found.p_value,
        "structures": {
            name: {model: _finite(means[index]) for model, means in found.means.items()}
            for index, name in enumerate(found.structures)
        },
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    run(main)
