# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet's pipeline with its own configurations, on small made-up spines: whole, killed, and in-sample."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_nets.datasets.datalist import load_section
from custom_nets.files import file_digest
from custom_nets.fingerprints import fingerprint_path
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.options import options_in
from custom_nets.registry import ROOT, bundle
from custom_nets.spine.coarse_logits import read_logits, read_provenance
from tests.bundle_runs import run_here
from tests.forked_commands import python_m
from tests.tools import memorising_spines
from tests.tools.killed_spines import MOMENTS, run
from tests.tools.small_spines import SHAPE, data_in
from tools import _stages, _steps, coarse_logits

Call = tuple[list[str], dict[str, Any]]
RUNS = 9
#: The first of the runs that has to be done, or gone on with, after the kill.
UNFINISHED = {moment: number + ("logits" in moment) for moment, (number, _) in MOMENTS.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_in(tmp_path_factory.mktemp("spines") / "data of scans")


@pytest.fixture(scope="module")
def folders(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs, each killed at another moment, one never."""
    folders = {moment: tmp_path_factory.mktemp("ended") / "a run" for moment in MOMENTS}
    arguments = {moment: (str(data), str(folder)) for moment, folder in folders.items()}
    ended = python_m("tests.tools.killed_spines", json.dumps(arguments))
    assert ended.returncode == 0, ended.stderr
    return folders


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Runs of the bundle, noted and run in this process."""
    noted: list[Call] = []

    def here(name: str, configs: list[str], overrides: dict[str, Any], run_id: str = "run") -> None:
        noted.append((configs, overrides))
        run_here(name, configs, overrides, run_id)

    for module in (_stages, _steps):
        monkeypatch.setattr(module, "run_bundle", here)
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    return noted


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def test_the_second_call_does_nothing(data: Path, folders: dict[str, Path], calls: list[Call]) -> None:
    folder = folders["never"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run(data, folder)
    assert calls == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment != "never"])
def test_killed_and_resumed_by_the_same_command(
    data: Path, folders: dict[str, Path], moment: str, calls: list[Call]
) -> None:
    folder, whole = folders[moment], folders["never"]
    assert not (folder / "eval/evaluation/both/metrics_summary.json").exists()
    run(data, folder)
    assert len(calls) == RUNS + 1 - UNFINISHED[moment]
    checkpoints = sorted(path.relative_to(whole) for path in whole.rglob("model.pt"))
    assert len(checkpoints) == 8
    for path in checkpoints:
        same = weights(whole / path)
        assert all(torch.equal(same[key], value) for key, value in weights(folder / path).items()), path
    for path in whole.glob("logits/*.npz"):
        one, other = (np.load(place / "logits" / path.name) for place in (whole, folder))
        assert np.array_equal(one["logits"], other["logits"])
    for file in ("eval/refine/metrics.csv", "eval/evaluation/both/metrics_per_case.csv"):
        assert table(folder / file) == table(whole / file), file


def test_the_logits_are_of_the_folds_networks(data: Path, folders: dict[str, Path]) -> None:
    """Padding taken off, in the volume's own slices, by a network that was trained on the other fold."""
    folder, graph = folders["never"], mrspineseg()
    for fold in (1, 2):
        own = folder / "folds" / f"fold{fold}"
        trained_on = {Path(case["image"][0]).name[:5] for case in load_section(data, own / "datalist.json", "training")}
        for case in load_section(data, own / "datalist.json", "testing"):
            path = folder / "logits" / Path(case["image"][0]).with_suffix("").with_suffix(".npz").name
            provenance = read_provenance(path)
            assert provenance.checkpoint == file_digest(own / "models" / "coarse" / "model.pt")
            assert set(provenance.trained_on) == trained_on and provenance.case not in trained_on
            logits = read_logits(path, graph, provenance.case, SHAPE[0], out_of_fold=True)
            assert logits.shape == (20, 6, 16, 32) and np.ptp(logits) > 0


def test_the_model_has_the_fingerprint_of_both_stages(folders: dict[str, Path]) -> None:
    models = folders["never"] / "models"
    whole, coarse, refinement = (
        json.loads(fingerprint_path(models / stage / "model.pt").read_text(encoding="utf-8"))
        for stage in ("", "coarse", "refine")
    )
    assert whole == {**coarse, "options": {**coarse["options"], **refinement["options"]}}
    assert {"patch_size", "width"} <= set(coarse["options"]) and {"fine_size", "filters"} <= set(refinement["options"])


def test_in_sample_as_published(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(data, tmp_path, logits="in_sample", train_epochs=1, refine_epochs=1, graph_mode="none", overlay=None)
    assert [configs[0] for configs, _ in calls] == ["pretrain", "train", "refine", "evaluate", "evaluate"]
    assert all("Case0" in read_provenance(path).trained_on for path in (tmp_path / "logits").glob("*.npz"))
    assert not any(".graph." in name for name in weights(tmp_path / "models" / "model.pt"))


def test_the_stand_in_of_the_other_tests_has_the_options_of_the_bundle() -> None:
    folder = bundle("spineparsenet").folder
    assert folder is not None
    for workflow in ("pretrain", "train", "refine", "evaluate"):
        real = options_in(ConfigParser.load_config_file(folder / "configs" / f"{workflow}.json"))
        assert set(options_in(dict(memorising_spines.CONFIGS[workflow]))) <= set(real), workflow
    stage = coarse_logits.coarse_stage("data", "datalist.json", ["train"], {"label_graph": "mrspineseg"})
    assert stage.size == (18, 128, 256) and set(stage.preprocessing) == set(coarse_logits.PREPROCESSING)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' kernel")
def test_a_run_dies_with_the_tool_that_started_it(tmp_path: Path) -> None:
    """A killed pipeline leaves no training behind that would write into the folders of the one that resumes it."""
    bundle_run = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    tool = (
        "import subprocess, sys; from tools import _bundle_runs; run = subprocess.run; "
        f"words = [sys.executable, '-c', {bundle_run!r}]; "
        "_bundle_runs.subprocess.run = lambda _, **options: run(words, **options); "
        "_bundle_runs.run_bundle('spineparsenet', ['train'], {})"
    )
    process = subprocess.Popen([sys.executable, "-c", tool], cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
    own = Path("/proc", (tmp_path / "pid").read_text())
    assert own.exists()
    process.kill()
    process.wait()
    wait_for(lambda: not own.exists() or "Z (zombie)" in (own / "status").read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
