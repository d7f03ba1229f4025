# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custom_nets.datasets import check_inference, check_training, read_datalist
from custom_nets.errors import InputError
from tests.datasets import trees
from tools._command import run
from tools.make_datalist import main

MODALITIES = ("T1", "T2", "FLAIR")


def make(root: Path, **options: Any) -> dict[str, Any]:
    main("ms_lesions", str(root), **options)
    return json.loads((root / "datalist.json").read_text())


def everyone(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for section in ("training", "validation", "testing") for case in content.get(section, [])]


def cases(content: dict[str, Any], section: str) -> list[str]:
    return [case["case"] for case in content.get(section, [])]


@pytest.mark.parametrize(
    ("build", "options", "sizes"),
    [
        (trees.mslesseg, {}, (None, None, 2)),  # three patients with one or two visits; the official test scans
        (trees.isbi2015, {"rater": 2}, (2, 2, 1)),
        (trees.ljubljana, {}, (2, 1, 1)),
        (trees.ljubljana, {"fractions": (0.75, 0.25, 0)}, (3, 1, 0)),
        (trees.general, trees.GENERAL_PATTERNS, (2, 2, 2)),
    ],
)
def test_list_of_every_layout_passes_the_training_checks(
    tmp_path: Path, build: Callable[[Path], None], options: dict[str, Any], sizes: tuple[int | None, ...]
) -> None:
    build(tmp_path)
    content = make(tmp_path, **options)
    assert check_training(tmp_path, "datalist.json", MODALITIES, (0, 1), progress=False) == []
    for section, size in zip(("training", "validation", "testing"), sizes, strict=True):
        if size is not None:
            assert len(cases(content, section)) == size
    for section in ("training", "validation", "testing"):
        for case in content.get(section, []):
            assert all((tmp_path / image).is_file() and not Path(image).is_absolute() for image in case["image"])
    assert content["modality"] == {"0": "T1", "1": "T2", "2": "FLAIR"}
    assert content["labels"] == {"0": "background", "1": "lesion"}


def test_official_test_scans(tmp_path: Path) -> None:
    trees.mslesseg(tmp_path)
    assert cases(make(tmp_path), "testing") == ["P54", "P55"]
    content = make(tmp_path, official_test=False, fractions="0.5,0.25,0.25", overwrite=True)
    names = [case["case"] for case in everyone(content)]
    assert sorted(names) == ["P1_T1", "P1_T2", "P2_T1", "P3_T1", "P54"]  # P55 has no label


def test_patients_stay_together_and_the_seed_is_kept(tmp_path: Path) -> None:
    trees.general(tmp_path)
    one = make(tmp_path, **trees.GENERAL_PATTERNS, seed=5)
    assert make(tmp_path, **trees.GENERAL_PATTERNS, seed=5, overwrite=True) == one
    for section in ("training", "validation", "testing"):
        assert len({case["patient"] for case in one[section]}) == 1
    others = [make(tmp_path, **trees.GENERAL_PATTERNS, seed=seed, overwrite=True) for seed in range(6)]
    assert len({tuple(cases(other, "testing")) for other in others}) > 1


def test_folds(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path)
    main("ms_lesions", str(tmp_path), folds=4)
    validated = []
    for fold in range(4):
        sections = read_datalist(tmp_path, f"datalist_fold{fold}.json")
        assert [len(sections[name]) for name in ("training", "validation", "testing")] == [3, 1, 0]
        validated += [case["case"] for case in sections["validation"]]
    assert sorted(validated) == [f"patient0{n}" for n in (1, 2, 3, 4)]
    overview = json.loads((tmp_path / "datalist_folds.json").read_text())["validated_in_fold"]
    assert [name for _, name in sorted((fold, name) for name, fold in overview.items())] == validated
    one = make(tmp_path, folds=4, fold=2)
    assert cases(one, "validation") == [validated[2]]
    held_out = make(tmp_path, folds=3, fold=0, fractions=(0.5, 0.25, 0.25), overwrite=True)
    assert [len(cases(held_out, name)) for name in ("training", "validation", "testing")] == [2, 1, 1]


def test_table_shows_every_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.mslesseg(tmp_path)
    make(tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("P")}
    assert set(rows) == {"P1_T1", "P1_T2", "P2_T1", "P3_T1", "P54", "P55"}
    assert rows["P3_T1"][:4] == ["P3", "6x7x8", "1x1x1", "0.01"]  # 6 voxels of 1 mm³
    assert rows["P55"] == ["P55", "6x7x8", "1x1x1", "-", "testing"]


def test_modalities_are_chosen_and_ordered(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path)
    content = make(tmp_path, modalities=("FLAIR", "T1"))
    assert content["modality"] == {"0": "FLAIR", "1": "T1"}
    first = next(
        case for case in content["training"] + content["testing"] if case["case"] in ("patient01", "patient02")
    )
    assert [Path(image).name for image in first["image"]] == ["flair.nii.gz", "t1.nii.gz"]


def test_unlabelled_scans_are_for_inference(tmp_path: Path) -> None:
    trees.write_files(tmp_path, ["s1_T1.nii.gz"], None)
    trees.write_files(tmp_path, ["s2_T1.nii.gz"], None)
    content = make(tmp_path, modalities="T1", unlabelled=True, T1="{case}_T1.nii.gz")
    assert cases(content, "testing") == ["s1", "s2"]
    assert "training" not in content
    assert check_inference(tmp_path, "datalist.json", ("T1",), progress=False) == []


def test_broken_cases_are_refused_all_at_once_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.ljubljana(tmp_path)
    (tmp_path / "patient01/t2.nii.gz").unlink()
    trees.write_label(tmp_path / "patient02/label.nii.gz", 3, 7)
    with pytest.raises(InputError, match=r"2 case\(s\) of .* have errors.*--skip_broken"):
        make(tmp_path, fractions=(0.5, 0.5, 0))
    shown = capsys.readouterr().out
    assert "no T2 file" in shown
    assert "unknown label values 7 (3 voxels)" in shown
    assert not (tmp_path / "datalist.json").exists()
    content = make(tmp_path, fractions=(0.5, 0.5, 0), skip_broken=True)
    assert sorted(cases(content, "training") + cases(content, "validation")) == ["patient03", "patient04"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["knee"], "domain 'knee' is unknown: use one of ms_lesions, atlas"),
        (
            ["ms_lesions", "--layout", "bids"],
            "layout 'bids' is unknown: use one of auto, mslesseg, isbi2015, ljubljana",
        ),
        (["ms_lesions", "--modalities", "T1,PD"], "no known structure with T1, PD"),
        (["ms_lesions", "--modalities", "T1,T1"], "modalities is T1,T1: name each modality once"),
        (["ms_lesions", "--fractions", "0.5,x,0"], "fractions is"),
        (["ms_lesions", "--fractions", "0.5,0.6,0"], "fractions is 0.5,0.6,0"),
        (["ms_lesions", "--folds", "x"], "folds is 'x': give a whole number"),
        (["ms_lesions", "--rater", "x"], "rater is 'x': give a whole number"),
        (["ms_lesions", "--modalities", "1"], "no known structure with 1"),
        (["ms_lesions", "--affine_tolerance_mm", "x"], "affine_tolerance_mm is 'x': give a number"),
        (["ms_lesions", "--folds", "9"], "folds is 9: give a number from 2 to the number of patients, 4"),
        (["ms_lesions", "--folds", "2", "--fold", "2"], "fold is 2: give --folds K and a fold from 0 to K - 1"),
        (["ms_lesions", "--output", "../list.json"], "output '../list.json'"),
        (["ms_lesions", "--output", "list.txt"], "output 'list.txt'"),
        (["ms_lesions", "--fractoins", "1,0,0"], "option --fractoins is unknown here"),
        (["ms_lesions", "--layout", "ljubljana", "--T1", "{case}.nii"], "option --T1 is unknown here"),
        (["ms_lesions", "--layout", "general"], "no pattern for T1: add --T1"),
        (["ms_lesions", "--T1", "{case}_t1.nii.gz"], "no pattern for T2: add --T2"),
        (["ms_lesions", "--layout", "isbi2015"], "no usable case is left"),
        (["ms_lesions", "--rater", "2"], "rater is 2: the layout ljubljana has labels of 1 rater"),
    ],
)
def test_wrong_options_end_with_status_2_and_one_message(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.ljubljana(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(main, [arguments[0], str(tmp_path), *arguments[1:]])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*.json"))


def test_an_existing_list_stays(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path)
    (tmp_path / "datalist.json").write_text("mine")
    with pytest.raises(InputError, match=r"datalist.json exists: add --overwrite"):
        make(tmp_path)
    assert (tmp_path / "datalist.json").read_text() == "mine"


def test_the_command(tmp_path: Path) -> None:
    trees.ljubljana(tmp_path)
    command = [sys.executable, "-m", "tools.make_datalist", "ms_lesions", str(tmp_path), "--fractions", "0.5,0.25,0.25"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    assert len(read_datalist(tmp_path)["training"]) == 2
    again = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
