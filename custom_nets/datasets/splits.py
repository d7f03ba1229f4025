# SPDX-License-Identifier: Apache-2.0
"""Who is trained on, who is validated on, who is tested on: by patient, with sites and lesion loads spread evenly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from custom_nets.errors import InputError

PARTS = ("training", "validation", "testing")
PUBLISHED_SEED = 256  # of S2CA-Net
_MOST_STRATA = 4
_FOLD_VALIDATION = 4  # cases of a fold of SpineParseNet


def split_by_patient(
    patients: Sequence[str],
    volumes: Sequence[float],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> list[str]:
    """Split cases into training, validation and testing.

    All cases of a patient stay together. Patients are sorted by their mean lesion volume, shuffled within quarters of
    that order (larger strata where patients are few) and dealt out, so that each part gets its share of small and of
    large lesion loads. With ``groups`` the dealing also gives each part its share of each group, as nearly as the whole
    numbers of patients allow. The result does not depend on the order of the cases. A part with a positive fraction
    gets at least one patient.

    Args:
        patients: the patient of each case.
        volumes: the lesion volume of each case, in any unit.
        fractions: shares of the patients for training, validation, testing; they add up to 1.
        seed: another seed gives another split.
        groups: the site or cohort of each case; None = all are of one.

    Returns:
        ``"training"``, ``"validation"`` or ``"testing"`` for each case.

    Raises:
        InputError: wrong fractions, or fewer patients than parts.
    """
    if len(fractions) != len(PARTS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        wanted = "three shares for training, validation, testing that add up to 1, such as 0.7,0.1,0.2"
        raise InputError(f"fractions is {_listed(fractions)}: give {wanted}")
    parts = sum(fraction > 0 for fraction in fractions)
    order = _stratified_order(patients, volumes, parts, seed)
    if len(order) < parts:
        raise InputError(
            f"{len(order)} patient(s) cannot be split into {parts} parts: add patients, or set a share to 0, "
            "such as --fractions 0.5,0.5,0"
        )
    part_of = _dealt(order, _quotas(len(order), fractions), _group_of(patients, groups))
    return [PARTS[part_of[patient]] for patient in patients]


def split_by_permutation(names: Sequence[str], patients: Sequence[str], seed: int = PUBLISHED_SEED) -> list[str]:
    """Split cases into training and validation by the published rule of S2CA-Net.

    Validation is the first ceil(0.2 n) of numpy's ``RandomState(seed).permutation(n)`` over the n sorted names, the
    rest training: what scikit-learn's ``train_test_split`` gives. The published script takes the names in the order
    of the directory, which differs between machines. Where a patient has several cases, patients take the cases' place.

    Args:
        names: of the cases.
        patients: the patient of each case.
        seed: another seed gives another split; 256 as published.

    Returns:
        ``"training"`` or ``"validation"`` for each case.

    Raises:
        InputError: fewer than 2 cases, or patients.
    """
    units = patients if len(set(patients)) < len(names) else names
    ordered = sorted(set(units))
    if len(ordered) < 2:
        raise InputError(
            f"{len(ordered)} patient(s) cannot be split into training and validation: add patients, or put all into "
            "one part, such as --fractions 0,0,1"
        )
    places = np.random.RandomState(seed).permutation(len(ordered))[: math.ceil(0.2 * len(ordered))]
    validated = {ordered[place] for place in places}
    return ["validation" if unit in validated else "training" for unit in units]


def published_folds(
    total: int = 215, train: int = 168, validation: int = _FOLD_VALIDATION, folds: int = 5, seed: int = 0
) -> list[dict[str, list[int]]]:
    """Divide cases for cross-validation by the published rule of SpineParseNet (section 3.1 of its description).

    Of a permutation of all cases each fold tests the next ``total - train - validation``; of the others in ascending
    order the first ``validation`` are validated, the rest is trained on. What the folds do not use up is never tested.

    Args:
        total: number of cases.
        train: of them, for training.
        validation: of them, for validation.
        folds: their number.
        seed: of numpy's legacy generator; 0 as published.

    Returns:
        For each fold the case numbers, from 1, under "training", "validation" and "testing"; those of "testing" in
        ascending order too.

    Raises:
        InputError: for a fold without a case to train on, to validate or to test, or more to test than there are.
    """
    tested = total - train - validation
    if min(train, validation, tested, folds) < 1 or folds * tested > total:
        raise InputError(
            f"{total} cases cannot be divided into {folds} folds of {train} for training, {validation} for validation "
            f"and {tested} for testing: add cases, or give fewer folds"
        )
    order = np.random.RandomState(seed).permutation(total)
    divided = []
    for fold in range(folds):
        held_out = set((order[fold * tested : (fold + 1) * tested] + 1).tolist())
        rest = [number for number in range(1, total + 1) if number not in held_out]
        parts = rest[validation:], rest[:validation], sorted(held_out)
        divided.append(dict(zip(PARTS, parts, strict=True)))
    return divided


def folds_by_permutation(
    names: Sequence[str], patients: Sequence[str], folds: int = 5, seed: int = 0
) -> list[list[str]]:
    """Split cases for cross-validation with test cases by the published rule of SpineParseNet.

    Each fold tests n // ``folds`` and validates 4, as :func:`published_folds` divides the names in the order of the
    numbers in them (Case2 before Case10). Where a patient has several cases, patients take the cases' place.

    Args:
        names: of the cases.
        patients: the patient of each case.
        folds: their number, at least 2.
        seed: another seed gives another split; 0 as published.

    Returns:
        For each fold "training", "validation" or "testing" for each case.

    Raises:
        InputError: too few cases, or patients, for the folds.
    """
    units = patients if len(set(patients)) < len(names) else names
    ordered = sorted(set(units), key=_by_number)
    if not 2 <= folds <= len(ordered):
        raise InputError(f"folds is {folds}: give a number from 2 to the number of patients, {len(ordered)}")
    train = len(ordered) - len(ordered) // folds - _FOLD_VALIDATION
    divided = published_folds(len(ordered), train, _FOLD_VALIDATION, folds, seed)
    part_of = [{ordered[number - 1]: part for part, numbers in fold.items() for number in numbers} for fold in divided]
    return [[parts[unit] for unit in units] for parts in part_of]


def folds_by_patient(
    patients: Sequence[str], volumes: Sequence[float], folds: int, seed: int = 0, groups: Sequence[str] | None = None
) -> list[int]:
    """Split cases into folds for cross-validation; every patient is in exactly one fold.

    Patients are stratified as in ``split_by_patient``; the numbers of patients of two folds differ by at most 1.

    Args:
        patients: the patient of each case.
        volumes: the lesion volume of each case, in any unit.
        folds: number of folds, at least 2.
        seed: another seed gives another split.
        groups: the site or cohort of each case; None = all are of one.

    Returns:
        The fold, 0 to ``folds`` - 1, in which each case is validated.

    Raises:
        InputError: fewer than 2 folds, or fewer patients than folds.
    """
    order = _stratified_order(patients, volumes, max(folds, 1), seed)
    if not 2 <= folds <= len(order):
        raise InputError(f"folds is {folds}: give a number from 2 to the number of patients, {len(order)}")
    fold_of = _dealt(order, _quotas(len(order), [1 / folds] * folds), _group_of(patients, groups))
    return [fold_of[patient] for patient in patients]


def _stratified_order(patients: Sequence[str], volumes: Sequence[float], parts: int, seed: int) -> list[str]:
    """Each patient once, by mean volume, shuffled within strata of that order.

    A stratum holds at least as many patients as there are parts; with less, the seed would hardly change the split.
    """
    of_patient: dict[str, list[float]] = {}
    for patient, volume in zip(patients, volumes, strict=True):
        of_patient.setdefault(patient, []).append(float(volume))
    ranked = sorted(
        of_patient, key=lambda patient: (math.fsum(of_patient[patient]) / len(of_patient[patient]), patient)
    )
    generator = np.random.default_rng(seed)
    strata = np.array_split(np.arange(len(ranked)), min(_MOST_STRATA, max(1, len(ranked) // parts)))
    return [ranked[index] for stratum in strata for index in generator.permutation(stratum)]


def _quotas(patients: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers of patients by largest remainder, at least 1 for a positive fraction."""
    exact = [fraction * patients for fraction in fractions]
    quotas = [
        max(math.floor(share + 1e-9), int(fraction > 0)) for share, fraction in zip(exact, fractions, strict=True)
    ]
    while (missing := patients - sum(quotas)) != 0:
        step = 1 if missing > 0 else -1
        candidates = [i for i, quota in enumerate(quotas) if fractions[i] > 0 and quota + step > 0]
        quotas[max(candidates, key=lambda i: step * (exact[i] - quotas[i]))] += step
    return quotas


def _group_of(patients: Sequence[str], groups: Sequence[str] | None) -> dict[str, str]:
    """The group of each patient; who was scanned at several sites counts at the first by name."""
    group_of: dict[str, str] = {}
    for patient, group in zip(patients, groups or [""] * len(patients), strict=True):
        group_of[patient] = min(group, group_of.get(patient, group))
    return group_of


def _dealt(order: Sequence[str], quotas: Sequence[int], group_of: Mapping[str, str]) -> dict[str, int]:
    """The part of each patient: always the part that is farthest behind its share so far, of all and of the group."""
    total, given, parts = sum(quotas), [0] * len(quotas), dict[str, int]()
    given_in = {group: [0] * len(quotas) for group in group_of.values()}
    for place, patient in enumerate(order, start=1):
        of_group = given_in[group_of[patient]]
        both = place + sum(of_group) + 1
        open_parts = [part for part, quota in enumerate(quotas) if given[part] < quota]
        part = max(open_parts, key=lambda p: quotas[p] * both / total - given[p] - of_group[p])
        given[part] += 1
        of_group[part] += 1
        parts[patient] = part
    return parts


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts Case2 before Case10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
