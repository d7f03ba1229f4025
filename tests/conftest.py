# SPDX-License-Identifier: Apache-2.0
"""One thread a test process: pytest-xdist runs one process a core. And what tests of whole bundles share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient

from tests.bundle_runs import BUNDLES, TINY, Runs, make_data

torch.set_num_threads(1)

Made = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Make a folder of this name by a function, once for all test processes; read what is in it, write nowhere."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session", params=BUNDLES)
def bundle_name(request: pytest.FixtureRequest) -> str:
    """Every bundle that can be run."""
    assert request.param in TINY, f"add a line for {request.param} to TINY in tests/bundle_runs.py"
    return request.param


@pytest.fixture(scope="session")
def trained(bundle_name: str, made_once: Made) -> Runs:
    """A bundle trained for three epochs; read what it wrote, write nowhere."""

    def train(folder: Path) -> None:
        runs = Runs(bundle_name, folder / "data", folder)
        make_data(runs.data, runs.bundle)
        runs.run(epochs=3, pictures=1)

    folder = made_once(bundle_name, train)
    return Runs(bundle_name, folder / "data", folder)


@pytest.fixture(scope="session")
def tracking_database(made_once: Made) -> Path:
    """MLflow's empty database, to be copied: making one takes it seconds."""

    def make(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder / 'mlruns.db'}").search_experiments()

    return made_once("tracking", make) / "mlruns.db"


@pytest.fixture
def runs(trained: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs of a bundle on the same data in a folder of this test; without curves, half the time of such an epoch."""
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    return trained.elsewhere(tmp_path)
