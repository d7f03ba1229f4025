# SPDX-License-Identifier: Apache-2.0
"""Plans of folds: each case in exactly one, patients together, and never among those that its network learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.case_names import case_name
from custom_nets.datasets.datalist import load_section
from custom_nets.errors import InputError
from custom_nets.spine.folds import cross_validation_lists, fold_lists, fold_of_cases, patient_of, write_lists


def cases(count: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    numbers = range(first, first + count)
    return [{"image": [f"MR/Case{n}.nii.gz"], "label": f"Mask/mask_case{n}.nii.gz", **more} for n in numbers]


def data_set(folder: Path, **sections: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps({"modality": {"0": "T2"}, **sections}))
    return folder


def names(path: Path, data: Path, section: str) -> list[str]:
    return [case_name(case["image"]) for case in load_section(data, str(path), section)]


@pytest.mark.parametrize(("count", "folds"), [(3, 3), (10, 5), (11, 5), (172, 5), (7, 2)])
def test_every_case_is_in_exactly_one_fold_of_equal_size(count: int, folds: int) -> None:
    plan = fold_of_cases(cases(count), folds)
    sizes = [plan.count(fold) for fold in range(folds)]
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 1


def test_the_plan_follows_from_the_seed_and_not_from_the_order() -> None:
    listed = cases(20)
    plan = fold_of_cases(listed, 4)
    assert fold_of_cases(listed[::-1], 4)[::-1] == plan
    assert len({tuple(fold_of_cases(listed, 4, seed)) for seed in range(5)}) == 5


def test_scans_of_a_patient_stay_together() -> None:
    listed = [{**case, "patient": number // 3} for number, case in enumerate(cases(18))]
    plan = fold_of_cases(listed, 3)
    assert len({(patient_of(case), fold) for case, fold in zip(listed, plan, strict=True)}) == 6


@pytest.mark.parametrize(
    ("count", "folds", "fragment"),
    [
        (5, 1, "folds is 1: give a whole number of at least 2"),
        (5, "5", "folds is '5'"),
        (5, True, "folds is True"),
        (5, 6, "folds is 6: give a number from 2 to the number of patients, 5"),
        (3, 2, "folds is 2: of 3 cases, 1 would be left"),
        (2, 2, "1 would be left"),
    ],
)
def test_folds_that_cannot_be_are_refused(count: int, folds: Any, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        fold_of_cases(cases(count), folds)
    assert fragment in str(caught.value)


def test_equal_names_are_refused() -> None:
    with pytest.raises(InputError, match="two cases are called 'Case0'"):
        fold_of_cases([*cases(3), {"image": ["other/Case0.nii.gz"]}], 2)


def test_no_fold_trains_on_its_own_cases(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", training=cases(7), validation=cases(2, 7), testing=cases(3, 9))
    paths = write_lists(fold_lists(data, "datalist.json", 3), tmp_path / "run" / "folds")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"run/folds/fold{fold}/datalist.json" for fold in (1, 2, 3)
    ]
    everyone = {f"Case{number}" for number in range(7)}
    own = [names(path, data, "testing") for path in paths]
    assert sorted(name for fold in own for name in fold) == sorted(everyone)
    for path, fold in zip(paths, own, strict=True):
        assert set(names(path, data, "training")) == everyone - set(fold)
        assert names(path, data, "validation") == ["Case7", "Case8"]


def test_the_lists_name_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the data set's folder is given from where one stands, and paths lead out of it."""
    far = [{"image": ["../far/Case9.nii.gz"], "label": str(tmp_path / "absolute.nii.gz"), "site": "A"}]
    data = data_set(tmp_path / "data", training=[*cases(3), *far], validation=cases(1, 5))
    monkeypatch.chdir(tmp_path)
    paths = write_lists(fold_lists("data", "datalist.json", 2), "run")
    whole = load_section(data, "datalist.json", "training")
    for path in paths:
        listed = [*load_section(data, str(path), "training"), *load_section("data", path, "testing")]
        assert sorted(listed, key=str) == sorted(whole, key=str)
        assert json.loads(path.read_text())["modality"] == {"0": "T2"}


def test_a_training_case_of_a_validation_cases_name_is_refused(tmp_path: Path) -> None:
    other = [{"image": ["b/Case0.nii.gz"], "label": "b/mask.nii.gz"}]
    data = data_set(tmp_path / "data", training=cases(4), validation=other)
    with pytest.raises(InputError, match="two cases are called 'Case0'"):
        fold_lists(data, "datalist.json", 2)


def test_cross_validation_tests_every_labelled_case_once(tmp_path: Path) -> None:
    unlabelled = [{"image": ["MR/Case99.nii.gz"]}]
    data = data_set(tmp_path / "data", training=cases(8), validation=cases(2, 8), testing=[*cases(3, 10), *unlabelled])
    paths = write_lists(cross_validation_lists(data, "datalist.json", 4), tmp_path)
    tested = [name for path in paths for name in names(path, data, "testing")]
    assert sorted(tested) == sorted(f"Case{number}" for number in range(13))
    for path in paths:
        parts = [set(names(path, data, section)) for section in ("training", "validation", "testing")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 13
        assert len(parts[1]) == 2


def test_cross_validation_keeps_patients_apart(tmp_path: Path) -> None:
    listed = [{**case, "patient": number // 2} for number, case in enumerate(cases(16))]
    data = data_set(tmp_path / "data", training=listed[:14], validation=listed[14:])
    for path in write_lists(cross_validation_lists(data, "datalist.json", 4), tmp_path):
        patients = [
            {case["patient"] for case in load_section(data, path, section)}
            for section in ("training", "validation", "testing")
        ]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 8
        for fold in write_lists(fold_lists(data, path, 2), path.parent):
            inner = [{case["patient"] for case in load_section(data, fold, part)} for part in ("training", "testing")]
            assert not inner[0] & inner[1] and not patients[2] & (inner[0] | inner[1])


def test_too_few_cases_to_cross_validate(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", training=cases(2), validation=cases(1, 2))
    with pytest.raises(InputError, match="1 cases would be left to train on"):
        cross_validation_lists(data, "datalist.json", 3)
