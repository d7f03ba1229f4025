# SPDX-License-Identifier: Apache-2.0
"""Several models on the same cases: their means per structure, and whether they differ.

The S2A-Net paper's test: Friedman's chi-square over the models, the structures as blocks.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from custom_nets.errors import InputError
from custom_nets.metrics.structure_reports import STRUCTURE_TABLE
from custom_nets.metrics.structure_summary import structure_means

#: What happens to a metric that does not exist for a case and structure.
NanRule = Literal["zero", "leave_out"]
NAN_RULES = ("zero", "leave_out")


@dataclass(frozen=True)
class MetricTable:
    """One metric of one evaluated model.

    Attributes:
        cases: their names.
        structures: their names.
        values: cases x structures; NaN where the metric does not exist.
    """

    cases: tuple[str, ...]
    structures: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Several models on the same cases.

    Attributes:
        cases: their number.
        structures: their names, the blocks of the test.
        means: name of the model -> one mean over cases a structure; NaN in a block that was left out.
        test: name of the statistical test.
        statistic: of the test; None where all models are equal in every block.
        p_value: likewise.
        blocks: number of structures in the test.
        undefined: number of case-structure pairs in which a model has no value.
    """

    cases: int
    structures: tuple[str, ...]
    means: dict[str, NDArray[np.float64]]
    test: str
    statistic: float | None
    p_value: float | None
    blocks: int
    undefined: int


def read_metric_table(source: str | Path, metric: str) -> MetricTable:
    """Read one metric of an evaluation.

    Args:
        source: folder of an evaluation, or its ``metrics_per_structure.csv``.
        metric: name of a column.

    Raises:
        InputError: if the file cannot be read or lacks the column, or if a case and structure is in it twice or not at
            all, or its value is no number.
    """
    path = Path(source) / STRUCTURE_TABLE if Path(source).is_dir() else Path(source)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}; an evaluation of many structures writes it") from None
    missing = [key for key in ("case", "name", metric) if key not in (rows[0] if rows else ())]
    if missing:
        columns = [key for key in (rows[0] if rows else ()) if key not in ("case", "structure", "name")]
        raise InputError(f"{path} has no column {missing[0]!r}; its metrics are {', '.join(columns) or 'none: no row'}")
    values: dict[tuple[str, str], float] = {}
    for row in rows:
        pair = (row["case"], row["name"])
        if pair in values:
            raise InputError(f"{path} has case {pair[0]!r} with structure {pair[1]!r} twice; evaluate again")
        values[pair] = _number(row[metric], f"{path}: {metric} of case {pair[0]!r}, structure {pair[1]!r}")
    cases, structures = (tuple(dict.fromkeys(pair[side] for pair in values)) for side in (0, 1))
    absent = next(((case, name) for case in cases for name in structures if (case, name) not in values), None)
    if absent:
        raise InputError(f"{path} lacks structure {absent[1]!r} of case {absent[0]!r}; evaluate again")
    return MetricTable(cases, structures, np.array([[values[case, name] for name in structures] for case in cases]))


def _number(cell: str | None, where: str) -> float:
    try:
        return float(cell or "")
    except ValueError:
        raise InputError(f"{where} is {cell!r}, not a number; evaluate again") from None


def compare_models(tables: Mapping[str, MetricTable], nan: NanRule = "zero") -> Comparison:
    """Test whether models differ: Friedman's chi-square, or Wilcoxon's signed-rank test of two models.

    Blocks are the structures, the value of a block is the mean over cases.

    Args:
        tables: name of the model -> one metric of it; at least two, of the same cases and structures in any order.
        nan: "zero", as published: a value that does not exist counts as 0 before the mean. That weighs down
            structures that few cases have, and rewards a missed structure with the best of all surface distances.
            "leave_out": a case-structure pair counts only if all models have a value, a structure only if it has such
            a pair.

    Raises:
        InputError: for fewer than two models, different cases or structures, another rule, or no block.
    """
    if nan not in NAN_RULES:
        raise InputError(f"nan is {nan!r}; choose one of {', '.join(NAN_RULES)}")
    if len(tables) < 2:
        raise InputError(f"models to compare: {len(tables)}; give at least two evaluations (three for Friedman's test)")
    (first_name, first), *others = tables.items()
    aligned = {first_name: first.values}
    for name, table in others:
        aligned[name] = _aligned(table, name, first, first_name)
    stacked = np.stack(list(aligned.values()))
    undefined = np.isnan(stacked).any(axis=0)
    if nan == "leave_out":
        stacked = np.where(undefined, np.nan, stacked)
    means = {name: structure_means(own, nan == "zero") for name, own in zip(aligned, stacked, strict=True)}
    blocks = np.stack(list(means.values()))
    blocks = blocks[:, np.isfinite(blocks).all(axis=0)]
    if not blocks.size:
        raise InputError("no structure has a value in all models; compare another metric, or use nan=zero")
    test, statistic, p_value = _test(blocks)
    return Comparison(
        cases=len(first.cases),
        structures=first.structures,
        means=means,
        test=test,
        statistic=statistic,
        p_value=p_value,
        blocks=blocks.shape[1],
        undefined=int(undefined.sum()),
    )


def _aligned(table: MetricTable, name: str, first: MetricTable, first_name: str) -> NDArray[np.float64]:
    """The values of a table in the order of the first model's cases and structures."""
    order = []
    for kind, own, expected in (("case", table.cases, first.cases), ("structure", table.structures, first.structures)):
        _require_all(kind, name, own, first_name, expected)
        _require_all(kind, first_name, expected, name, own)
        order.append([own.index(one) for one in expected])
    return table.values[np.ix_(*order)]


def _require_all(kind: str, name: str, own: Sequence[str], other: str, expected: Sequence[str]) -> None:
    missing = [one for one in expected if one not in own]
    if missing:
        number = f"{len(missing)} {kind}s" if len(missing) > 1 else f"a {kind}"
        raise InputError(
            f"model {name!r} lacks {number} that model {other!r} has, such as {missing[0]!r};"
            " evaluate all models on the same cases with the same table of labels"
        )


def _test(blocks: NDArray[np.float64]) -> tuple[str, float | None, float | None]:
    """Name, statistic and p of the test on models x blocks; ranks do not exist where all models are equal."""
    name = "Friedman chi-square" if len(blocks) > 2 else "Wilcoxon signed-rank"
    if not np.any(np.ptp(blocks, axis=0)):
        return name, None, None
    result = stats.friedmanchisquare(*blocks) if len(blocks) > 2 else stats.wilcoxon(*blocks)
    return name, float(result.statistic), float(result.pvalue)
