# SPDX-License-Identifier: Apache-2.0
"""Which cases a coarse network is trained on so that another one's logits are honest, and the data lists for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.case_names import case_name
from custom_nets.datasets.datalist import SECTIONS, Case, parse_datalist
from custom_nets.datasets.splits import folds_by_patient
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.spine.logits_sources import cases_by_name

LEAST_TRAINING_CASES = 2


def fold_of_cases(cases: Sequence[Case], folds: int, seed: int = 0) -> list[int]:
    """Deal cases out into folds. A patient's cases, where the data list names patients, stay together.

    Args:
        cases: of a data list, of different names.
        folds: how many; the numbers of patients of two folds differ by at most one.
        seed: another seed gives another plan.

    Returns:
        The fold of each case, from 0; it does not depend on the order of the cases.

    Raises:
        InputError: two cases of one name, a number of folds that cannot be, or fewer than two cases beside a fold.
    """
    cases_by_name(cases)
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise InputError(f"folds is {folds!r}: give a whole number of at least 2, such as 5.")
    fold_of = folds_by_patient([patient_of(case) for case in cases], [0.0] * len(cases), folds, seed)
    fewest = len(cases) - max(fold_of.count(fold) for fold in range(folds))
    if fewest < LEAST_TRAINING_CASES:
        raise InputError(
            f"folds is {folds}: of {len(cases)} cases, {fewest} would be left to train on beside a fold; "
            f"{LEAST_TRAINING_CASES} are needed. Add cases, or give more folds."
        )
    return fold_of


def patient_of(case: Case) -> str:
    """Whose scan a case is: as the data list says, or the case is a patient of its own."""
    return f"patient {case['patient']}" if "patient" in case else f"case {case_name(case['image'])}"


def fold_lists(dataset_dir: str | Path, datalist: str | Path, folds: int, seed: int = 0) -> list[dict[str, Any]]:
    """Make a data list for each fold of the training cases.

    Its training cases are those of the other folds, its testing cases the fold's own, whose logits the network trained
    by it is to give; validation is the list's own.

    Args:
        dataset_dir: folder of the data set.
        datalist: its list.
        folds: how many.
        seed: of the plan.

    Returns:
        Contents of data list files of the same folder, in the folds' order.

    Raises:
        InputError: see :func:`fold_of_cases`, or the data list is wrong.
    """
    header, sections = parse_datalist(dataset_dir, datalist)
    cases_by_name([*sections["training"], *sections["validation"]])
    fold_of = fold_of_cases(sections["training"], folds, seed)
    parts = [_parted(sections["training"], fold_of, fold) for fold in range(folds)]
    return [_content(dataset_dir, header, rest, sections["validation"], own) for rest, own in parts]


def cross_validation_lists(
    dataset_dir: str | Path, datalist: str | Path, folds: int, seed: int = 0, sections: Sequence[str] = SECTIONS
) -> list[dict[str, Any]]:
    """Make a data list for each fold of labelled cases; of all of them, whatever their section, as in the paper.

    The fold's cases are for testing. Of the others as many as the list has for validation are drawn for it, whole
    patients, at least one; the rest is for training.

    Args:
        dataset_dir: folder of the data set.
        datalist: its list.
        folds: how many; five in the paper.
        seed: of the plan.
        sections: of the list, whose cases take part.

    Returns:
        Contents of data list files of the same folder, in the folds' order.

    Raises:
        InputError: see :func:`fold_of_cases`, or the data list is wrong.
    """
    header, listed = parse_datalist(dataset_dir, datalist)
    cases = [case for section in sections for case in listed[section] if "label" in case]
    fold_of = fold_of_cases(cases, folds, seed)
    contents = []
    for fold in range(folds):
        rest, testing = _parted(cases, fold_of, fold)
        validated = _drawn(rest, max(1, len(listed["validation"])), [seed, fold])
        training = [case for case in rest if patient_of(case) not in validated]
        if len(training) < LEAST_TRAINING_CASES:
            raise InputError(f"folds is {folds}: {len(training)} cases would be left to train on; add labelled cases.")
        validation = [case for case in rest if patient_of(case) in validated]
        contents.append(_content(dataset_dir, header, training, validation, testing))
    return contents


def relative_case(case: Case, root: Path) -> Case:
    """The case with its paths as a data list in the folder ``root`` has them."""
    paths = {"image": [os.path.relpath(path, root) for path in case["image"]]}
    return {**case, **paths, **({"label": os.path.relpath(case["label"], root)} if "label" in case else {})}


def write_lists(contents: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Write FOLDER/fold1/datalist.json and so on; return the absolute paths."""
    root = Path(folder).absolute()
    return [write_json(root / f"fold{number}" / "datalist.json", content) for number, content in enumerate(contents, 1)]


def _parted(cases: Sequence[Case], fold_of: Sequence[int], fold: int) -> tuple[list[Case], list[Case]]:
    """The cases of the other folds, and those of this one."""
    pairs = list(zip(cases, fold_of, strict=True))
    return [case for case, place in pairs if place != fold], [case for case, place in pairs if place == fold]


def _drawn(cases: Sequence[Case], count: int, seed: Sequence[int]) -> set[str]:
    """Patients who together have ``count`` cases or a few more."""
    patients = [patient_of(case) for case in cases]
    drawn: set[str] = set()
    for patient in np.random.default_rng(seed).permutation(sorted(set(patients))):
        if sum(one in drawn for one in patients) >= count:
            break
        drawn.add(str(patient))
    return drawn


def _content(dataset_dir: str | Path, header: dict[str, Any], *lists: Sequence[Case]) -> dict[str, Any]:
    """A data list of cases to train on, to validate and to test."""
    root = Path(dataset_dir).absolute()
    sections = {
        name: [relative_case(case, root) for case in cases] for name, cases in zip(SECTIONS, lists, strict=True)
    }
    return {**header, **sections}
