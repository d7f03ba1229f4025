# SPDX-License-Identifier: Apache-2.0
"""Training in two processes on this machine's CPU, and what becomes of its model."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundle_runs import BUNDLES, TINY, Runs, list_cases, make_data, torchrun, train_in_two_processes
from tests.conftest import Made
from tests.test_tracking import client_of, recorded_config, runs_in

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")

EPOCHS = 2


def configs(runs: Runs) -> list[str]:
    return [str(runs.config("train")), str(runs.config("multi_gpu_train"))]


def validate(data: Path, choose: Callable[[dict[str, Any]], Any]) -> None:
    """Let other cases be validated."""
    content = json.loads((data / "datalist.json").read_text())
    list_cases(data, **{**content, "validation": choose(content)})


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def in_two_processes(made_once: Made, tracking_database: Path) -> dict[str, Runs]:
    """Every bundle, trained and tracked; with three validation cases, which two processes cannot share evenly."""

    def of(folder: Path) -> dict[str, Runs]:
        return {name: Runs(name, folder / name / "data", folder / name) for name in BUNDLES}

    def train(folder: Path) -> None:
        trainings = []
        for port, runs in zip(free_ports(len(BUNDLES)), of(folder).values(), strict=True):
            make_data(runs.data, runs.bundle)
            validate(runs.data, lambda content: content["validation"] + content["testing"])
            runs.eval.mkdir()
            shutil.copy(tracking_database, runs.eval)
            options = runs.options("train", epochs=EPOCHS, tracking="mlflow", **TINY[runs.name].like_evaluation)
            trainings.append((port, configs(runs), options, str(runs.folder / "told")))
        ended = torchrun("tests.two_processes", json.dumps(trainings))
        assert ended.returncode == 0, ended.stderr + "".join(told(runs) for runs in of(folder).values())

    return of(made_once("in two processes", train))


@pytest.fixture
def in_two(in_two_processes: dict[str, Runs], bundle_name: str) -> Runs:
    """A bundle trained in two processes; read what it wrote, write nowhere."""
    return in_two_processes[bundle_name]


def told(runs: Runs) -> str:
    """What both processes said."""
    return "".join(path.read_text() for path in sorted(runs.folder.glob("told.*")))


def rows(runs: Runs) -> list[dict[str, str]]:
    with (runs.eval / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mean_dice_alone(runs: Runs, elsewhere: Path) -> float:
    """What this process finds for the best model: an evaluation, and the validation where that is another."""
    tiny, place = TINY[runs.name], {"output_dir": str(elsewhere)}
    shared = {key: value for key, value in tiny.like_evaluation.items() if key in runs.keys("evaluate")}
    evaluation = runs.run("evaluate", **shared, **place).parser.get_parsed_content("validate::evaluator")
    assert evaluation.state.iteration == 3
    assert (elsewhere / "metrics_summary.json").is_file()
    if not tiny.evaluated_alike:
        workflow = runs.workflow(pretrained=str(runs.models / "model.pt"), ckpt_dir=str(elsewhere), **place)
        workflow.initialize()
        evaluation = workflow.parser.get_parsed_content("validate::evaluator")
        evaluation.run()
    return float(evaluation.state.metrics["mean_dice"])


def test_two_processes_agree(in_two: Runs, tmp_path: Path) -> None:
    """None of the validation cases counts twice."""
    found = re.findall(r"process (\d), epoch (\d): (val_[^\n]*)", told(in_two))
    scores = {(process, epoch): score for process, epoch, score in found}
    assert set(scores) == {(process, epoch) for process in "01" for epoch in "12"}
    for epoch in "12":
        assert scores["0", epoch] == scores["1", epoch]
    assert scores["0", "1"] != scores["0", "2"]
    best = torch.load(in_two.models / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in best)
    assert [row["epoch"] for row in rows(in_two)] == ["1", "2"]
    alone = mean_dice_alone(in_two, tmp_path)
    column, best_of = TINY[in_two.name].key_metric
    value = best_of(float(row[column]) for row in rows(in_two))
    chosen = min(rows(in_two), key=lambda row: abs(float(row[column]) - value))
    assert float(chosen["val_mean_dice"]) == pytest.approx(alone, rel=1e-5)


def test_the_first_process_tracks_the_training(in_two: Runs) -> None:
    (run,) = runs_in(in_two.eval).values()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["mean_dice"] == pytest.approx(float(rows(in_two)[-1]["val_mean_dice"]))
    assert "DistributedDataParallel" in recorded_config(in_two.eval, run)["network"]["_target_"]
    history = client_of(in_two.eval).get_metric_history(run.info.run_id, "train_loss")
    steps = [entry.step for entry in history]
    assert steps == list(range(1, EPOCHS * int(run.data.params["epoch_length"]) + 1))


def test_fewer_validation_cases_than_processes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is typed for one bundle; the check is the same code for all, and starting processes takes long."""
    message = "error: 1 validation cases for 2 processes: each needs one; list more cases, or start fewer processes."
    few = Runs(runs.name, runs.folder / "data", runs.folder)
    shutil.copytree(runs.data, few.data)
    validate(few.data, lambda content: content["validation"][:1])
    if runs.name == BUNDLES[0]:
        ended = train_in_two_processes(few)
        assert ended.returncode != 0
        assert re.findall(r"^error: .*", ended.stderr, re.M) == [message]
    else:
        monkeypatch.setattr("custom_nets.preflight.idist.get_world_size", lambda: 2)
        assert few.refusal() == message
    assert not runs.models.exists()
