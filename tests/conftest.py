# SPDX-License-Identifier: Apache-2.0
"""One thread a test process: pytest-xdist runs one process a core. And what tests of whole bundles share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bundle_runs import BUNDLES, TINY, Runs, make_data

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=BUNDLES)
def bundle_name(request: pytest.FixtureRequest) -> str:
    """Every bundle that can be run."""
    assert request.param in TINY, f"add a line for {request.param} to TINY in tests/bundle_runs.py"
    return request.param


@pytest.fixture(scope="session")
def trained(bundle_name: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A bundle trained for three epochs; read what it wrote, write nowhere."""
    folder = tmp_path_factory.mktemp(bundle_name)
    runs = Runs(bundle_name, folder / "data", folder)
    make_data(runs.data, runs.bundle)
    runs.run(epochs=3, pictures=1)
    return runs


@pytest.fixture
def runs(trained: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs of a bundle on the same data in a folder of this test; without curves, half the time of such an epoch."""
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    return trained.elsewhere(tmp_path)
