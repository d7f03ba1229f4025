# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.errors import InputError
from tests.volume_plan.masks import GOLDEN, block, golden_masks, write_dataset
from tools._command import run
from tools.plan_volume import main

MASKS = {f"scan{index}": block((40, 46, 38), (8 + 6 * index, 20, 16), (4, 5, 6)) for index in range(3)}
EVERYTHING = {"plan.json", "table.md", "scans.csv", "plan_of_runs.txt", "occurrence.nii.gz", "projections.png"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, MASKS)


def plan(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "plan.json").read_text(encoding="utf-8"))


def test_golden_data_set_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {f"scan{index}": mask for index, mask in enumerate(golden_masks())}
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])  # stored from left to right and from back to front
    write_dataset(tmp_path, {name: mask[::-1, ::-1] for name, mask in masks.items()}, affine)
    main(str(tmp_path), multiple=4, output_dir=str(tmp_path / "out"))
    found = plan(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == EVERYTHING
    assert {tuple(one["size"]) for one in found["candidates"]} == {
        tuple(GOLDEN["candidates"][f"{share}/4"][rule])
        for share in (0.25, 0.5, 0.75)
        for rule in ("proportional", "cubic")
    }
    candidate = next(one for one in found["candidates"] if one["size"] == [24, 24, 24])
    expected = GOLDEN["sizes"]["(24, 24, 24)"]
    assert candidate["hit_probability"] == pytest.approx(expected["random_hit_probability"], rel=1e-6)
    assert candidate["centre_start"] == expected["centre_start"]
    assert list(found["lesion_box"].values()) == list(GOLDEN["quantile_box"].values())
    assert found["occurrence"]["support_voxels"] == GOLDEN["union_voxels"]
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text(encoding="utf-8") in printed
    assert all(f"wrote {tmp_path / 'out' / name}" in printed for name in EVERYTHING)
    for name, mask in masks.items():
        row = found["lesions"][found["scans"].index(name)]
        assert row["volume_ml"] == pytest.approx(mask.sum() * 1.5 / 1000)
        assert row["centroid_R"] == pytest.approx(np.argwhere(mask)[:, 0].mean())


def test_occurrence_keeps_the_affine(data: Path) -> None:
    main(str(data))
    image = nibabel.load(data / "volume_plan" / "occurrence.nii.gz")
    assert np.array_equal(image.affine, np.eye(4))
    assert image.get_data_dtype() == np.float32
    assert np.allclose(image.get_fdata(), np.mean(list(MASKS.values()), axis=0))


def test_only_training_labels_are_read(tmp_path: Path) -> None:
    absent = [{"image": "x_t1.nii.gz", "label": "x.nii.gz"}]
    write_dataset(tmp_path, MASKS, validation=absent, testing=[{"image": "y_t1.nii.gz", "label": "y.nii.gz"}])
    main(str(tmp_path))
    assert plan(tmp_path / "volume_plan")["scans"] == list(MASKS)


def test_table_of_scans(data: Path) -> None:
    main(str(data))
    with (data / "volume_plan" / "scans.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == list(MASKS)
    assert [row["first_R"] for row in rows] == ["8", "14", "20"]
    assert {(row["voxels"], row["volume_ml"], row["components"]) for row in rows} == {("120", "0.12", "1")}


def test_plan_of_runs_can_be_typed_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    write_dataset(folder, MASKS)
    (folder / "datalist.json").rename(folder / "mine.json")
    main(str(folder), datalist="mine.json", zoom_in_epochs=7, zoom_out_epochs=3)
    text = (folder / "volume_plan" / "plan_of_runs.txt").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if not line.startswith("#")]
    runs = plan(folder / "volume_plan")["runs"]
    assert [run["command"] for run in runs] == commands
    assert [run["accepted"] for run in runs] == sorted((run["accepted"] for run in runs), reverse=True)
    sizes = {tuple(one["size"]): one["share"] for one in plan(folder / "volume_plan")["candidates"]}
    for command, one in zip(commands, runs, strict=True):
        words = shlex.split(command)
        assert words[:6] == ["python", "-m", "tools.zoom_in_out", str(folder), "--datalist", "mine.json"]
        options = dict(zip(words[4::2], words[5::2], strict=True))
        assert json.loads(options["--zoom_in_size"]) == one["zoom_in_size"]
        assert json.loads(options["--zoom_out_size"]) == one["zoom_out_size"]
        assert sizes[tuple(one["zoom_in_size"])] < sizes[tuple(one["zoom_out_size"])]
        assert (options["--zoom_in_epochs"], options["--zoom_out_epochs"]) == ("7", "3")
        assert "'[" in command
    assert len({shlex.split(command)[7] for command in commands}) == len(commands) > 1


def test_different_grids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, {**MASKS, "wide": block((64, 46, 38), (40, 20, 16), (4, 4, 4))})
    main(str(tmp_path))
    assert {path.name for path in (tmp_path / "volume_plan").iterdir()} == EVERYTHING - {
        "occurrence.nii.gz",
        "projections.png",
    }
    found = plan(tmp_path / "volume_plan")
    assert not found["one_grid"]
    assert found["occurrence"] is None
    assert all(one["centre_start"] is None and len(one["coverage"]) == 4 for one in found["candidates"])
    assert all(size <= 40 for one in found["candidates"] for size in one["size"][:1])
    assert "no occurrence.nii.gz and no projections.png: the scans lie on different grids" in capsys.readouterr().out


def test_an_empty_label_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, {**MASKS, "healthy": np.zeros((40, 46, 38), bool)})
    main(str(tmp_path))
    assert "left out, no lesion in the label: healthy" in capsys.readouterr().out
    assert plan(tmp_path / "volume_plan")["without_lesion"] == ["healthy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datalist", "other.json"], "other.json' does not exist"),
        (["--shares", "a,b"], "shares is ('a', 'b'): give numbers"),
        (["--shares", "0.25,2"], "shares holds 2.0"),
        (["--multiple", "0"], "multiple is 0"),
        (["--multiple", "1.5"], "multiple is 1.5: give a whole number"),
        (["--multiple", "48"], "a volume has 40x46x38 voxels: give a smaller multiple"),
        (["--gpu_gib", "0"], "gpu_gib is [0.0]"),
        (["--gpu_gib", "big"], "gpu_gib is 'big': give numbers"),
        (["--least_dice_ceiling", "1.2"], "least_dice_ceiling is 1.2: give a number from 0 to 1"),
        (["--least_hit_probability", "no"], "least_hit_probability is 'no': give a number"),
        (["--zoom_in_epochs", "0"], "zoom_in_epochs is 0: give a whole number of at least 1"),
        (["--zoom_out_epochs", "1.5"], "zoom_out_epochs is 1.5"),
    ],
)
def test_bad_options_end_with_status_2_and_one_line(
    data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, [str(data), *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (data / "volume_plan").exists()


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"datalist\.json' does not exist"):
        main(str(tmp_path))
    write_dataset(tmp_path, MASKS)
    (tmp_path / "scan1.nii.gz").write_bytes(b"no scan")
    with pytest.raises(InputError, match=r"scan1 +scan1\.nii\.gz +not gzip-compressed"):
        main(str(tmp_path))
    write_dataset(tmp_path, {"healthy": np.zeros((40, 46, 38), bool)})
    with pytest.raises(InputError, match="none of the 1 training labels has a voxel above 0"):
        main(str(tmp_path))


def test_the_command(data: Path) -> None:
    command = [sys.executable, "-m", "tools.plan_volume", str(data), "--shares", "0.5", "--gpu_gib", "12"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "| 32x36x32" not in done.stdout
    assert "| 32x40x32" in done.stdout
    assert "12 GiB, AMP" in done.stdout
