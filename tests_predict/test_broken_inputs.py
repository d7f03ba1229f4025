# SPDX-License-Identifier: Apache-2.0
"""Scans that cannot be segmented: each is told in a line that says why, and stops none of the others."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.bundle_runs import write
from tests_predict.small_scans import SmallScans, records, status, voxels_and_affines

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallScans:
    return SmallScans("rsanet", tmp_path_factory.mktemp("broken")).make(2)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_within(path: Path) -> None:
    """The compression is whole, what was compressed is not."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:50_000]))


def no_nifti(path: Path) -> None:
    path.write_bytes(b"not found")


def changed(change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> Spoil:
    def spoil(path: Path) -> None:
        image = nibabel.load(path)
        write(path, change(np.asarray(image.dataobj)), image.affine if affine is None else affine)

    return spoil


def with_nan(voxels: np.ndarray) -> np.ndarray:
    spoilt = voxels.astype(np.float32)
    spoilt[20, 20, 15:20] = np.nan
    return spoilt


FLIPPED = np.diag([-1.0, 1, 1, 1])
#: What becomes of the T2 of a case, and what is said.
BROKEN: dict[str, tuple[Spoil, str]] = {
    "truncated": (truncated, r"truncated_T2\.nii\.gz.*(trunc|damaged|end)"),
    "truncated_within": (truncated_within, r"truncated_within_T2\.nii\.gz.*(trunc|damaged|end|shorter|Expected)"),
    "no_nifti": (no_nifti, r"no_nifti_T2\.nii\.gz"),
    "two_volumes": (changed(lambda voxels: np.stack([voxels, voxels], -1)), r"two_volumes_T2\.nii\.gz.*(4D|40 ?x ?44)"),
    "with_nan": (changed(with_nan), r"with_nan_T2\.nii\.gz.*(NaN|not finite|not a number)"),
    "missing": (Path.unlink, r"T2.*(missing|no file|none)"),
    "flipped": (changed(lambda voxels: voxels, FLIPPED), r"flipped_T2\.nii\.gz.*(affine|grid)"),
    "flat": (changed(lambda voxels: voxels[..., 18]), r"flat_T2\.nii\.gz.*(2D|40 ?x ?44)"),
    "one_slice": (changed(lambda voxels: voxels[..., 18:19]), r"one_slice_T2\.nii\.gz.*single slice"),
}


@pytest.fixture(scope="module")
def spoilt(small: SmallScans, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two sound cases and one of each broken kind."""
    folder = tmp_path_factory.mktemp("spoilt")
    for path in small.scans.iterdir():
        shutil.copy(path, folder / path.name)
    for name, (spoil, _) in BROKEN.items():
        for modality in small.modalities:
            shutil.copy(small.scans / f"c00_{modality}.nii.gz", folder / f"{name}_{modality}.nii.gz")
        spoil(folder / f"{name}_T2.nii.gz")
    return folder


@pytest.fixture(scope="module")
def told(small: SmallScans, spoilt: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The exit status, and the folder that was written."""
    out_dir = tmp_path_factory.mktemp("out")
    return status(small.words(spoilt, out_dir)), out_dir


def test_the_sound_cases_are_done_and_the_status_says_that_others_are_not(told: tuple[int, Path]) -> None:
    exit_status, out_dir = told
    assert exit_status == 1
    assert records(out_dir) == {"c00", "c01"}
    assert set(voxels_and_affines(out_dir)) == {"c00_seg.nii.gz", "c01_seg.nii.gz"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_scan_is_told_in_a_line(told: tuple[int, Path], name: str) -> None:
    failed = json.loads((told[1] / "prediction.json").read_text(encoding="utf-8"))["failed"]
    messages = {one["case"]: one["message"] for one in failed}
    assert set(messages) == set(BROKEN)
    assert "\n" not in messages[name]
    assert re.search(BROKEN[name][1], messages[name]), messages[name]


#: Ways to store the same voxels in the same places: the array, and what its affine is multiplied by.
STORED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]] = {
    "flipped": (lambda voxels: voxels[::-1], np.diag([-1.0, 1, 1, 1])),
    "axes exchanged": (lambda voxels: voxels.transpose(2, 1, 0), np.eye(4)[[2, 1, 0, 3]]),
}


@pytest.mark.parametrize("how", STORED)
def test_an_affine_of_all_scans_is_sound(small: SmallScans, told: tuple[int, Path], tmp_path: Path, how: str) -> None:
    change, axes = STORED[how]
    for modality in small.modalities:
        image = nibabel.load(small.scans / f"c00_{modality}.nii.gz")
        origin = np.eye(4)
        origin[0, 3] = image.shape[0] - 1 if how == "flipped" else 0
        affine = image.affine @ origin @ axes
        write(tmp_path / "scans" / f"c00_{modality}.nii.gz", change(np.asarray(image.dataobj)), affine)
    assert status(small.words(tmp_path / "scans", tmp_path / "out")) == 0
    here, there = (nibabel.load(folder / "c00_seg.nii.gz") for folder in (tmp_path / "out", told[1]))
    assert np.array_equal(here.affine, affine)
    assert np.array_equal(np.asarray(here.dataobj), change(np.asarray(there.dataobj)))


def test_names_of_all_scripts_and_spaces(small: SmallScans, told: tuple[int, Path], tmp_path: Path) -> None:
    folder = tmp_path / "Köln, Station 3" / "患者"
    folder.mkdir(parents=True)
    for modality in small.modalities:
        shutil.copy(small.scans / f"c00_{modality}.nii.gz", folder / f"Žofie Müller {modality}.nii.gz")
    shutil.copy(small.model, model := tmp_path / "mein Modell é.pt")
    out_dir = tmp_path / "Ergebnis é 2"
    assert status(small.words(folder, out_dir, "--checkpoint", str(model))) == 0
    (name,) = records(out_dir)
    assert name == "Žofie_Müller"
    assert list(voxels_and_affines(out_dir).values()) == [voxels_and_affines(told[1])["c00_seg.nii.gz"]]


def test_an_empty_folder_is_refused(small: SmallScans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert status(small.words(tmp_path / "empty", tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(tmp_path / "empty") in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["/proc/predictions", "file/predictions"])
def test_an_output_that_cannot_be_written_is_refused(
    small: SmallScans, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """Even an administrator, who may write anywhere, cannot write into /proc and below a file."""
    (tmp_path / "file").touch()
    assert status(small.words(small.scans, tmp_path / where)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "cannot be written to" in error
    assert len(error.splitlines()) == 1


def test_an_output_that_turns_read_only_fails_its_cases(
    small: SmallScans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("custom_nets.prediction.predictor.write_label", no_room)
    assert status(small.words(small.scans, tmp_path / "out")) == 1
    assert capsys.readouterr().out.count("No space left on device") >= 2
    assert records(tmp_path / "out") == set()
