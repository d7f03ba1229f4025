# SPDX-License-Identifier: Apache-2.0
"""Training in two processes on this machine's CPU."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.bundle_runs import BUNDLES, TINY, Runs, list_cases, monai

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")


def train(runs: Runs, config: str = "train", **changes: Any) -> subprocess.CompletedProcess[str]:
    """Train in two processes; the device is the overlay's choice unless it is given."""
    files = str([str(runs.config(config)), str(runs.config("multi_gpu_train"))]).replace(" ", "")
    words = runs.arguments(config, **changes)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return monai("training", "--config_file", files, *words, launcher=launcher)


def with_validation(runs: Runs, choose: Callable[[dict[str, Any]], Any]) -> Runs:
    """The runs on data of which other cases are validated."""
    data = runs.folder / "data"
    shutil.copytree(runs.data, data)
    content = json.loads((data / "datalist.json").read_text())
    list_cases(data, **{**content, "validation": choose(content)})
    return Runs(runs.name, data, runs.folder)


def mean_dice_alone(runs: Runs) -> float:
    """What this process finds for the best model: an evaluation, or the validation where that is another."""
    tiny = TINY[runs.name]
    if tiny.evaluated_alike:
        shared = {key: value for key, value in tiny.like_evaluation.items() if key in runs.keys("evaluate")}
        evaluation = runs.run("evaluate", **shared).parser.get_parsed_content("validate::evaluator")
    else:
        workflow = runs.workflow(pretrained=str(runs.models / "model.pt"))
        workflow.initialize()
        evaluation = workflow.parser.get_parsed_content("validate::evaluator")
        evaluation.run()
    return float(evaluation.state.metrics["mean_dice"])


def test_two_processes_agree(runs: Runs) -> None:
    """With three validation cases, which two processes cannot share evenly: none may count twice."""
    runs = with_validation(runs, lambda content: content["validation"] + content["testing"])
    like_evaluation = TINY[runs.name].like_evaluation
    ended = train(runs, epochs=2, **like_evaluation)
    assert ended.returncode == 0, ended.stderr
    told = re.findall(r"process (\d), epoch (\d): (val_[^\n]*)", ended.stdout + ended.stderr)
    scores = {(process, epoch): score for process, epoch, score in told}
    assert set(scores) == {(process, epoch) for process in "01" for epoch in "12"}
    for epoch in "12":
        assert scores["0", epoch] == scores["1", epoch]
    assert scores["0", "1"] != scores["0", "2"]
    best = torch.load(runs.models / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in best)
    with (runs.eval / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    alone = mean_dice_alone(runs)
    column, best_of = TINY[runs.name].key_metric
    chosen = min(rows, key=lambda row: abs(float(row[column]) - best_of(float(row[column]) for row in rows)))
    assert float(chosen["val_mean_dice"]) == pytest.approx(alone, rel=1e-5)


def test_fewer_validation_cases_than_processes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two processes for one bundle; the check is the same code for all, and starting them takes long."""
    told = "error: 1 validation cases for 2 processes: each needs one; list more cases, or start fewer processes."
    few = with_validation(runs, lambda content: content["validation"][:1])
    if runs.name == BUNDLES[0]:
        ended = train(few)
        assert ended.returncode != 0
        assert re.findall(r"^error: .*", ended.stderr, re.M) == [told]
    else:
        monkeypatch.setattr("custom_nets.preflight.idist.get_world_size", lambda: 2)
        assert few.refusal() == told
    assert not runs.models.exists()
