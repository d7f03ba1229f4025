# SPDX-License-Identifier: Apache-2.0
"""From found cases to the content of a data list: examine, assign to parts, write down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_nets.datasets.checks import CaseReport, CheckOptions, examine_cases
from custom_nets.datasets.datalist import SECTIONS, Case
from custom_nets.datasets.domains import Domain
from custom_nets.datasets.layouts import Found, FoundCase
from custom_nets.datasets.merged_masks import merged_path, write_merged
from custom_nets.datasets.problems import Problem, errors_of
from custom_nets.datasets.splits import folds_by_patient, folds_by_permutation, split_by_patient, split_by_permutation
from custom_nets.errors import InputError

OFFICIAL_TEST = "official_test"  # the part of test scans that have no place in the sections of the list


@dataclass(frozen=True)
class Examined:
    """A found case and what its files hold."""

    case: FoundCase
    report: CaseReport


@dataclass(frozen=True)
class SplitPlan:
    """How cases are assigned to parts.

    Attributes:
        fractions: shares of the patients for training, validation, testing; None = the data set's own division, or
            ``default_fractions``, without a test share where the data set has its own test scans or where there are
            folds.
        folds: number of folds for cross-validation; None = one split.
        seed: another seed gives another split.
        official_test: the data set's own test scans become ``testing``; otherwise they are dealt out like the others,
            those without a label left out.
        default_fractions: the shares of the task.
        always_test: labelled scans are held out for testing even if the data set has its own test scans, unless those
            are labelled.
        published_split: without ``fractions`` and ``folds``, cases are dealt out by ``split_by_permutation``.
        published_folds: with ``folds`` and without ``fractions``, cases are dealt out by ``folds_by_permutation``, each
            fold with test cases of its own.
    """

    fractions: Sequence[float] | None = None
    folds: int | None = None
    seed: int = 0
    official_test: bool = True
    default_fractions: Sequence[float] = (0.7, 0.1, 0.2)
    always_test: bool = False
    published_split: bool = False
    published_folds: bool = False

    @property
    def as_published(self) -> bool:
        """Whether cases are dealt out by the published rule, and not in shares or folds."""
        return self.published_split and self.fractions is None and self.folds is None

    @property
    def tests_in_folds(self) -> bool:
        """Whether the folds are those of the published rule, in which a case is tested."""
        return self.published_folds and self.fractions is None and self.folds is not None


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
    known = [
        Problem(
            case.name,
            str((case.labels or case.images)[0]),
            f"known problem of this data set: {case.known_problem}",
            "look at it, or leave such scans out with --skip_known_problems",
            "warning",
        )
        for case in found.cases
        if case.known_problem
    ]
    return examined, [*found.problems, *known, *(problem for one in reports for problem in one.problems)]


def without_broken(examined: Sequence[Examined]) -> list[Examined]:
    """The cases without an error."""
    return [one for one in examined if not errors_of(one.report.problems)]


def with_plain_labels(
    root: Path, examined: Sequence[Examined], tolerance_mm: float, *, progress: bool = True
) -> list[Examined]:
    """The cases with one 0/1 label map each; where they have other masks, it is written below ``root``.

    Returns:
        Every case, as it is or with its merged mask and that one's volume.

    Raises:
        InputError: files that are not ours have the places of merged masks. They stay.
    """
    result, taken = [], list[Path]()
    bar = tqdm(examined, desc="merging masks", unit="case", disable=None if progress else True)
    for one in bar:
        if has_plain_label(one):
            result.append(one)
            continue
        path = merged_path(root, one.case.name)
        volume_ml = write_merged(path, one.case.images[0], one.case.labels, tolerance_mm)
        if volume_ml is None:
            taken.append(path)
        result.append(Examined(replace(one.case, labels=(path,)), replace(one.report, foreground_ml=volume_ml)))
    if taken:
        found = f"{taken[0]} ({len(taken)} such files) is not what merging the masks of this scan gives"
        raise InputError(f"{found}: it was left as it is; move it elsewhere")
    return result


def has_plain_label(one: Examined) -> bool:
    """Whether the case can be listed with the file that it has, or has no label."""
    return len(one.case.labels) <= 1 and one.report.label_values <= {1.0}


def has_test_apart(cases: Sequence[FoundCase], plan: SplitPlan) -> bool:
    """Whether there are official test scans that cannot be listed with the labelled scans held out for testing."""
    if not (plan.always_test and plan.official_test and any(case.labels for case in cases)):
        return False
    return any(case.official_test and not case.labels for case in cases)


def keeps_division(cases: Sequence[FoundCase], plan: SplitPlan) -> bool:
    """Whether the data set's own training and validation cases stay what they are.

    Not where the user wants another division (fractions, folds or the test scans dealt out too), nor where it lacks one
    of the two.
    """
    sections = {case.section for case in cases}
    return plan.fractions is None and plan.folds is None and plan.official_test and sections >= set(SECTIONS[:2])


def assign(examined: Sequence[Examined], plan: SplitPlan) -> list[list[str | None]]:
    """The part of each case: ``"training"``, ``"validation"``, ``"testing"``, or None when it is left out.

    Cases that the data set itself divides stay in their part, see ``keeps_division``; the others are dealt out.
    With ``plan.always_test`` official test scans without a label are ``"official_test"``: they would keep ``"testing"``
    from being scored.

    Returns:
        One such list for a single split, one a fold for cross-validation.

    Raises:
        InputError: fractions or folds do not fit the patients.
    """
    cases = [one.case for one in examined]
    apart, divided = has_test_apart(cases, plan), keeps_division(cases, plan)
    parts: list[str | None] = [None] * len(examined)
    pool = []
    for index, one in enumerate(examined):
        if divided and one.case.labels:
            parts[index] = one.case.section
        elif one.case.labels and not (one.case.official_test and plan.official_test):
            pool.append(index)
        elif one.case.labels or not one.case.official_test:
            parts[index] = "testing"
        elif plan.official_test:
            parts[index] = OFFICIAL_TEST if apart else "testing"
    if not pool:
        return [parts]
    if plan.as_published:
        names = [cases[index].name for index in pool]
        _fill(parts, pool, split_by_permutation(names, [cases[index].patient for index in pool], plan.seed))
        return [parts]
    if plan.tests_in_folds:
        return _published_folds(examined, parts, pool, plan)
    fractions = plan.fractions or _default_fractions(plan.default_fractions, "testing" in parts)
    patients, volumes, sites = _strata(examined, pool)
    if plan.folds is None:
        _fill(parts, pool, split_by_patient(patients, volumes, fractions, plan.seed, sites))
        return [parts]
    if plan.fractions and plan.fractions[-1] > 0:
        held_out = (1 - plan.fractions[-1], 0.0, plan.fractions[-1])
        _fill(parts, pool, split_by_patient(patients, volumes, held_out, plan.seed, sites))
        pool = [index for index in pool if parts[index] == "training"]
        patients, volumes, sites = _strata(examined, pool)
    fold_of = folds_by_patient(patients, volumes, plan.folds, plan.seed, sites)
    result = []
    for fold in range(plan.folds):
        result.append(list(parts))
        _fill(result[-1], pool, ["validation" if other == fold else "training" for other in fold_of])
    return result


def _published_folds(
    examined: Sequence[Examined], parts: Sequence[str | None], pool: Sequence[int], plan: SplitPlan
) -> list[list[str | None]]:
    """One list a fold, with what is in no fold as in ``parts``."""
    assert plan.folds is not None
    names, patients = ([getattr(examined[index].case, of) for index in pool] for of in ("name", "patient"))
    result = []
    for chosen in folds_by_permutation(names, patients, plan.folds, plan.seed):
        result.append(list(parts))
        _fill(result[-1], pool, chosen)
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
        Header, label names and the sections that have cases. Where a case has a site, every case names its own.
    """
    content = {**header, "labels": {str(value): name for value, name in domain.labels.items()}}
    with_site = any(one.case.site for one in examined)
    for section in SECTIONS:
        pairs = zip(examined, parts, strict=True)
        cases = [_entry(one.case, root, with_site) for one, part in pairs if part == section]
        if cases:
            content[section] = cases
    return content


def _entry(case: FoundCase, root: Path | None = None, with_site: bool = False) -> Case:
    """The case as a data list writes it; with ``root``, paths are relative to it."""

    def written(path: Path) -> str:
        return (path.relative_to(root) if root else path).as_posix()

    entry: Case = {"case": case.name, "patient": case.patient}
    if with_site:
        entry["site"] = case.site
    entry["image"] = [written(path) for path in case.images]
    if case.labels:
        labels = [written(path) for path in case.labels]
        entry["label"] = labels[0] if len(labels) == 1 else labels
    return entry


def _default_fractions(fractions: Sequence[float], has_test: bool) -> Sequence[float]:
    """``fractions``; when there are test scans already, the same training : validation without a test share."""
    if not has_test:
        return fractions
    training, validation, _ = fractions
    share = round(training / (training + validation), 12)  # 0.875 of 0.7 and 0.1, not the next number
    return share, round(1 - share, 12), 0.0


def _strata(examined: Sequence[Examined], pool: Sequence[int]) -> tuple[list[str], list[float], list[str]]:
    """Patient, lesion volume and site of the cases that are dealt out."""
    chosen = [examined[index] for index in pool]
    volumes = [one.report.foreground_ml or 0.0 for one in chosen]
    return [one.case.patient for one in chosen], volumes, [one.case.site for one in chosen]


def _fill(parts: list[str | None], pool: Sequence[int], chosen: Sequence[str]) -> None:
    for index, part in zip(pool, chosen, strict=True):
        parts[index] = part
