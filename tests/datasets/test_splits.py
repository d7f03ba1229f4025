# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from custom_nets.datasets.splits import PARTS, folds_by_patient, split_by_patient
from custom_nets.errors import InputError


def cohort(patients: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Patients with 1 to 4 visits and lesion volumes over three orders of magnitude."""
    generator = np.random.default_rng(seed)
    names, volumes = [], []
    for patient in range(patients):
        load = float(np.exp(generator.normal(1.5, 1.5)))
        for _ in range(int(generator.integers(1, 5))):
            names.append(f"P{patient}")
            volumes.append(load * float(generator.uniform(0.9, 1.1)))
    return names, volumes


def of_patient(patients: list[str], values: list) -> dict:
    result: dict = {}
    for patient, value in zip(patients, values, strict=True):
        assert result.setdefault(patient, value) == value, f"{patient} is in two parts"
    return result


@pytest.mark.parametrize("seed", range(5))
def test_patient_stays_together_and_shares_are_met(seed: int) -> None:
    patients, volumes = cohort(53)
    part_of = of_patient(patients, split_by_patient(patients, volumes, (0.7, 0.1, 0.2), seed))
    counts = Counter(part_of.values())
    assert counts == {"training": 37, "validation": 5, "testing": 11}  # largest remainders of 37.1, 5.3, 10.6


@pytest.mark.parametrize("seed", range(5))
def test_every_quarter_of_lesion_volume_gives_each_part_its_share(seed: int) -> None:
    patients, volumes = cohort(80)
    parts = split_by_patient(patients, volumes, (0.6, 0.2, 0.2), seed)
    means = {p: np.mean([v for q, v in zip(patients, volumes, strict=True) if q == p]) for p in set(patients)}
    ranked = sorted(means, key=lambda p: means[p])
    part_of = of_patient(patients, parts)
    for quarter in range(4):
        counts = Counter(part_of[p] for p in ranked[20 * quarter : 20 * quarter + 20])
        for part, expected in zip(PARTS, (12, 4, 4), strict=True):
            assert abs(counts[part] - expected) <= 1


def test_order_of_the_cases_does_not_matter_but_the_seed_does() -> None:
    patients, volumes = cohort(30)
    shuffled = np.random.default_rng(1).permutation(len(patients))
    one = split_by_patient(patients, volumes, seed=3)
    other = split_by_patient([patients[i] for i in shuffled], [volumes[i] for i in shuffled], seed=3)
    assert [one[i] for i in shuffled] == other
    assert one != split_by_patient(patients, volumes, seed=4)


def test_seeds_differ_for_very_few_patients() -> None:
    patients, volumes = list("abcde"), [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len({tuple(folds_by_patient(patients, volumes, 5, seed)) for seed in range(10)}) > 5


@pytest.mark.parametrize(("patients", "folds"), [(53, 5), (21, 4), (5, 5), (7, 2)])
def test_folds_cover_each_patient_once_in_equal_and_balanced_parts(patients: int, folds: int) -> None:
    names, volumes = cohort(patients)
    fold_of = of_patient(names, folds_by_patient(names, volumes, folds, seed=2))
    sizes = Counter(fold_of.values())
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    if patients >= 8 * folds:
        means = {p: np.mean([v for q, v in zip(names, volumes, strict=True) if q == p]) for p in fold_of}
        ranked = sorted(means, key=lambda p: means[p])
        upper = Counter(fold_of[p] for p in ranked[patients // 2 :])
        assert max(upper.values()) - min(upper.values()) <= 2


@pytest.mark.parametrize("count", range(3, 12))
def test_no_wanted_part_is_empty(count: int) -> None:
    patients, volumes = [f"P{n}" for n in range(count)], [float(n) for n in range(count)]
    parts = split_by_patient(patients, volumes, (0.9, 0.05, 0.05))
    assert set(parts) == set(PARTS)
    assert set(split_by_patient(patients, volumes, (0.5, 0.5, 0.0))) == {"training", "validation"}


def sites(sizes: list[int], seed: int) -> tuple[list[str], list[float], list[str]]:
    """Patients of several sites with one or two visits; the sites' lesions differ in size."""
    generator = np.random.default_rng(seed)
    patients, volumes, groups = [], [], []
    for site, size in enumerate(sizes):
        typical = generator.normal(1.5, 1)
        for number in range(size):
            load = float(np.exp(generator.normal(typical, 1)))
            for _ in range(1 + number % 2):
                patients.append(f"{site}-{number}")
                volumes.append(load)
                groups.append(f"Site{site}")
    return patients, volumes, groups


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [[25] * 9, [4, 8, 15, 16, 23, 42, 9, 31, 11, 6], [8] * 30])
def test_each_site_and_each_quarter_of_lesion_volume_gives_each_part_its_share(sizes: list[int], seed: int) -> None:
    patients, volumes, groups = sites(sizes, seed)
    fractions = (0.77, 0.1, 0.13)
    part_of = of_patient(patients, split_by_patient(patients, volumes, fractions, seed, groups))
    volume_of, total = dict(zip(patients, volumes, strict=True)), sum(sizes)
    ranked = sorted(volume_of, key=lambda patient: volume_of[patient])
    strata = [[patient for patient in volume_of if patient.startswith(f"{site}-")] for site in range(len(sizes))]
    strata += [ranked[total * quarter // 4 : total * (quarter + 1) // 4] for quarter in range(4)]
    for stratum in strata:
        counts = Counter(part_of[patient] for patient in stratum)
        for part, fraction in zip(PARTS, fractions, strict=True):
            assert abs(counts[part] - fraction * len(stratum)) < 2
    counts = Counter(part_of.values())
    assert all(abs(counts[part] - share * total) < 1 for part, share in zip(PARTS, fractions, strict=True))


def test_without_groups_sites_are_uneven() -> None:
    """Of 8 patients with up to 2 scans each, one is to be tested."""
    patients, volumes, groups = sites([8] * 30, 0)

    def worst(parts: list[str]) -> int:
        tested = Counter(group for part, group in zip(parts, groups, strict=True) if part == "testing")
        return max(tested.values())

    assert worst(split_by_patient(patients, volumes, (0.75, 0.125, 0.125), 0)) > 3
    assert worst(split_by_patient(patients, volumes, (0.75, 0.125, 0.125), 0, groups)) <= 3


def test_one_site_is_as_none_and_the_order_of_the_cases_does_not_matter() -> None:
    patients, volumes, groups = sites([9, 14, 20], 1)
    assert split_by_patient(patients, volumes, seed=2, groups=["A"] * len(patients)) == split_by_patient(
        patients, volumes, seed=2
    )
    shuffled = np.random.default_rng(1).permutation(len(patients))
    mixed = [[values[i] for i in shuffled] for values in (patients, volumes, groups)]
    one = split_by_patient(patients, volumes, seed=3, groups=groups)
    assert [one[i] for i in shuffled] == split_by_patient(mixed[0], mixed[1], seed=3, groups=mixed[2])
    assert one != split_by_patient(patients, volumes, seed=4, groups=groups)


def test_folds_share_out_each_site() -> None:
    patients, volumes, groups = sites([20, 30, 10], 3)
    fold_of = of_patient(patients, folds_by_patient(patients, volumes, 5, 1, groups))
    assert set(Counter(fold_of.values()).values()) == {12}
    for site, size in enumerate((20, 30, 10)):
        counts = Counter(fold for patient, fold in fold_of.items() if patient.startswith(f"{site}-"))
        assert all(abs(counts[fold] - size / 5) < 2 for fold in range(5))


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.5, 0.5, 0.5), (-0.1, 0.6, 0.5)])
def test_wrong_fractions(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"0.7,0.1,0.2"):
        split_by_patient(["a", "b", "c"], [1, 2, 3], fractions)


def test_too_few_patients() -> None:
    with pytest.raises(InputError, match=r"2 patient.* 3 parts"):
        split_by_patient(["a", "b", "b"], [1, 2, 3])
    with pytest.raises(InputError, match=r"folds is 3.*to the number of patients, 2"):
        folds_by_patient(["a", "b"], [1, 2], 3)
