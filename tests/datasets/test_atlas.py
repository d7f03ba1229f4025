# SPDX-License-Identifier: Apache-2.0
"""The releases of ATLAS: which file is what, and which files are nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from custom_nets.datasets.atlas_layouts import ATLAS_R1_1, ATLAS_R1_2, ATLAS_R2_0
from custom_nets.datasets.domains import ATLAS
from custom_nets.datasets.layouts import Layout, detect_layout, find_cases, general_layout
from custom_nets.datasets.splits import split_by_patient
from tests.datasets import trees

BUILDERS = [(trees.atlas_r1_1, ATLAS_R1_1), (trees.atlas_r1_2, ATLAS_R1_2), (trees.atlas_r2_0, ATLAS_R2_0)]


@pytest.mark.parametrize(("build", "layout"), BUILDERS)
def test_release_is_recognised_and_the_template_is_no_case(
    tmp_path: Path, build: Callable[[Path], None], layout: Layout
) -> None:
    build(tmp_path)
    assert detect_layout(tmp_path, ATLAS.layouts, ("T1",)) is layout
    found = find_cases(tmp_path, layout, ("T1",))
    assert found.problems == []
    assert len(found.cases) == {"atlas_r1.1": 7, "atlas_r1.2": 6, "atlas_r2.0": 10}[layout.name]
    assert not any(image.name.startswith("MNI") for case in found.cases for image in case.images)


def test_r1_1(tmp_path: Path) -> None:
    trees.atlas_r1_1(tmp_path)
    cases = find_cases(tmp_path, ATLAS_R1_1, ("T1",)).cases
    assert [(case.name, case.patient, case.site) for case in cases[:4]] == [
        ("031768_t01", "031768", "Site1"),
        ("031768_t02", "031768", "Site1"),
        ("031769_t01", "031769", "Site1"),
        ("031770_t01", "031770", "Site2"),
    ]
    folder = tmp_path / "ATLAS_R1.1/Site1/031768/t02"
    assert cases[1].images == (folder / "031768_t1w_deface_stx.nii.gz",)
    assert cases[1].labels == tuple(folder / f"031768_LesionSmooth_{n}stx.nii.gz" for n in ("1_", ""))


def test_r1_2(tmp_path: Path) -> None:
    trees.atlas_r1_2(tmp_path)
    trees.write_label(tmp_path / "standard_mni/c0005/c0005s0003t01/c0005s0003t01_LesionSmooth_2_stx.nii.gz")
    cases = find_cases(tmp_path, ATLAS_R1_2, ("T1",)).cases
    assert (cases[0].name, cases[0].patient, cases[0].site) == ("c0003s0001_t01", "c0003s0001", "c0003")
    assert [path.name for path in cases[-1].images] == ["c0005s0003t01_t1w_stx.nii.gz"]
    assert [path.name for path in cases[-1].labels] == [f"c0005s0003t01_LesionSmooth_{n}stx.nii.gz" for n in ("2_", "")]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_r2_0(tmp_path: Path, suffix: str) -> None:
    trees.atlas_r2_0(tmp_path, suffix)
    cases = find_cases(tmp_path, ATLAS_R2_0, ("T1",)).cases
    assert [(case.name, case.patient, case.site) for case in (cases[0], cases[-1])] == [
        ("sub-r009s001_ses-1", "sub-r009s001", "R009"),
        ("sub-r050s002_ses-1", "sub-r050s002", "R050"),
    ]
    stem = "sub-r009s001_ses-1_space-MNI152NLin2009aSym"
    assert cases[0].images[0].name == f"{stem}_T1w{suffix}"
    assert cases[0].labels[0].name == f"{stem}_label-L_desc-T1lesion_mask{suffix}"
    assert [case.official_test for case in cases] == [False] * 8 + [True] * 2
    assert [len(case.labels) for case in cases] == [1] * 8 + [0] * 2
    assert {case.patient: case.known_problem for case in cases if case.known_problem} == ATLAS_R2_0.known_problems


@pytest.mark.parametrize(
    ("build", "layout", "folder", "cases"),
    [
        (trees.atlas_r1_1, ATLAS_R1_1, "ATLAS_R1.1/Site1", 3),
        (trees.atlas_r1_2, ATLAS_R1_2, "standard_mni/c0003/c0003s0001t01", 1),
        (trees.atlas_r2_0, ATLAS_R2_0, "ATLAS_2/Training/R009", 4),
    ],
)
def test_from_a_folder_of_the_release(
    tmp_path: Path, build: Callable[[Path], None], layout: Layout, folder: str, cases: int
) -> None:
    build(tmp_path)
    assert len(find_cases(tmp_path / folder, layout, ("T1",)).cases) == cases


def test_missing_mask_and_copies_of_a_mask_are_problems(tmp_path: Path) -> None:
    trees.atlas_r1_1(tmp_path)
    stem = tmp_path / "ATLAS_R1.1/Site2/031770/t01/031770_LesionSmooth"
    trees.write_label(Path(f"{stem}_stx.nii"))
    (tmp_path / "ATLAS_R1.1/Site3/031773/t01/031773_LesionSmooth_stx.nii.gz").unlink()
    problems = find_cases(tmp_path, ATLAS_R1_1, ("T1",)).problems
    assert [(problem.case, problem.found.split(",")[0]) for problem in problems] == [
        ("031770_t01", "2 files for label"),
        ("031773_t01", "no label file (found only T1)"),
    ]


def test_a_mask_in_a_folder_of_training_scans_is_needed_and_of_test_scans_not(tmp_path: Path) -> None:
    trees.atlas_r2_0(tmp_path)
    next(tmp_path.rglob("sub-r040s042*mask.nii.gz")).unlink()
    found = find_cases(tmp_path, ATLAS_R2_0, ("T1",))
    assert [problem.case for problem in found.problems] == ["sub-r040s042_ses-1"]
    assert [case.patient for case in found.cases if not case.labels] == ["sub-r050s001", "sub-r050s002"]


def test_several_masks_by_patterns(tmp_path: Path) -> None:
    patterns = {"T1": "{case}/T1.nii.gz", "label": "{case}/lesion*.nii.gz"}
    for name in ("T1", "lesion_left", "lesion_right"):
        trees.write_scan(tmp_path / f"a/{name}.nii.gz")
    merged = find_cases(tmp_path, general_layout(patterns, lesion_masks=ATLAS.lesion_masks), ("T1",))
    assert len(merged.cases[0].labels) == 2
    assert "2 files for label" in find_cases(tmp_path, general_layout(patterns), ("T1",)).problems[0].found


def test_as_many_scans_are_tested_as_in_the_paper() -> None:
    subjects, volumes = [f"{number:03d}" for number in range(239)], [float(number) for number in range(239)]
    counts = Counter(split_by_patient(subjects, volumes, ATLAS.fractions))
    assert counts == {"training": 184, "validation": 24, "testing": 31}
