# SPDX-License-Identifier: Apache-2.0
"""The command that segments scans: what it takes, what it refuses, and what it says."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from custom_nets.files import write_json
from custom_nets.fingerprints import read_fingerprint, write_fingerprint
from custom_nets.prediction.predictor import Predictor
from custom_nets.registry import ROOT
from tests.bundle_runs import write
from tests.fingerprints.heads import fingerprint
from tests.scans.foreign_files import write_foreign
from tests_predict.small_scans import SmallScans, records, status, volumes, voxels_and_affines

NAME, CASES = "zoom_resunet", ("c00_T1", "c01_T1")
#: Runs the command with these words and returns its exit status.
Status = Callable[..., int]


@pytest.fixture(scope="module", autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command silences what MONAI says."""
    level = logging.getLogger("monai").level
    yield
    logging.getLogger("monai").setLevel(level)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallScans:
    return SmallScans(NAME, tmp_path_factory.mktemp("predict")).make(2)


@pytest.fixture(scope="module")
def predicted(small: SmallScans, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the NIfTI files give."""
    out_dir = tmp_path_factory.mktemp("predicted")
    assert status(small.words(small.scans, out_dir)) == 0
    assert records(out_dir) == set(CASES)
    assert len(np.unique(label(out_dir).dataobj)) == 2
    return out_dir


def label(out_dir: Path, name: str = "") -> Any:
    """The only label map, or that of a case."""
    if name:
        return nibabel.load(out_dir / f"{name}_seg.nii.gz")
    return nibabel.load(sorted(out_dir.glob("*_seg.nii.gz"))[0])


def record(out_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((out_dir / "cases" / f"{name}.json").read_text(encoding="utf-8"))


def without_options(small: SmallScans, source: Path, out_dir: Path, *more: str) -> list[str]:
    """No option of the network is typed."""
    return [NAME, str(source), str(out_dir), "--checkpoint", str(small.model), "--device", "cpu", *more]


def refusal(capsys: pytest.CaptureFixture[str], words: list[str], expected: int = 2) -> str:
    """What is said in the one line with which the command refuses."""
    assert status(words) == expected
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--patch_sise=[24,24,24]", "--patch_size"),
        ("--lesion_treshold=0.3", "--lesion_threshold"),
        ("--uncertainy", "--uncertainty"),
        ("--checkpont=a.pt", "--checkpoint"),
    ],
)
def test_a_misspelt_option(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path, typed: str, meant: str
) -> None:
    said = refusal(capsys, small.words(small.scans, tmp_path / "out", typed))
    assert said == f"error: {typed.split('=')[0]}: is no option of {NAME}; did you mean {meant}?"
    assert not (tmp_path / "out").exists()


def test_an_option_like_no_other(small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refusal(capsys, small.words(small.scans, tmp_path / "out", "--xyzzy=1"))
    assert said == f"error: --xyzzy: is no option of {NAME}."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--checkpoint", "nowhere/model.pt"], "nowhere/model.pt: no such checkpoint; train first"),
        (["--engine", "other"], "--engine is 'other': choose one of local, ray"),
        (["--device", "abacus"], "--device is abacus, which is not here"),
    ],
)
def test_what_cannot_be_started(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str], said: str
) -> None:
    assert refusal(capsys, small.words(small.scans, tmp_path / "out", *more)).startswith(f"error: {said}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_output_that_cannot_be_written(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refusal(capsys, small.words(small.scans, tmp_path / "file" / "predictions"))
    assert str(tmp_path / "file") in said
    assert "cannot be written to" in said


def make_ensemble(small: SmallScans, folder: Path, bundle: str = NAME) -> Path:
    """Two models, one of which says the contrary as often as not."""
    weights = torch.load(small.model, weights_only=True)
    other = {key: value + 0.05 * torch.randn_like(value) for key, value in weights.items()}
    for fold, one in (("fold1", weights), ("fold2", other)):
        (folder / fold).mkdir(parents=True)
        torch.save(one, folder / fold / "model.pt")
    listed = ["fold1/model.pt", "fold2/model.pt"]
    content = {"bundle": bundle, "version": "0.1.0", "checkpoints": listed, "options": small.options(), "scores": {}}
    write_json(folder / "ensemble.json", content)
    return folder


def test_an_ensemble_brings_its_options(small: SmallScans, predicted: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    ensemble = make_ensemble(small, tmp_path / "ensemble")
    words = without_options(small, small.scans / "c00_T1.nii.gz", tmp_path / "out", "--uncertainty")
    assert status([*words, "--checkpoint", str(ensemble)]) == 0
    [name] = records(tmp_path / "out")
    assert set(record(tmp_path / "out", name)["outputs"]) == {"segmentation", "uncertainty"}
    spread = nibabel.load(next((tmp_path / "out").glob("*_uncertainty.nii.gz")))
    assert spread.shape == label(predicted, CASES[0]).shape
    assert 0 < spread.get_fdata().max() <= 0.5
    listed = json.loads((tmp_path / "out" / "prediction.json").read_text())["checkpoints"]
    assert [Path(one["file"]).parent.name for one in listed] == ["fold1", "fold2"]


def test_an_ensemble_of_another_bundle(small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ensemble = make_ensemble(small, tmp_path / "ensemble", bundle="rsanet")
    said = refusal(capsys, small.words(small.scans, tmp_path / "out", "--checkpoint", str(ensemble)))
    assert "is an ensemble of rsanet, not of zoom_resunet" in said
    assert str(ensemble) in said


def require_same_labels(out_dir: Path, predicted: Path) -> None:
    """In the same places of the world, whatever the axes of the files."""
    found, wanted = (nibabel.as_closest_canonical(one) for one in (label(out_dir), label(predicted, CASES[0])))
    np.testing.assert_allclose(found.affine, wanted.affine, atol=0.01)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))


@pytest.mark.parametrize("extension", ["nrrd", "mha"])
def test_other_formats(small: SmallScans, predicted: Path, tmp_path: Path, extension: str) -> None:
    scan = nibabel.load(small.scans / "c00_T1.nii.gz")
    write_foreign(tmp_path / "scans" / f"c00_T1.{extension}", np.asarray(scan.dataobj), scan.affine)
    assert status(small.words(tmp_path / "scans", tmp_path / "out")) == 0
    assert records(tmp_path / "out") == {CASES[0]}
    require_same_labels(tmp_path / "out", predicted)


def test_a_dicom_series(small: SmallScans, predicted: Path, tmp_path: Path) -> None:
    for package in ("pydicom", "highdicom", "SimpleITK"):
        pytest.importorskip(package)
    import pydicom

    from tests.scans.dicom_files import write_series

    scan = nibabel.load(small.scans / "c00_T1.nii.gz")
    series = write_series(tmp_path / "series", np.asarray(scan.dataobj), scan.affine, "t1_mprage_sag")
    assert status(small.words(series, tmp_path / "out", "--dicom_seg")) == 0
    require_same_labels(tmp_path / "out", predicted)
    [name] = records(tmp_path / "out")
    segmentation = pydicom.dcmread(tmp_path / "out" / f"{name}_seg.dcm")
    assert segmentation.Modality == "SEG"
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["lesion"]
    assert segmentation.pixel_array.sum() == np.count_nonzero(label(predicted, CASES[0]).dataobj)
    assert record(tmp_path / "out", name)["outputs"]["dicom_seg"]["file"] == f"{name}_seg.dcm"


def test_a_nifti_file_has_no_dicom_segmentation(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert status(small.words(small.scans / "c00_T1.nii.gz", tmp_path, "--dicom_seg")) == 0
    assert "1 done, 1 unusual" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.dcm"))


@pytest.fixture(scope="module")
def trained(small: SmallScans, tmp_path_factory: pytest.TempPathFactory) -> SmallScans:
    """The same model with the fingerprint of a training on these scans; no options are known but by it."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(small.model, folder / "model.pt")
    cases: list[Mapping[str, Path]] = [{"T1": small.scans / f"c0{number}_T1.nii.gz"} for number in range(2)]
    options = {key: value for key, value in small.options().items() if key not in ("spacing", "overlap")}
    write_fingerprint(replace(fingerprint(NAME, cases), options=options), folder / "model.pt")
    return SmallScans(NAME, folder)


def test_a_fingerprint_brings_its_options(
    small: SmallScans, trained: SmallScans, predicted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert status(without_options(trained, small.scans, tmp_path / "out", "--strict")) == 0
    assert "2 done: " in capsys.readouterr().out
    assert voxels_and_affines(tmp_path / "out") == voxels_and_affines(predicted)
    settings = record(tmp_path / "out", CASES[0])["settings"]["options"]
    assert (settings["base_width"], settings["patch_size"]) == (4, [24, 24, 24])
    shutil.copy(trained.model, model := tmp_path / "alone.pt")
    words = [*without_options(trained, small.scans, tmp_path / "alone"), "--checkpoint", str(model)]
    assert status(words) == 2, "without them the network has another size"
    assert "is no checkpoint of this ZoomResUNet" in capsys.readouterr().err


def test_an_unusual_scan_is_told_or_refused(
    small: SmallScans, trained: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scan = nibabel.load(small.scans / "c00_T1.nii.gz")
    thousandth = np.diag([1e-3, 1e-3, 1e-3, 1])
    write(tmp_path / "scans" / "c00_T1.nii.gz", np.asarray(scan.dataobj), scan.affine @ thousandth)
    assert status(without_options(trained, tmp_path / "scans", tmp_path / "told")) == 0
    assert "1 done, 1 unusual" in capsys.readouterr().out
    [finding] = record(tmp_path / "told", CASES[0])["findings"]
    assert "in metres" in finding["remedy"]
    assert status(without_options(trained, tmp_path / "scans", tmp_path / "strict", "--strict")) == 1
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert "refused with --strict" in said
    assert not records(tmp_path / "strict")
    assert not list((tmp_path / "strict").glob("*_seg.nii.gz"))


def test_what_is_done_when_it_is_stopped_is_kept(
    small: SmallScans, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    predict: Any = Predictor.__call__

    def stopping(self: Predictor, case: Any) -> Any:
        if case.name == CASES[1]:
            raise KeyboardInterrupt
        return predict(self, case)

    monkeypatch.setattr(Predictor, "__call__", stopping)
    assert status(small.words(small.scans, tmp_path)) == 130
    told = [line for line in capsys.readouterr().err.splitlines() if line and "cases:" not in line]
    assert told == ["stopped: give the same command again to go on; what is done is kept"]
    assert records(tmp_path) == {CASES[0]}
    assert [row[0] for row in volumes(tmp_path)] == ["case", CASES[0]]
    assert json.loads((tmp_path / "prediction.json").read_text())["bundle"] == NAME
    monkeypatch.setattr(Predictor, "__call__", predict)
    assert status(small.words(small.scans, tmp_path)) == 0
    assert "1 done, 1 kept" in capsys.readouterr().out
    assert [row[0] for row in volumes(tmp_path)] == ["case", *CASES]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--uncertainty", "add --tta, or give several checkpoints"),
        ("--strict", "has no fingerprint beside it"),
        ("--fast=false", "--fast is 'false': give True or False"),
        ("--pictures=3", "--pictures: is no option"),
    ],
)
def test_what_would_do_nothing_is_refused(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path, typed: str, said: str
) -> None:
    assert said in refusal(capsys, small.words(small.scans, tmp_path / "out", typed))


def test_a_folder_of_another_bundle_is_left_alone(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_json(tmp_path / "prediction.json", {"bundle": "rsanet"})
    assert "holds predictions of rsanet" in refusal(capsys, small.words(small.scans, tmp_path))


def test_a_modality_in_lower_case_and_references_by_pattern(
    small: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scans = shutil.copytree(small.scans, tmp_path / "scans")
    for name in ("c00_manual", "c00_brain_mask"):
        shutil.copy(scans / "c00_T1.nii.gz", scans / f"{name}.nii.gz")
    words = small.words(scans, tmp_path / "2024_01_02", "--t1=*_T1", "--label=*_manual")
    assert status(words) in (0, 1)
    assert (tmp_path / "2024_01_02" / "volumes.csv").is_file()
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{scans}: by their names 1 of 4 files are left out, c00_brain_mask.nii.gz: if one is")


def test_a_smaller_batch_keeps_what_is_done(small: SmallScans, predicted: Path, tmp_path: Path) -> None:
    out_dir = shutil.copytree(predicted, tmp_path / "out")
    times = {name: (out_dir / "cases" / f"{name}.json").stat().st_mtime_ns for name in CASES}
    assert status(small.words(small.scans, out_dir, "--sw_batch_size=2")) == 0
    assert times == {name: (out_dir / "cases" / f"{name}.json").stat().st_mtime_ns for name in CASES}


def test_checkpoints_that_were_trained_otherwise_are_no_ensemble(
    small: SmallScans, trained: SmallScans, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = shutil.copytree(trained.folder, tmp_path / "other") / "model.pt"
    found = read_fingerprint(other)
    assert found is not None
    write_fingerprint(replace(found, options={**found.options, "patch_size": [32, 32, 32]}), other)
    both = ["--checkpoint", f"{trained.model},{other}"]
    said = refusal(capsys, [*without_options(trained, small.scans, tmp_path / "out"), *both])
    assert f"{trained.model}: was trained with patch_size [24, 24, 24], and {other} with [32, 32, 32]" in said
    assert not (tmp_path / "out").exists()
    alike = without_options(trained, small.scans / "c00_T1.nii.gz", tmp_path / "out", *both)
    assert status([*alike, "--patch_size=[24,24,24]"]) == 0, "what is set for both need not agree"


def test_what_a_lean_start_leaves_out_no_bundle_needs() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.tools.lean_start"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
