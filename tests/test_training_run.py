# SPDX-License-Identifier: Apache-2.0
"""What a training of each bundle writes, wherever and however it is started."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from custom_nets.fingerprints import read_fingerprint
from custom_nets.registry import ROOT
from tests.bundle_runs import BUNDLES, TINY, Runs, monai


def network_of(runs: Runs) -> nn.Module:
    return runs.workflow().parser.get_parsed_content("network_def")


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def table(runs: Runs) -> list[dict[str, str]]:
    with (runs.eval / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def checkout(runs: Runs) -> Path:
    """A repository with nothing but this bundle's configurations: no default data set is there."""
    root = runs.folder / "checkout"
    shutil.copytree(runs.config("train").parent, root / "bundles" / runs.name / "configs")
    return root


def test_weights_load_strictly_into_the_network(trained: Runs) -> None:
    network_of(trained).load_state_dict(weights(trained.models / "model.pt"), strict=True)
    last = torch.load(trained.models / "last.pt", weights_only=True)
    assert last["epoch"] == 3
    network_of(trained).load_state_dict(last["model"], strict=True)
    assert sorted(path.name for path in trained.models.iterdir()) == ["last.pt", "model.fingerprint.json", "model.pt"]


def test_the_best_epoch_is_kept(trained: Runs) -> None:
    column, best = TINY[trained.name].key_metric
    scores = [float(row[column]) for row in table(trained)]
    last = torch.load(trained.models / "last.pt", weights_only=True)
    assert last["best_metric"] == best(scores)
    assert last["best_metric_epoch"] == 1 + scores.index(best(scores))
    same = all(torch.equal(last["model"][key], value) for key, value in weights(trained.models / "model.pt").items())
    assert same == (last["best_metric_epoch"] == 3)


def test_table_of_the_run(trained: Runs) -> None:
    rows = table(trained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    expected = {"epoch", "seconds", "learning_rate", "train_loss", "val_mean_dice", *TINY[trained.name].columns}
    assert expected <= set(rows[0])
    assert all(math.isfinite(float(row[column])) for row in rows for column in expected)
    assert float(rows[0]["train_loss"]) > float(rows[2]["train_loss"]) > 0
    assert float(rows[0]["learning_rate"]) > float(rows[2]["learning_rate"]) > 0
    for column in TINY[trained.name].columns:
        assert rows[0][column] != rows[2][column], f"{column} does not learn"


def test_pictures_and_logs(trained: Runs) -> None:
    pictures = [trained.eval / "learning_curves.png", *(trained.eval / "validation").iterdir()]
    assert len(pictures) == 2
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in pictures)
    scalars = EventAccumulator(str(trained.eval)).Reload().Tags()["scalars"]
    assert {"train_loss", "val_mean_dice"} <= {name if name == "train_loss" else f"val_{name}" for name in scalars}


def test_mixed_precision_is_the_default_where_it_pays(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: used.append(k["enabled"]) or autocast(*a, **k))
    training = runs.run(epochs=1, amp="$amp_pays(@device)")
    assert training.parser.get_parsed_content("amp") is bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert any(used) is training.parser.get_parsed_content("amp")
    written = weights(runs.models / "model.pt").values()
    assert all(value.dtype == torch.float32 for value in written if value.is_floating_point())


def test_without_any_validation_the_last_weights_are_there(runs: Runs) -> None:
    runs.run(val_interval=5)
    last = torch.load(runs.models / "last.pt", weights_only=True)
    best = weights(runs.models / "model.pt")
    assert all(torch.equal(last["model"][key], value) for key, value in best.items())
    assert [row["epoch"] for row in table(runs)] == ["1", "2"]
    assert "val_mean_dice" not in table(runs)[0]


def test_unvalidated_weights_give_way_to_the_first_validated(runs: Runs) -> None:
    runs.run(epochs=3, val_interval=2)
    last = torch.load(runs.models / "last.pt", weights_only=True)
    assert last["best_metric_epoch"] == 2
    best = weights(runs.models / "model.pt")
    assert not all(torch.equal(last["model"][key], value) for key, value in best.items())
    assert [row["val_mean_dice"] != "" for row in table(runs)] == [False, True, False]


def test_a_host_that_brings_its_own_cases_and_no_validation(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MONAI Label does: lists in place of the data sets' data, no dataset_dir, and all keys are evaluated."""
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", "somewhere")
    modalities = runs.bundle.modalities
    cases = [
        {
            "image": [str(runs.data / f"case{number}_{modality}.nii.gz") for modality in modalities],
            "label": str(runs.data / f"case{number}_label.nii.gz"),
        }
        for number in (0, 1)
    ]
    given = {"train__dataset__data": cases, "validate__dataset__data": []}
    hosted = runs.workflow(dataset_dir=str(runs.folder / "nowhere"), **given)
    hosted.run_id = ""  # what 3D Slicer sends
    hosted.initialize()
    hosted.run()
    assert [row["epoch"] for row in table(runs)] == ["1", "2"]
    last = hosted.parser.get_parsed_content("network").state_dict()
    assert all(torch.equal(last[key], value) for key, value in weights(runs.models / "model.pt").items())
    assert [path.name for path in runs.models.glob("*.pt")] == ["model.pt"], "MONAI Label would serve another"
    fingerprint = read_fingerprint(runs.models / "model.pt")
    assert fingerprint is not None and fingerprint.cases == 2
    cases[0]["label"] = str(runs.folder / "gone.nii.gz")
    assert "gone.nii.gz" in runs.refusal(dataset_dir=str(runs.folder / "nowhere"), **given)


def test_a_fresh_start_keeps_the_earlier_run(runs: Runs) -> None:
    runs.models.mkdir()
    for name in ("model", "last"):
        (runs.models / f"{name}.pt").write_text(f"earlier {name}")
    (runs.models / "model.fingerprint.json").write_text("earlier fingerprint")
    runs.run(epochs=1)
    assert (runs.models / "model.previous.fingerprint.json").read_text() == "earlier fingerprint"
    for name in ("model", "last"):
        assert (runs.models / f"{name}.previous.pt").read_text() == f"earlier {name}"
        assert weights(runs.models / f"{name}.pt")


@pytest.mark.parametrize("inside", [False, True], ids=["run training from the root", "run from the bundle's folder"])
def test_from_the_command_line(runs: Runs, inside: bool) -> None:
    folder = runs.config("train").parents[1]
    if inside:
        ended = monai("--config_file", "configs/train.json", *runs.arguments(epochs=1), cwd=folder)
    else:
        file = runs.config("train").relative_to(ROOT)
        ended = monai("training", "--config_file", str(file), *runs.arguments(epochs=1))
    assert ended.returncode == 0, ended.stderr
    assert weights(runs.models / "model.pt")


@pytest.mark.parametrize("inside", [False, True], ids=["root", "bundle"])
@pytest.mark.parametrize("workflow", ["train", "inference", "evaluate"])
def test_without_data_nothing_is_written(
    trained: Runs, checkout: Path, workflow: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout / "bundles" / trained.name
    monkeypatch.chdir(folder if inside else checkout)
    before = sorted(checkout.rglob("*"))
    file = f"configs/{workflow}.json" if inside else f"bundles/{trained.name}/configs/{workflow}.json"
    options = dict(TINY[trained.name].options)
    if workflow != "train":
        options |= {"checkpoint": str(trained.models / "model.pt"), **TINY[trained.name].segmenting}
    with pytest.raises(SystemExit) as caught:
        ConfigWorkflow(file, logging_file=False, **options).initialize()
    where = f"../../data/{trained.name}" if inside else f"data/{trained.name}"
    for fragment in ("error: ", where, "is not a folder", "tools.demo_data", "tools.make_datalist"):
        assert fragment in str(caught.value)
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize("bundle_name", BUNDLES[:1], indirect=True, scope="session")
def test_without_data_the_process_ends_with_one_line(trained: Runs, checkout: Path) -> None:
    """Of one bundle, as starting a process takes long."""
    ended = monai("--config_file", "configs/train.json", cwd=checkout / "bundles" / trained.name)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: dataset_dir '../../data/")
    assert "Traceback" not in ended.stderr
