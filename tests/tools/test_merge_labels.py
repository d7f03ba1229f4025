# SPDX-License-Identifier: Apache-2.0
"""The command that merges binary masks into label maps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.errors import InputError
from tests.datasets import trees
from tools._command import run
from tools.merge_labels import main


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The published layout: a folder of masks a case. Case 2 has no cervix, and case 1 a voxel of two structures."""
    for case in ("1", "2"):
        trees.write_label(tmp_path / "split" / case / "Femur, left.nii", 3)
        if case == "1":
            cervix = np.zeros(trees.SHAPE, np.uint8)
            cervix[0, 0, 2:4] = 1
            trees.write_voxels(tmp_path / "split" / case / "Cervix.nii", cervix)
    (tmp_path / "split" / "class.txt").write_text("Cervix:8\n")
    return tmp_path / "split"


def values(path: Path) -> list[int]:
    return np.asanyarray(nibabel.load(path).dataobj)[0, 0].tolist()


def test_one_case_with_the_bundles_labels(split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = split.parent / "label.nii.gz"
    run(main, [str(split / "1"), str(output)])
    assert values(output) == [11, 11, 8, 8, 0, 0, 0, 0], "cervix, 8, comes before the left femur, 11"
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "no problems"
    table = [line.split() for line in shown]
    assert ["1", "6x7x8", "2", "4", "1", "52"] in table
    assert ["Cervix", "Femur,", "left", "1", "1"] in table
    assert shown[-2].startswith("no mask of: Adductor brevis, left; Adductor brevis, right; ")
    assert shown[-1] == f"wrote {output}"
    report = json.loads((split.parent / "label_merge.json").read_text())
    assert report["overlaps"] == [{"got": "Cervix", "lost": "Femur, left", "voxels": 1}]
    assert report["structures"] == [
        {"label": 8, "name": "Cervix", "mask_voxels": 2, "label_voxels": 2},
        {"label": 11, "name": "Femur, left", "mask_voxels": 3, "label_voxels": 2},
    ]
    assert len(report["absent"]) == 52
    assert (report["overlap"], report["shape"], report["case"]) == ("first", list(trees.SHAPE), "1")


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        (["--overlap=last"], 11),
        (["--overlap=smallest"], 8),
        (["--overlap=largest"], 11),
        (["--order=femur_left,cervix"], 11),
        (["--order=femur-left"], 11),
        (["--order=femur_left", "--overlap", "last"], 8),
    ],
)
def test_options_decide_who_gets_a_voxel(split: Path, options: list[str], shared: int) -> None:
    output = split.parent / "label.nii.gz"
    run(main, [str(split / "1"), str(output), *options])
    assert values(output) == [11, 11, shared, 8, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["table.json", "class.txt"])
def test_another_table(split: Path, name: str) -> None:
    table = split.parent / name
    table.write_text(
        '{"0": "background", "1": "femur left", "2": "cervix"}' if "json" in name else "femur left:1\ncervix:2"
    )
    run(main, [str(split / "1"), str(split.parent / "label.nii"), "--table", str(table)])
    assert values(split.parent / "label.nii") == [1, 1, 1, 2, 0, 0, 0, 0]


def test_broken_cases_are_reported_and_the_others_done(split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (split / "3").mkdir()
    (split / "3" / "Cervix.nii").write_bytes(b"broken")
    trees.write_label(split / "4" / "kidney.nii")
    output = split.parent / "labelsTr"
    with pytest.raises(SystemExit) as stop:
        run(main, [str(split), str(output)])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert sorted(path.name for path in output.iterdir()) == ["1.nii.gz", "1_merge.json", "2.nii.gz", "2_merge.json"]
    assert values(output / "2.nii.gz") == [11, 11, 11, 0, 0, 0, 0, 0]
    assert "2 errors, 0 warnings" in shown.out
    assert "'kidney' is not in the label table" in shown.out
    assert "Cervix (in 1 of 2)" in shown.out
    assert f"wrote {output / '1.nii.gz'} and 1 more" in shown.out
    assert shown.err.splitlines()[-1] == "error: 2 of 4 case(s) not merged, see the table: 3, 4"


def test_what_exists_stays(split: Path) -> None:
    output = split.parent / "out"
    output.mkdir()
    (output / "2.nii.gz").write_text("mine")
    with pytest.raises(InputError, match=r"2.nii.gz exists: add --overwrite"):
        main(str(split), str(output))
    assert [path.name for path in output.iterdir()] == ["2.nii.gz"]
    assert (output / "2.nii.gz").read_text() == "mine"
    main(str(split), str(output), overwrite=True)
    assert values(output / "2.nii.gz") == [11, 11, 11, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "biggest"}, "overlap is 'biggest': use one of first, last, largest, smallest, error"),
        ({"order": "femur_lfet"}, "order: 'femur_lfet' is not in the label table.*'Femur, left'"),
        ({"table": "gone.json"}, "gone.json: label table cannot be read"),
        ({"overlap": "error"}, r"1 of 2 case\(s\) not merged, see the table: 1$"),
    ],
)
def test_wrong_options(split: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main(str(split), str(split.parent / "out"), **options)


def test_the_command(split: Path) -> None:
    command = [sys.executable, "-m", "tools.merge_labels", str(split), str(split.parent / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
