# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from custom_nets.datasets.domains import MS_LESIONS
from custom_nets.datasets.layouts import Layout, detect_layout, find_cases, general_layout
from custom_nets.datasets.ms_layouts import ISBI2015, LJUBLJANA, MSLESSEG
from custom_nets.errors import InputError
from tests.datasets import trees

MODALITIES = MS_LESIONS.modalities


def names(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_mslesseg_tells_the_time_point_from_the_modality(tmp_path: Path) -> None:
    trees.mslesseg(tmp_path)
    found = find_cases(tmp_path, MSLESSEG, MODALITIES)
    assert found.problems == []
    assert [case.name for case in found.cases] == ["P1_T1", "P1_T2", "P2_T1", "P3_T1", "P54", "P55"]
    assert [case.patient for case in found.cases] == ["P1", "P1", "P2", "P3", "P54", "P55"]
    assert [case.official_test for case in found.cases] == [False] * 4 + [True] * 2
    second = found.cases[1]
    stem = "MSLesSeg Dataset/train/P1/T2/P1_T2"
    assert names(tmp_path, second.images) == [f"{stem}_T1.nii.gz", f"{stem}_T2.nii.gz", f"{stem}_FLAIR.nii.gz"]
    assert second.labels == (tmp_path / f"{stem}_MASK.nii.gz",)
    assert found.cases[4].images[0].name == "P54_T1.nii.gz"
    assert len(found.cases[4].labels) == 1
    assert found.cases[5].labels == ()


def test_mslesseg_from_its_train_folder(tmp_path: Path) -> None:
    trees.mslesseg(tmp_path)
    assert len(find_cases(tmp_path / "MSLesSeg Dataset" / "train", MSLESSEG, MODALITIES).cases) == 4


@pytest.mark.parametrize("rater", [1, 2])
def test_isbi2015_raters_and_unlabelled_test_scans(tmp_path: Path, rater: int) -> None:
    trees.isbi2015(tmp_path)
    found = find_cases(tmp_path, ISBI2015, MODALITIES, rater)
    assert found.problems == []
    assert [(case.name, case.patient) for case in found.cases][-2:] == [
        ("training02_01", "training02"),
        ("training02_02", "training02"),
    ]
    assert found.cases[0].official_test
    assert found.cases[0].labels == ()
    assert [path.name for path in found.cases[1].images] == [
        f"training01_01_{n}_pp.nii" for n in ("mprage", "t2", "flair")
    ]
    assert found.cases[1].labels == (tmp_path / f"training/training01/masks/training01_01_mask{rater}.nii",)


def test_ljubljana_both_namings(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path)
    found = find_cases(tmp_path, LJUBLJANA, ("FLAIR", "T1", "T1POST"))
    assert found.problems == []
    assert [path.name for path in found.cases[0].images] == ["flair.nii.gz", "t1.nii.gz", "t1post.nii.gz"]
    assert [path.name for path in found.cases[3].images] == [
        "patient04_FLAIR.nii.gz",
        "patient04_T1W_N4_regtoFLAIR_brain.nii.gz",
        "patient04_T1WKS_N4_regtoFLAIR_brain.nii.gz",
    ]
    assert [case.labels[0].name for case in found.cases][2:] == [
        "patient03_consensus_gt.nii.gz",
        "patient04_consensus_gt.nii.gz",
    ]


def test_general_patterns(tmp_path: Path) -> None:
    trees.general(tmp_path)
    found = find_cases(tmp_path, general_layout(trees.GENERAL_PATTERNS), MODALITIES)
    assert found.problems == []
    assert [case.name for case in found.cases] == [f"sub-{n}_v{visit}" for n in (1, 2, 3) for visit in (1, 2)]
    assert [case.patient for case in found.cases] == ["sub-1", "sub-1", "sub-2", "sub-2", "sub-3", "sub-3"]
    assert names(tmp_path, found.cases[3].images)[2] == "scans/sub-2/v2_FLAIR.nii.gz"


@pytest.mark.parametrize(
    ("patient", "case", "name"),
    [("P1", "P1_v1", "P1_v1"), ("P1", "P10", "P1_P10"), ("P1", "v1", "P1_v1"), ("a", "a", "a")],
)
def test_case_name_holds_the_patient(tmp_path: Path, patient: str, case: str, name: str) -> None:
    trees.write_files(tmp_path, [f"{patient}/{case}_T1.nii.gz"], f"{patient}/{case}_seg.nii.gz")
    layout = general_layout({"T1": "{patient}/{case}_T1.nii.gz", "label": "{patient}/{case}_seg.nii.gz"})
    assert [found.name for found in find_cases(tmp_path, layout, ["T1"]).cases] == [name]


@pytest.mark.parametrize(
    ("build", "layout"), [(trees.mslesseg, MSLESSEG), (trees.isbi2015, ISBI2015), (trees.ljubljana, LJUBLJANA)]
)
def test_structure_is_recognised(tmp_path: Path, build: Callable[[Path], None], layout: Layout) -> None:
    build(tmp_path)
    assert detect_layout(tmp_path, MS_LESIONS.layouts, MODALITIES) is layout


def test_unknown_structure_shows_the_known_ones(tmp_path: Path) -> None:
    trees.general(tmp_path)
    with pytest.raises(InputError, match=r"(?s)no known structure.*mslesseg.*isbi2015.*ljubljana.*--label"):
        detect_layout(tmp_path, MS_LESIONS.layouts, MODALITIES)


def test_missing_and_ambiguous_files_are_problems_of_their_case_only(tmp_path: Path) -> None:
    trees.mslesseg(tmp_path)
    train = tmp_path / "MSLesSeg Dataset" / "train"
    (train / "P2/T1/P2_T1_FLAIR.nii.gz").unlink()
    (train / "P3/T1/P3_T1_MASK.nii.gz").unlink()
    trees.write_scan(train / "P1/T2/P1_T2_T2.nii")
    found = find_cases(tmp_path, MSLESSEG, MODALITIES)
    assert [case.name for case in found.cases] == ["P1_T1", "P54", "P55"]
    assert [(problem.case, problem.found.split(" (")[0].split(",")[0]) for problem in found.problems] == [
        ("P1_T2", "2 files for T2"),
        ("P2_T1", "no FLAIR file"),
        ("P3_T1", "no label file"),
    ]


def test_labels_are_not_looked_for_when_unlabelled(tmp_path: Path) -> None:
    trees.write_files(tmp_path, [f"patient01/{name}.nii.gz" for name in ("t1", "t2", "flair")], None)
    assert find_cases(tmp_path, LJUBLJANA, MODALITIES).cases == []
    found = find_cases(tmp_path, LJUBLJANA, MODALITIES, labelled=False)
    assert [case.name for case in found.cases] == ["patient01"]
    assert found.problems == []


def test_links_are_followed_and_circles_are_left(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path / "store")
    root = tmp_path / "set"
    root.mkdir()
    (root / "patient01").symlink_to(tmp_path / "store" / "patient01")
    (root / "self").symlink_to(root)
    assert [case.name for case in find_cases(root, LJUBLJANA, MODALITIES).cases] == ["patient01"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"T1": "{case}_T1.nii"}, "no pattern for the labels"),
        ({"T1": "*_T1.nii", "label": "{case}.nii"}, r"--T1 '\*_T1.nii': use the placeholder \{case\}"),
        ({"T1": "{subject}_T1.nii", "label": "{case}.nii"}, "--T1.*placeholder"),
        ({"T1": "{patient}/{case}.nii", "label": "{case}.nii"}, "--label '{case}.nii': use the same placeholders"),
    ],
)
def test_wrong_patterns(patterns: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        general_layout(patterns)


def test_modality_and_rater_that_the_data_set_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="modality 'PD' is not in mslesseg: use any of T1, T2, FLAIR"):
        find_cases(tmp_path, MSLESSEG, ["T1", "PD"])
    with pytest.raises(InputError, match="rater is 3: the layout isbi2015 has labels of 2"):
        find_cases(tmp_path, ISBI2015, ["T1"], rater=3)
