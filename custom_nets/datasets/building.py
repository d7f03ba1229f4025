# SPDX-License-Identifier: Apache-2.0
"""From found cases to the content of a data list: examine, assign to parts, write down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_nets.datasets.checks import CaseReport, CheckOptions, examine_cases
from custom_nets.datasets.datalist import SECTIONS, Case
from custom_nets.datasets.domains import Domain
from custom_nets.datasets.layouts import Found, FoundCase
from custom_nets.datasets.problems import Problem, errors_of
from custom_nets.datasets.splits import folds_by_patient, split_by_patient

DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)
_WITHOUT_TEST = (0.875, 0.125, 0.0)  # the default's training : validation, when the data set has its own test scans


@dataclass(frozen=True)
class Examined:
    """A found case and what its files hold."""

    case: FoundCase
    report: CaseReport


@dataclass(frozen=True)
class SplitPlan:
    """How cases are assigned to parts.

    Attributes:
        fractions: shares of the patients for training, validation, testing; None = 0.7, 0.1, 0.2, without a test share
            where the data set has its own test scans or where there are folds.
        folds: number of folds for cross-validation; None = one split.
        seed: another seed gives another split.
        official_test: the data set's own test scans become ``testing``; otherwise they are dealt out like the others,
            those without a label left out.
    """

    fractions: Sequence[float] | None = None
    folds: int | None = None
    seed: int = 0
    official_test: bool = True


def examine_found(
    found: Found, modalities: Sequence[str], labels: Sequence[int], options: CheckOptions, *, progress: bool = True
) -> tuple[list[Examined], list[Problem]]:
    """Check all found cases.

    Returns:
        Every found case, sound or not, and all problems: those of finding and those of the files.
    """
    entries = [_entry(case) for case in found.cases]
    reports = examine_cases(entries, modalities, labels, options, progress=progress)
    examined = [Examined(case, one) for case, one in zip(found.cases, reports, strict=True)]
    return examined, [*found.problems, *(problem for one in reports for problem in one.problems)]


def without_broken(examined: Sequence[Examined]) -> list[Examined]:
    """The cases without an error."""
    return [one for one in examined if not errors_of(one.report.problems)]


def assign(examined: Sequence[Examined], plan: SplitPlan) -> list[list[str | None]]:
    """The part of each case: ``"training"``, ``"validation"``, ``"testing"``, or None when it is left out.

    Returns:
        One such list for a single split, one a fold for cross-validation.

    Raises:
        InputError: fractions or folds do not fit the patients.
    """
    parts: list[str | None] = [None] * len(examined)
    pool = []
    for index, one in enumerate(examined):
        if one.case.label is None or (one.case.official_test and plan.official_test):
            parts[index] = "testing" if plan.official_test or not one.case.official_test else None
        else:
            pool.append(index)
    if not pool:
        return [parts]
    has_test = "testing" in parts
    fractions = plan.fractions or (_WITHOUT_TEST if has_test else DEFAULT_FRACTIONS)
    if plan.folds is None:
        _fill(parts, pool, split_by_patient(*_patients(examined, pool), fractions, plan.seed))
        return [parts]
    if plan.fractions and plan.fractions[-1] > 0:
        held_out = (1 - plan.fractions[-1], 0.0, plan.fractions[-1])
        _fill(parts, pool, split_by_patient(*_patients(examined, pool), held_out, plan.seed))
        pool = [index for index in pool if parts[index] == "training"]
    fold_of = folds_by_patient(*_patients(examined, pool), plan.folds, plan.seed)
    result = []
    for fold in range(plan.folds):
        result.append(list(parts))
        _fill(result[-1], pool, ["validation" if other == fold else "training" for other in fold_of])
    return result


def datalist_content(
    root: Path, examined: Sequence[Examined], parts: Sequence[str | None], domain: Domain, header: dict[str, Any]
) -> dict[str, Any]:
    """The content of a data list file.

    Args:
        root: the data set's folder; all paths are written relative to it.
        examined: the cases.
        parts: the section of each case; None leaves it out.
        domain: the task, for the names of its labels.
        header: what else the file says; ``modality`` lists the channels.

    Returns:
        Header, label names and the sections that have cases.
    """
    content = {**header, "labels": {str(value): name for value, name in domain.labels.items()}}
    for section in SECTIONS:
        pairs = zip(examined, parts, strict=True)
        cases = [_entry(one.case, root) for one, part in pairs if part == section]
        if cases:
            content[section] = cases
    return content


def _entry(case: FoundCase, root: Path | None = None) -> Case:
    """The case as a data list writes it; with ``root``, paths are relative to it."""

    def written(path: Path) -> str:
        return (path.relative_to(root) if root else path).as_posix()

    entry: Case = {"case": case.name, "patient": case.patient, "image": [written(path) for path in case.images]}
    if case.label is not None:
        entry["label"] = written(case.label)
    return entry


def _patients(examined: Sequence[Examined], pool: Sequence[int]) -> tuple[list[str], list[float]]:
    chosen = [examined[index] for index in pool]
    return [one.case.patient for one in chosen], [one.report.foreground_ml or 0.0 for one in chosen]


def _fill(parts: list[str | None], pool: Sequence[int], chosen: Sequence[str]) -> None:
    for index, part in zip(pool, chosen, strict=True):
        parts[index] = part
