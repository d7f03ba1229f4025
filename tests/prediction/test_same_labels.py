# SPDX-License-Identifier: Apache-2.0
"""What is predicted is what the bundle's own inference.json writes, on the scan's grid, of every bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.bundle_configs import OF_A_RUN, fast_options
from custom_nets.prediction.engines import run_cases
from custom_nets.prediction.predictor import Predictor
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.scans import find_cases
from tests.bundle_runs import Runs, blobs, list_cases, scan, write
from tests.test_inference_run import OBLIQUE, SHAPE, results, segment

#: Ways to segment that take other paths to the scan's grid.
WAYS: dict[str, dict[str, Any]] = {"as it is": {}, "tta": {"tta": True}}
#: Of bundles that see a scan in other ways as well.
MORE: dict[str, dict[str, Any]] = {
    "rsanet": {"spacing": [1.2, 1.0, 0.9], "lesion_threshold": 0.4},
    "zoom_resunet": {"windows": "sliding", "spacing": [1.5, 1.5, 1.5]},
    "s2anet": {"resize_back": "probabilities", "keep_largest": True},
    "s2ca_net": {"windows": "sliding", "spacing": [1.3, 1.3, 1.3], "output_convention": "brats2023"},
    "spineparsenet": {"slice_spacing": 1.1},
}


@pytest.fixture(scope="module")
def scans(trained: Runs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    data = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(2)
    label = blobs(rng, tuple(trained.bundle.labels), SHAPE)
    images = [f"{modality}.nii.gz" for modality in trained.bundle.modalities]
    for name in images:
        write(data / name, scan(rng, label, radius=20), OBLIQUE)
    write(data / "label.nii.gz", label, OBLIQUE)
    list_cases(data, testing=[{"image": images, "label": "label.nii.gz"}])
    return Runs(trained.name, data, trained.folder)


def request(runs: Runs, out_dir: Path, **options: Any) -> PredictionRequest:
    """Predict with the trained weights and the options of the tiny network."""
    extras = {key: options.pop(key) for key in ("probabilities", "uncertainty", "tta") if key in options}
    known = {key: value for key, value in runs.options("inference").items() if key not in (*OF_A_RUN, "pictures")}
    checkpoints = (runs.models / "model.pt",)
    return PredictionRequest(runs.name, checkpoints, out_dir, {**known, **options}, device="cpu", **extras)


def predict(runs: Runs, out_dir: Path, **options: Any) -> list[CaseResult]:
    return run_cases(request(runs, out_dir, **options), find_cases(runs.data, runs.name))


@pytest.mark.parametrize("way", [*WAYS, "otherwise"])
def test_labels_are_those_of_the_bundles_run(scans: Runs, way: str, tmp_path: Path) -> None:
    changes = WAYS.get(way, MORE[scans.name])
    [(_, wanted)] = results(segment(scans, tmp_path / "run", pictures=0, **changes)).items()
    [result] = predict(scans, tmp_path / "predicted", **changes)
    assert result.status == "done", result.message
    found = nibabel.load(next((tmp_path / "predicted").glob("*_seg.nii.gz")))
    assert found.shape == SHAPE
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-6)
    assert found.get_data_dtype() == wanted.get_data_dtype()


def test_probabilities_and_uncertainty_lie_where_the_labels_lie(scans: Runs, tmp_path: Path) -> None:
    exact = {"resize_back": "probabilities"} if scans.name == "s2anet" else {}
    [result] = predict(scans, tmp_path, probabilities=True, uncertainty=True, tta=True, **exact)
    assert result.status == "done", result.message
    files = {
        kind: nibabel.load(next(tmp_path.glob(f"*_{kind}.nii.gz"))) for kind in ("seg", "probabilities", "uncertainty")
    }
    label, maps, spread = (np.asarray(files[kind].get_fdata()) for kind in files)
    assert maps.shape[:3] == spread.shape == label.shape == SHAPE
    assert 0 <= maps.min() <= maps.max() <= 1.001
    assert 0 < spread.max() <= 0.5
    for image in files.values():
        np.testing.assert_allclose(image.affine, files["seg"].affine, atol=1e-6)
    if scans.name in ("s2anet", "spineparsenet"):
        own = np.take_along_axis(maps, label.astype(int)[..., None], axis=-1)[..., 0]
        assert (own >= maps.max(axis=-1) - 2 / 255)[label > 0].mean() > 0.99
    record = json.loads(next((tmp_path / "cases").glob("*.json")).read_text())
    assert set(record["outputs"]) == {"segmentation", "probabilities", "uncertainty"}


def test_fast_sees_a_scan_as_the_bundles_overlay_says(scans: Runs, tmp_path: Path) -> None:
    overlay = fast_options(scans.bundle.folder)
    assert bool(overlay) == (scans.name == "s2ca_net")
    asked = replace(request(scans, tmp_path), fast=True)
    asked = replace(asked, options={key: value for key, value in asked.options.items() if key not in overlay})
    predictor = Predictor(asked)
    assert overlay.items() <= predictor.settings["options"].items()
    assert predictor.settings["fast"]
    given = replace(asked, options={**asked.options, **dict.fromkeys(overlay.keys() & {"overlap"}, 0.25)})
    assert Predictor(given).settings["options"].get("overlap") in (0.25, asked.options.get("overlap"))
    [result] = run_cases(given, find_cases(scans.data, scans.name))
    assert result.status == "done", result.message


def test_an_ensemble_of_one_model_twice_is_that_model(scans: Runs, tmp_path: Path) -> None:
    once = request(scans, tmp_path / "once")
    twice = PredictionRequest(
        **{**vars(once), "checkpoints": once.checkpoints * 2, "out_dir": tmp_path / "twice", "uncertainty": True}
    )
    cases = find_cases(scans.data, scans.name)
    assert [result.status for one in (once, twice) for result in run_cases(one, cases)] == ["done", "done"]
    one, two = (nibabel.load(next((tmp_path / name).glob("*_seg.nii.gz"))) for name in ("once", "twice"))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    spread = nibabel.load(next((tmp_path / "twice").glob("*_uncertainty.nii.gz")))
    assert np.abs(spread.get_fdata()).max() < 1e-6


def test_what_is_done_is_kept(scans: Runs, tmp_path: Path) -> None:
    assert [result.status for result in predict(scans, tmp_path)] == ["done"]
    file = next(tmp_path.glob("*_seg.nii.gz"))
    written = file.stat().st_mtime_ns
    assert [result.status for result in predict(scans, tmp_path)] == ["kept"]
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-7])
    assert [result.status for result in predict(scans, tmp_path)] == ["done"]
    nibabel.load(file).get_fdata()
    assert [result.status for result in predict(scans, tmp_path, tta=True)] == ["done"]
