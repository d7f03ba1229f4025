# SPDX-License-Identifier: Apache-2.0
"""Lists of the ATLAS releases: masks to merge, sites, test scans without labels, known problems."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.datasets import check_inference, check_training
from custom_nets.errors import InputError
from tests.datasets import trees
from tools.make_datalist import main


def make(root: Path, **options: Any) -> dict[str, Any]:
    main("atlas", str(root), **options)
    return json.loads((root / "datalist.json").read_text())


def all_cases(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for section in ("training", "validation", "testing") for case in content.get(section, [])]


def names(content: dict[str, Any], section: str) -> list[str]:
    return [case["case"] for case in content.get(section, [])]


@pytest.mark.parametrize(
    ("build", "sizes"),
    [
        (trees.atlas_r1_1, (4, 1, 1)),  # subjects; one of them has two scans
        (trees.atlas_r1_2, (4, 1, 1)),
        (trees.atlas_r2_0, (6, 1, 1)),
    ],
)
def test_list_of_every_atlas_release_passes_the_training_checks(
    tmp_path: Path, build: Callable[[Path], None], sizes: tuple[int, ...]
) -> None:
    build(tmp_path)
    content = make(tmp_path)
    assert check_training(tmp_path, "datalist.json", ("T1",), (0, 1), progress=False) == []
    assert check_inference(tmp_path, "datalist.json", ("T1",), (0, 1), progress=False) == [], "testing can be scored"
    for section, size in zip(("training", "validation", "testing"), sizes, strict=True):
        assert len({case["patient"] for case in content[section]}) == size
    assert len({case["patient"] for case in all_cases(content)}) == sum(sizes)
    assert all(case["site"] for case in all_cases(content))
    assert content["labels"] == {"0": "background", "1": "lesion"}


def test_masks_are_merged_and_made_0_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.atlas_r1_1(tmp_path)
    content = make(tmp_path)
    shown = capsys.readouterr().out
    assert "merged_labels: masks of 1 scan(s) merged, single masks of 6 scan(s)" in shown
    label_of = {case["case"]: case["label"] for case in all_cases(content)}
    assert label_of["031768_t02"] == "merged_labels/031768_t02_label.nii.gz"
    voxels = nibabel.load(tmp_path / label_of["031768_t02"]).get_fdata()
    assert (voxels.sum(), voxels.max()) == (5, 1)
    assert next(line for line in shown.splitlines() if line.startswith("031768_t02")).split()[1:3] == [
        "031768",
        "Site1",
    ]
    (tmp_path / "ATLAS_R1.1/Site1/031768/t02/031768_LesionSmooth_1_stx.nii.gz").unlink()
    with pytest.raises(InputError, match=r"031768_t02_label.nii.gz \(1 such files\).*move it elsewhere"):
        make(tmp_path, overwrite=True)


def test_masks_of_0_and_1_are_listed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.atlas_r1_2(tmp_path)
    content = make(tmp_path)
    assert all("LesionSmooth_stx" in case["label"] for case in all_cases(content))
    assert not (tmp_path / "merged_labels").exists()
    assert "merged" not in capsys.readouterr().out


def test_merged_masks_are_not_found_as_masks(tmp_path: Path) -> None:
    trees.write_files(tmp_path, [f"{name}/t1.nii.gz" for name in "abc"], None)
    for name in "abc":
        trees.write_label(tmp_path / name / f"{name}_label.nii.gz", 3, 255)
    patterns = {"T1": "{case}/t1.nii.gz", "label": "**/{case}_label.nii.gz"}
    assert make(tmp_path, **patterns) == make(tmp_path, **patterns, overwrite=True)


def test_masks_that_cannot_be_merged_are_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.atlas_r1_1(tmp_path)
    folder = tmp_path / "ATLAS_R1.1/Site1/031768/t02"
    trees.write_label(folder / "031768_LesionSmooth_2_stx.nii.gz", 2, 255, shape=(6, 7, 9))
    trees.write_label(folder / "031768_LesionSmooth_3_stx.nii.gz", 2, 255, affine=np.diag([1, 1, -1, 1]))
    cut = folder.with_name("t01") / "031768_LesionSmooth_stx.nii.gz"
    cut.write_bytes(cut.read_bytes()[:40])
    with pytest.raises(InputError, match=r"2 case\(s\) of .* have errors"):
        make(tmp_path)
    shown = capsys.readouterr().out
    for fragment in ("shape (6, 7, 9)", "affine differs from 031768_t1w_deface_stx.nii.gz", "truncated"):
        assert fragment in shown
    assert not (tmp_path / "merged_labels").exists()
    content = make(tmp_path, skip_broken=True)
    assert "031768" not in {case["patient"] for case in all_cases(content)}


def test_unlabelled_test_scans_of_r2_0_are_a_list_of_their_own(tmp_path: Path) -> None:
    trees.atlas_r2_0(tmp_path)
    content = make(tmp_path)
    own = json.loads((tmp_path / "datalist_official_test.json").read_text())
    assert names(own, "testing") == ["sub-r050s001_ses-1", "sub-r050s002_ses-1"]
    assert not {"training", "validation"} & set(own)
    assert check_inference(tmp_path, "datalist_official_test.json", ("T1",), progress=False) == []
    with pytest.raises(InputError, match=r"datalist.json exists"):
        make(tmp_path)
    (tmp_path / "datalist.json").unlink()
    with pytest.raises(InputError, match=r"datalist_official_test.json exists: add --overwrite"):
        make(tmp_path)
    (tmp_path / "datalist_official_test.json").unlink()
    assert make(tmp_path, official_test=False) == content
    assert not (tmp_path / "datalist_official_test.json").exists()
    main("atlas", str(tmp_path), folds=4)
    assert {path.name for path in tmp_path.glob("*.json")} == {
        "datalist.json",
        "datalist_folds.json",
        "datalist_official_test.json",
        *(f"datalist_fold{fold}.json" for fold in range(4)),
    }


def test_test_scans_of_r2_0_alone_are_the_testing_list(tmp_path: Path) -> None:
    trees.atlas_r2_0(tmp_path)
    shutil.rmtree(tmp_path / "ATLAS_2/Training")
    content = make(tmp_path)
    assert names(content, "testing") == ["sub-r050s001_ses-1", "sub-r050s002_ses-1"]
    assert not (tmp_path / "datalist_official_test.json").exists()


def test_known_problems_of_r2_0_are_told_and_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.atlas_r2_0(tmp_path)
    known = {"sub-r009s003", "sub-r040s043"}
    assert known <= {case["patient"] for case in all_cases(make(tmp_path))}
    shown = capsys.readouterr().out
    assert "0 errors, 2 warnings" in shown
    for fragment in ("known problem of this data set: the mask does not match", "microbleeds", "--skip_known_problems"):
        assert fragment in shown
    content = make(tmp_path, skip_known_problems=True, overwrite=True)
    assert len(all_cases(content)) == 6
    assert not known & {case["patient"] for case in all_cases(content)}
    assert "no problems" in capsys.readouterr().out


def test_sites_are_shared_out(tmp_path: Path) -> None:
    numbers = range(1, 9)
    for site in numbers:
        for number in range(4):
            stem = f"Site{site}/{site}0000{number}/t01/{site}0000{number}"
            files = [f"{stem}_t1w_deface_stx.nii.gz"]
            trees.write_files(tmp_path, files, f"{stem}_LesionSmooth_stx.nii.gz", 1 + (5 * number + 3 * site) % 17)
    one = make(tmp_path, fractions="0.5,0.25,0.25", seed=3)
    for section, share in (("training", 2), ("validation", 1), ("testing", 1)):
        sites = [case["site"] for case in one[section]]
        counts = [sites.count(f"Site{site}") for site in numbers]
        assert max(abs(count - share) for count in counts) <= 1
        assert sum(count != share for count in counts) <= 4, "most sites have exactly their share"
    assert make(tmp_path, fractions="0.5,0.25,0.25", seed=3, overwrite=True) == one
    assert make(tmp_path, fractions="0.5,0.25,0.25", seed=4, overwrite=True)["testing"] != one["testing"]
