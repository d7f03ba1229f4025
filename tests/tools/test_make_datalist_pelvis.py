# SPDX-License-Identifier: Apache-2.0
"""Lists of pelvic volumes: the published division, other structures of folders, other label tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.datasets import check_inference, check_training, read_datalist
from custom_nets.datasets.domains import DOMAINS, PELVIS, domain_named
from custom_nets.datasets.layouts import Layout, detect_layout, find_cases
from custom_nets.datasets.pelvis_layouts import CASE_FOLDERS, DECATHLON, SPLIT_FOLDERS
from custom_nets.datasets.splits import split_by_patient
from custom_nets.errors import InputError
from custom_nets.registry import bundle
from tests.datasets import trees
from tools.make_datalist import main

LABELS = tuple(bundle("s2anet").labels)


def make(root: Path, **options: Any) -> dict[str, Any]:
    main("pelvis", str(root), **options)
    return json.loads((root / "datalist.json").read_text())


def names(content: dict[str, Any], section: str) -> list[str]:
    return [case["case"] for case in content.get(section, [])]


def sizes(content: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(names(content, section)) for section in ("training", "validation", "testing"))


def test_the_bundles_modality_and_labels() -> None:
    assert PELVIS.modalities == bundle("s2anet").modalities
    assert domain_named("pelvis").labels == bundle("s2anet").labels
    assert domain_named("atlas") is DOMAINS["atlas"]


@pytest.mark.parametrize(
    ("build", "layout", "expected"),
    [
        (trees.split_folders, SPLIT_FOLDERS, (4, 1, 2)),
        (trees.decathlon, DECATHLON, (9, 1, 2)),  # the test scans are the data set's own
        (trees.case_folders, CASE_FOLDERS, (3, 1, 1)),
    ],
)
def test_list_of_every_structure_passes_the_training_checks(
    tmp_path: Path, build: Callable[[Path], None], layout: Layout, expected: tuple[int, ...]
) -> None:
    build(tmp_path)
    assert detect_layout(tmp_path, PELVIS.layouts, PELVIS.modalities) is layout
    content = make(tmp_path)
    assert check_training(tmp_path, "datalist.json", ("MR",), LABELS, progress=False) == []
    assert sizes(content) == expected
    assert content["made_by"]["layout"] == layout.name
    assert content["modality"] == {"0": "MR"}
    assert content["labels"] == {str(value): name for value, name in bundle("s2anet").labels.items()}
    for case in (*content["training"], *content["validation"]):
        assert (tmp_path / case["label"]).is_file()


def test_the_published_division_is_kept(tmp_path: Path) -> None:
    trees.split_folders(tmp_path)
    content = make(tmp_path)
    assert names(content, "training") == ["1", "2", "3", "4"]
    assert names(content, "validation") == ["5"]
    assert names(content, "testing") == ["6", "7"]
    assert content["testing"] == [
        {"case": "6", "patient": "6", "image": ["3D/test/6.nii"], "label": "3D/test/6label.nii"},
        {"case": "7", "patient": "7", "image": ["3D/test/7.nii"]},
    ]
    (tmp_path / "datalist.json").unlink()
    assert sizes(make(tmp_path / "3D")) == (4, 1, 2)


@pytest.mark.parametrize(
    ("options", "testing", "counts"),
    [
        ({"fractions": (0.6, 0.4, 0)}, ["6", "7"], (3, 2, 2)),
        ({"official_test": False}, None, (4, 1, 1)),  # all six labelled cases dealt out
    ],
)
def test_another_division_on_request(
    tmp_path: Path, options: dict[str, Any], testing: list[str] | None, counts: tuple[int, ...]
) -> None:
    trees.split_folders(tmp_path)
    content = make(tmp_path, **options)
    assert sizes(content) == counts
    if testing:
        assert names(content, "testing") == testing


def test_scans_without_labels_are_all_for_testing(tmp_path: Path) -> None:
    trees.split_folders(tmp_path)
    assert sizes(make(tmp_path, unlabelled=True)) == (0, 0, 7)


def test_folds_of_the_published_division(tmp_path: Path) -> None:
    trees.split_folders(tmp_path)
    main("pelvis", str(tmp_path), folds=5)
    validated = set()
    for fold in range(5):
        sections = read_datalist(tmp_path, f"datalist_fold{fold}.json")
        assert [len(cases) for cases in sections.values()] == [4, 1, 2]
        validated |= {case["case"] for case in sections["validation"]}
    assert validated == set("12345")


def test_a_division_without_validation_gets_some(tmp_path: Path) -> None:
    trees.split_folders(tmp_path)
    for path in (tmp_path / "3D/val").iterdir():
        path.unlink()
    content = make(tmp_path)
    assert sizes(content) == (3, 1, 2)
    assert names(content, "testing") == ["6", "7"]


def test_a_case_in_two_parts_is_a_problem(tmp_path: Path) -> None:
    trees.split_folders(tmp_path)
    trees.write_files(tmp_path, ["3D/test/1.nii"], "3D/test/1label.nii")
    problems = find_cases(tmp_path, SPLIT_FOLDERS, ("MR",)).problems
    assert [problem.found.split(",")[0] for problem in problems] == ["2 files for MR", "2 files for label"]
    with pytest.raises(InputError, match=r"1 case\(s\) of .* have errors"):
        make(tmp_path)


def test_label_maps_of_many_structures_are_listed_as_they_are(tmp_path: Path) -> None:
    trees.case_folders(tmp_path)
    for path in tmp_path.rglob("label*"):
        trees.write_voxels(path, np.arange(np.prod(trees.SHAPE), dtype=np.uint8).reshape(trees.SHAPE) % 55)
    content = make(tmp_path)
    listed = [case["label"] for section in ("training", "validation", "testing") for case in content[section]]
    assert sorted(tmp_path / label for label in listed) == sorted(tmp_path.rglob("label*.nii.gz"))
    assert not (tmp_path / "merged_labels").exists()


@pytest.mark.parametrize("suffix", ["", "_0000"])
def test_decathlon_names(tmp_path: Path, suffix: str) -> None:
    trees.decathlon(tmp_path, suffix)
    content = make(tmp_path)
    assert names(content, "testing") == ["p10", "p11"]
    everyone = [case for section in ("training", "validation") for case in content[section]]
    assert {case["image"][0] for case in everyone} == {f"imagesTr/p{n:02d}{suffix}.nii.gz" for n in range(10)}
    assert all(case["label"] == f"labelsTr/{case['case']}.nii.gz" for case in everyone)


def test_labelled_test_scans_can_be_scored(tmp_path: Path) -> None:
    trees.decathlon(tmp_path)
    for name in ("p10", "p11"):
        trees.write_label(tmp_path / f"labelsTs/{name}.nii.gz")
    assert sizes(make(tmp_path)) == (9, 1, 2)
    assert check_inference(tmp_path, "datalist.json", ("MR",), LABELS, progress=False) == []


def test_any_other_naming_by_patterns(tmp_path: Path) -> None:
    for number in range(4):
        trees.write_files(tmp_path, [f"{number}/vol.nii.gz"], f"{number}/seg.nii.gz")
    content = make(tmp_path, MR="{case}/vol.nii.gz", label="{case}/seg.nii.gz")
    assert sizes(content) == (2, 1, 1)
    with pytest.raises(InputError, match=r'(?s)no known structure.*split_folders.*--MR "\{patient\}/\{case\}_MR'):
        make(tmp_path, overwrite=True)


def test_labels_by_a_table(tmp_path: Path) -> None:
    trees.case_folders(tmp_path)
    trees.write_label(tmp_path / "scans/case0/label.nii.gz", value=60)
    with pytest.raises(InputError, match=r"1 case\(s\) of .* have errors"):
        make(tmp_path)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({str(value): f"structure {value}" if value else "background" for value in range(61)}))
    content = make(tmp_path, table=str(table))
    assert content["labels"]["60"] == "structure 60"
    assert len(content["labels"]) == 61
    with pytest.raises(
        InputError, match=r"table is 'table.json': the labels of atlas are always 0 background, 1 lesion"
    ):
        main("atlas", str(tmp_path), table="table.json")


def test_as_many_volumes_are_tested_as_in_the_paper() -> None:
    patients, volumes = [str(number) for number in range(27)], [float(number) for number in range(27)]
    counts = Counter(split_by_patient(patients, volumes, PELVIS.fractions))
    assert counts == {"training": 18, "validation": 3, "testing": 6}
