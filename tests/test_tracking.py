# SPDX-License-Identifier: Apache-2.0
"""Runs of every bundle that MLflow keeps track of: ``--tracking mlflow``."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from monai.bundle import ConfigParser

from tests.bundle_runs import BUNDLES, Runs
from tests.test_resume import interrupted


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")


def runs_in(folder: Path, experiment: str = "monai_experiment") -> dict[str, Run]:
    """Name -> run."""
    client = client_of(folder)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    assert found.artifact_location == (folder / "mlruns").as_uri()
    runs = client.search_runs(found.experiment_id)
    return {run.info.run_name: run for run in runs}


def recorded_config(folder: Path, run: Run) -> dict[str, Any]:
    """The one artifact of a run."""
    (artifact,) = client_of(folder).list_artifacts(run.info.run_id)
    assert (folder / artifact.path).is_file()
    return ConfigParser.load_config_file(folder / "mlruns" / run.info.run_id / "artifacts" / artifact.path)


@pytest.fixture
def tracked(runs: Runs, tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs whose database is there, in a working directory of their own."""
    runs.eval.mkdir()
    shutil.copy(tracking_database, runs.eval)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return runs


def test_training_evaluation_and_inference_are_recorded(tracked: Runs, tmp_path: Path) -> None:
    workflows = {"train": "train::trainer", "evaluate": "validate::evaluator", "inference": "evaluator"}
    ended = {
        name: tracked.run(name, tracking="mlflow", experiment_name="phantoms", run_name=name) for name in workflows
    }
    runs = runs_in(tracked.eval, "phantoms")
    assert set(runs) == set(workflows)
    for workflow, run in runs.items():
        assert run.info.status == "FINISHED"
        config, shipped = recorded_config(tracked.eval, run), ConfigParser.load_config_file(tracked.config(workflow))
        assert config["patch_size"] == tracked.options(workflow)["patch_size"] != shipped["patch_size"]
        assert config["network_def"] == shipped["network_def"]
        engine = ended[workflow].parser.get_parsed_content(workflows[workflow])
        assert run.data.params["max_epochs"] == str(engine.state.max_epochs)
        if workflow == "train":
            assert {key for key in run.data.metrics if key.startswith("train_")} == {
                "train_loss",
                *(f"train_{key}" for key in engine.state.metrics),
            }
            assert run.data.metrics["train_loss"] == pytest.approx(float(engine.state.output[0]["loss"]))
            engine = ended[workflow].parser.get_parsed_content("validate::evaluator")
        assert {key: run.data.metrics[key] for key in engine.state.metrics} == pytest.approx(
            engine.state.metrics, nan_ok=True
        )
    history = client_of(tracked.eval).get_metric_history(runs["train"].info.run_id, "mean_dice")
    assert [entry.step for entry in history] == [1, 2]
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("bundle_name", BUNDLES[:1], indirect=True, scope="session")
def test_a_resumed_training_goes_on_in_its_run(tracked: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that starts anew has a run of its own; of one bundle, as the code is the same for all."""
    interrupted(tracked, monkeypatch, tracking="mlflow")
    (broken,) = runs_in(tracked.eval).values()
    assert broken.info.status == "RUNNING"
    tracked.run(resume=True, tracking="mlflow")
    (run,) = runs_in(tracked.eval).values()
    assert (run.info.run_id, run.info.status) == (broken.info.run_id, "FINISHED")
    history = client_of(tracked.eval).get_metric_history(run.info.run_id, "mean_dice")
    assert [entry.step for entry in history] == [1, 2]

    interrupted(tracked, monkeypatch, tracking="mlflow", run_name="broken again")
    tracked.run(epochs=1, val_interval=9, tracking="mlflow")
    states = sorted(run.info.status for run in runs_in(tracked.eval).values())
    assert states == ["FINISHED", "FINISHED", "RUNNING"]


@pytest.mark.parametrize("bundle_name", BUNDLES[:1], indirect=True, scope="session")
@pytest.mark.parametrize("expression", [False, True])
@pytest.mark.parametrize("chosen", [None, "mine.json", False])
def test_the_recorded_configuration(runs: Runs, expression: bool, chosen: str | bool | None) -> None:
    """In output_dir, be that a text or an expression, or where the user says, or none."""
    changes: dict[str, Any] = {"output_dir": f"$'{runs.eval}'"} if expression else {}
    if chosen is not None:
        changes["save_execute_config"] = str(runs.folder / chosen) if chosen else False
    workflow = runs.workflow(tracking="mlflow", **changes)
    workflow.initialize()
    found = workflow.parser.get_parsed_content("save_execute_config")
    if chosen is None:
        assert Path(found).parent == runs.eval and Path(found).is_file()
    else:
        assert found == (changes["save_execute_config"] or None)


def test_a_missing_package_is_one_clear_line(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else found(name, *rest)
    )
    told = "error: --tracking mlflow needs the package mlflow, which is not installed: pip install mlflow, or leave"
    assert runs.refusal(tracking="mlflow").startswith(told)
    runs.workflow().initialize()
