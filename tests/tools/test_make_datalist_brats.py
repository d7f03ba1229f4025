# SPDX-License-Identifier: Apache-2.0
"""Lists of brain tumours: every data set, the published division and others, conventions of labels, 4D files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custom_nets.datasets import check_training, read_datalist
from custom_nets.datasets.splits import split_by_permutation
from custom_nets.datasets.tumour_labels import label_names, label_values
from custom_nets.errors import InputError
from custom_nets.preflight import before_training
from tests.datasets import trees
from tools.make_datalist import main

SECTIONS = ("training", "validation", "testing")


def make(root: Path, **options: Any) -> dict[str, Any]:
    main("brats", str(root), **options)
    return json.loads((root / "datalist.json").read_text())


def names(content: dict[str, Any], section: str) -> list[str]:
    return [case["case"] for case in content.get(section, [])]


def sizes(content: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(names(content, section)) for section in SECTIONS)


def patients(content: dict[str, Any], section: str) -> set[str]:
    return {case["patient"] for case in content[section]}


def preflight(root: Path, **options: Any) -> None:
    """The checks before training, of a bundle that reorders channels."""
    places = {"dataset_dir": str(root), "ckpt_dir": str(root / "models"), "output_dir": str(root / "eval")}
    common = {"patch_size": [8, 8, 8], "device": "cpu", "amp": False, "in_channels": 4, "out_channels": 4}
    own = {"datalist": "datalist.json", "label_convention": "auto", "reorder_channels": True}
    before_training("s2ca_net", {**places, **common, **own, **options})


@pytest.mark.parametrize(
    ("build", "layout", "convention", "expected"),
    [
        (trees.brats2019, "brats", "brats", (7, 2, 1)),
        (trees.brats2020, "brats", "brats", (4, 1, 2)),
        (trees.brats2021, "brats", "brats", (4, 2, 0)),
        (trees.brats2023, "brats2023", "brats2023", (None, None, 1)),  # six patients with nine scans
        (trees.msd_task01, "msd_task01", "msd", (4, 1, 2)),
        (trees.tumour_folders, "case_folders", "brats", (4, 1, 0)),
    ],
)
def test_list_of_every_data_set_passes_the_training_checks(
    tmp_path: Path, build: Callable[[Path], None], layout: str, convention: str, expected: tuple[int | None, ...]
) -> None:
    build(tmp_path)
    content = make(tmp_path)
    for size, wanted in zip(sizes(content), expected, strict=True):
        assert wanted in (None, size)
    assert content["label_convention"] == convention
    assert content["labels"] == {str(value): name for value, name in label_names(convention).items()}
    stacked = layout == "msd_task01"
    order = ("FLAIR", "T1", "T1CE", "T2") if stacked else ("T1", "T2", "T1CE", "FLAIR")
    assert tuple(content["modality"].values()) == order
    made_by = content["made_by"]
    assert (made_by["layout"], made_by["published_split"], made_by["seed"]) == (layout, True, 256)
    assert {len(case["image"]) for section in SECTIONS for case in content.get(section, [])} == {1 if stacked else 4}
    labels = label_values(convention)
    check_training(tmp_path, "datalist.json", order, labels, label_convention=convention, progress=False)
    preflight(tmp_path)
    assert make(tmp_path, layout=layout, overwrite=True) == content


def test_the_published_division_is_of_sorted_cases(tmp_path: Path) -> None:
    trees.brats2019(tmp_path)
    content = make(tmp_path)
    cases = [f"BraTS19_CBICA_A{number}_1" for number in range(9)]
    parts = split_by_permutation(cases, cases)
    assert names(content, "validation") == [
        case for case, part in zip(cases, parts, strict=True) if part == SECTIONS[1]
    ]
    assert names(content, "testing") == ["BraTS19_UAB_1"]
    assert "label" not in content["testing"][0]
    assert names(make(tmp_path, seed=3, overwrite=True), "validation") != names(content, "validation")


def test_patients_with_several_scans_stay_together(tmp_path: Path) -> None:
    trees.brats2023(tmp_path)
    content = make(tmp_path)
    assert len(patients(content, "validation")) == 2
    assert not patients(content, "training") & patients(content, "validation")
    main("brats", str(tmp_path), folds=3)
    validated = list[str]()
    for fold in range(3):
        sections = read_datalist(tmp_path, f"datalist_fold{fold}.json")
        assert len({case["patient"] for case in sections["validation"]}) == 2
        validated += [case["case"] for case in sections["validation"]]
    assert sorted(validated) == sorted(names(content, "training") + names(content, "validation"))
    header = json.loads((tmp_path / "datalist_fold0.json").read_text())
    assert header["made_by"]["published_split"] is False
    assert header["made_by"]["seed"] == 0


def test_grades_are_spread_evenly_with_fractions(tmp_path: Path) -> None:
    trees.brats2019(tmp_path)
    content = make(tmp_path, fractions="0.67,0.33,0")
    assert sorted(case["site"] for case in content["validation"]) == ["HGG", "HGG", "LGG"]
    assert names(content, "testing") == ["BraTS19_UAB_1"]
    assert content["made_by"]["published_split"] is False


def test_scans_held_out_for_testing_can_be_scored(tmp_path: Path) -> None:
    trees.brats2020(tmp_path)
    content = make(tmp_path, fractions="0.6,0.2,0.2")
    assert sizes(content) == (3, 1, 1)
    assert "label" in content["testing"][0]
    apart = json.loads((tmp_path / "datalist_official_test.json").read_text())
    assert names(apart, "testing") == ["BraTS20_Validation_001", "BraTS20_Validation_002"]
    assert apart["label_convention"] == "brats"


def test_validation_scans_alone(tmp_path: Path) -> None:
    for number in (1, 2):
        name = f"BraTS2021_{number:05d}"
        trees.tumour_case(tmp_path, f"RSNA_ASNR_MICCAI_BraTS2021_ValidationData/{name}/{name}", label=None)
    assert sizes(make(tmp_path)) == (0, 0, 2)
    folder = tmp_path / "RSNA_ASNR_MICCAI_BraTS2021_ValidationData"
    with pytest.raises(InputError, match="have errors"):
        make(folder)
    assert sizes(make(folder, unlabelled=True)) == (0, 0, 2)


def test_labels_in_another_convention_than_the_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.brats2021(tmp_path)
    for path in tmp_path.rglob("*_seg.nii.gz"):
        trees.write_tumour(path, (1, 2, 3))
    with pytest.raises(InputError, match=r"6 case\(s\) of .* have errors"):
        make(tmp_path)
    shown = capsys.readouterr().out
    for fragment in ("BraTS2021_00000_seg.nii.gz", "unknown label values 3 (3 voxels)", "--label_convention brats2023"):
        assert fragment in shown
    content = make(tmp_path, label_convention="brats2023")
    assert content["label_convention"] == "brats2023"
    assert list(content["labels"]) == ["0", "1", "2", "3"]
    preflight(tmp_path)
    with pytest.raises(SystemExit, match=r"_seg.nii.gz .*3 \(3 voxels\) -> .*--label_convention brats2023"):
        preflight(tmp_path, label_convention="brats")


def test_conventions_are_for_brain_tumours(tmp_path: Path) -> None:
    trees.brats2021(tmp_path)
    with pytest.raises(InputError, match="label_convention is 'msd': only label maps of brats have one"):
        main("ms_lesions", str(tmp_path), label_convention="msd")
    with pytest.raises(InputError, match="the label convention is 'fets': choose one of brats"):
        make(tmp_path, label_convention="fets")
    with pytest.raises(InputError, match=r"table is 'x.json': the labels of brats are always 0 background"):
        make(tmp_path, table="x.json")


def test_patterns(tmp_path: Path) -> None:
    for number in range(5):
        trees.tumour_case(tmp_path, f"{number}/tumour", label="_mask")
    patterns = {role: f"{{case}}/tumour_{role.lower()}.nii.gz" for role in ("T1", "T2", "T1CE", "FLAIR")}
    content = make(tmp_path, **patterns, label="{case}/tumour_mask.nii.gz")
    assert sizes(content) == (4, 1, 0)
    assert content["label_convention"] == "brats"
    assert content["made_by"]["layout"] == "general"


def test_an_order_of_the_users_own(tmp_path: Path) -> None:
    trees.tumour_folders(tmp_path)
    content = make(tmp_path, modalities="FLAIR,T1,T1CE,T2")
    assert list(content["modality"].values()) == ["FLAIR", "T1", "T1CE", "T2"]
    assert Path(content["training"][0]["image"][0]).name == "flair.nii.gz"
    preflight(tmp_path)
    with pytest.raises(SystemExit, match="the network expects T1, T2, T1CE, FLAIR"):
        preflight(tmp_path, reorder_channels=False)


def test_4d_files_with_a_channel_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.msd_task01(tmp_path)
    trees.write_scan(tmp_path / "Task01_BrainTumour/imagesTr/BRATS_003.nii.gz", 3, (*trees.SHAPE, 3))
    with pytest.raises(InputError, match=r"1 case\(s\) of .* have errors"):
        make(tmp_path)
    shown = capsys.readouterr().out
    for fragment in ("BRATS_003.nii.gz", "3 channel(s)", "give 4 modalities (FLAIR, T1, T1CE, T2)"):
        assert fragment in shown
    assert sizes(make(tmp_path, skip_broken=True)) == (3, 1, 2)
