# SPDX-License-Identifier: Apache-2.0
"""Both stages of zoom-in&out training in one command: places, resume, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.registry import available
from custom_nets.schedules import sgdr
from tests.bundle_runs import make_data, run_here
from tests.forked_commands import python_m
from tests.tools.conftest import Refusal, typed
from tests.tools.killed_zooms import MOMENTS, OPTIONS, run
from tools import _bundle_runs, _stages, rank_runs, zoom_in_out
from tools._command import run as run_tool

Call = tuple[list[str], dict[str, Any]]


def words(data: Path, folder: Path, **changes: Any) -> list[str]:
    """The options as they are typed."""
    return typed(data, **{"output_dir": folder, **OPTIONS, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name has spaces."""
    return make_data(tmp_path_factory.mktemp("zoom") / "data of scans", available()["zoom_resunet"])


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Runs of bundles, noted and run in this process."""
    noted: list[Call] = []

    def here(name: str, configs: list[str], overrides: dict[str, Any], run_id: str = "run") -> None:
        noted.append((configs, overrides))
        run_here(name, configs, overrides, run_id)

    for module in (_stages, zoom_in_out):
        monkeypatch.setattr(module, "run_bundle", here)
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    return noted


@pytest.fixture(scope="module")
def ended(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], str]:
    """Folders of runs, each killed at another moment, one never; and what they all said."""
    folders = {moment: tmp_path_factory.mktemp("ended") / "a run" for moment in MOMENTS}
    arguments = {moment: (str(data), str(folder)) for moment, folder in folders.items()}
    ended = python_m("tests.tools.killed_zooms", json.dumps(arguments))
    assert ended.returncode == 0, ended.stderr
    return folders, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def finished(ended: tuple[dict[str, Path], str]) -> Path:
    """The run that was not killed."""
    return ended[0]["never"]


def test_each_file_is_in_its_place(ended: tuple[dict[str, Path], str], finished: Path) -> None:
    folder, told = finished, ended[1]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    evaluation = [f"eval/evaluation/{stage}/metrics_" for stage in ("zoom_in", "zoom_out")]
    expected = {"zoom_in_out.json"}
    expected |= {f"models/{place}{name}.pt" for place in ("", "zoom_in/") for name in ("model", "last")}
    expected |= {f"models/{place}model.fingerprint.json" for place in ("", "zoom_in/")}
    expected |= {f"eval/{place}metrics.csv" for place in ("", "zoom_in/")}
    expected |= {f"{one}{name}" for one in evaluation for name in ("per_case.csv", "summary.json", "table.md")}
    expected |= {f"eval/evaluation/{stage}/evaluation.json" for stage in ("zoom_in", "zoom_out")}
    assert {file for file in files if "tfevents" not in file} == expected
    assert "zoom-in, whole volumes:" in told and "zoom-out, whole volumes:" in told
    assert f"\nthe model: {folder / 'models' / 'model.pt'}\n" in told


def test_zoom_out_starts_from_the_model_of_zoom_in(ended: tuple[dict[str, Path], str], finished: Path) -> None:
    folder, told = finished, ended[1]
    start = folder / "models" / "zoom_in" / "model.pt"
    assert f"{start}: 126 of 126 entries of ZoomResUNet match" in told
    first, second = (table(folder / "eval" / place / "metrics.csv") for place in ("zoom_in", "."))
    assert [row["learning_rate"] for row in (first[0], second[0])] == ["0.001", "0.0001"]
    changed = weights(folder / "models" / "model.pt")
    moved = [float((value - changed[key]).abs().max()) for key, value in weights(start).items()]
    assert 0 < max(moved) < 0.01, "Adam's steps of 1e-4 go no farther"


def test_the_second_call_does_nothing(finished: Path, data: Path, calls: list[Call]) -> None:
    folder = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run_tool(zoom_in_out.zoom_in_out, words(data, folder, device="cpu", num_workers=1))
    assert calls == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_ranking_reads_what_is_written(finished: Path, tmp_path: Path) -> None:
    folder = finished
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one").symlink_to(folder)
    rank_runs.main(str(tmp_path / "runs" / "one"))
    ranking = json.loads((folder / "ranking.json").read_text())
    for name in ("ranking.json", "ranking.csv"):
        (folder / name).unlink()
    (one,) = ranking["ranked"]
    summary = json.loads((folder / "eval/evaluation/zoom_out/metrics_summary.json").read_text())
    assert one["dice"] == summary["metrics"]["dice"]["mean"]
    assert (one["zoom_in_size"], one["zoom_out_size"]) == ("16x16x16", "24x20x28")
    assert one["zoom_in_epochs"] == one["zoom_out_epochs"] == 2
    assert one["seconds"] > 0 and one["zoom_in_dice"] is not None
    assert ranking["not_ranked"] == []


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment != "never"])
def test_killed_and_resumed_by_the_same_command(
    ended: tuple[dict[str, Path], str], finished: Path, data: Path, moment: str, calls: list[Call]
) -> None:
    folder, whole = ended[0][moment], finished
    assert not (folder / "eval/evaluation/zoom_out/metrics_summary.json").exists()
    run(data, folder)
    assert len(calls) == 5 - MOMENTS[moment][0]
    for file in ("models/zoom_in/model.pt", "models/model.pt"):
        same = weights(whole / file)
        assert all(torch.equal(same[key], value) for key, value in weights(folder / file).items()), file
    optimizers = [weights(place / "models" / "last.pt")["optimizer"]["state"] for place in (whole, folder)]
    for number, state in optimizers[0].items():
        assert all(torch.equal(value, optimizers[1][number][key]) for key, value in state.items())
    for file in ("eval/zoom_in/metrics.csv", "eval/metrics.csv", "eval/evaluation/zoom_out/metrics_per_case.csv"):
        assert table(folder / file) == table(whole / file), file


def test_the_rate_of_every_epoch_is_the_schedules(finished: Path) -> None:
    for place, initial in (("zoom_in", 1e-3), (".", 1e-4)):
        rates = [float(row["learning_rate"]) for row in table(finished / "eval" / place / "metrics.csv")]
        assert rates == pytest.approx([initial * sgdr(2 * epoch, 3 * 2) for epoch in range(2)], rel=1e-12)


def test_options_reach_both_stages_and_both_evaluations(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(
        data,
        tmp_path,
        zoom_in_epochs=1,
        zoom_out_epochs=1,
        seed=3,
        assd="directed",
        tta=True,
        windows="centre",
        overlay="demo",
    )
    trainings, evaluations = calls[::2], calls[1::2]
    assert [configs for configs, _ in calls] == [
        ["train", "demo"],
        ["evaluate", "demo"],
        ["train", "demo", "zoom_out", "demo_zoom_out"],
        ["evaluate", "demo", "demo_zoom_out"],
    ]
    for _, overrides in trainings:
        assert overrides["seed"] == 3 and overrides["lesion_share"] == 0.5
        assert not {"tta", "assd"} & set(overrides)
    for (_, overrides), size in zip(evaluations, ([16, 16, 16], [24, 20, 28]), strict=True):
        assert (overrides["tta"], overrides["assd"], overrides["patch_size"]) == (True, "directed", size)
        assert overrides["intensity"] == "percentile" and overrides["section"] == "validation"
        assert not {"seed", "lesion_share"} & set(overrides)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"seed": 4}, ("options {'seed': None}, not {'seed': '4'}", "--output_dir")),
        ({"section": "testing"}, ("options {'section': 'validation'}, not {'section': 'testing'}",)),
        ({"zoom_out_epochs": 5}, ("zoom_out_epochs 2, not 5", "--output_dir")),
        ({"zoom_in_size": [8, 16, 16]}, ("zoom_in_size [16, 16, 16], not [8, 16, 16]",)),
        ({"tta": True}, ("'tta'",)),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(
    finished: Path, data: Path, changes: dict[str, Any], fragments: tuple[str, ...], calls: list[Call], refusal: Refusal
) -> None:
    message = refusal(zoom_in_out.zoom_in_out, words(data, finished, **changes))
    assert "zoom_in_out.json: is of a run with" in message
    assert all(fragment in message for fragment in fragments), message
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"lesion_shares": 1}, ("option --lesion_shares is unknown", "tools.info")),
        ({"learning_rate": 1}, ("option --learning_rate is unknown",)),
        ({"checkpoint": "x.pt"}, ("option --checkpoint is unknown",)),
        ({"zoom_in_epochs": "two"}, ("epochs is 'two'", "whole number")),
        ({"zoom_out_epochs": 0}, ("epochs is 0", "at least 1")),
        ({"zoom_out_size": 24}, ("patch_size is 24", "three whole numbers")),
        ({"overlay": "demos"}, ("overlay is 'demos'", "demos.json")),
        ({"section": "test"}, ("section 'test'", "testing")),
        ({"assd": "mean"}, ("assd is 'mean'", "pooled, directed")),
        ({"intensity": "max"}, ("intensity is 'max'", "divide, percentile, zscore")),
        ({"datalist": "gone.json"}, ("gone.json", "does not exist")),
    ],
)
def test_refused_before_the_first_run(
    data: Path, tmp_path: Path, changes: dict[str, Any], fragments: tuple[str, ...], calls: list[Call], refusal: Refusal
) -> None:
    """Also what only the second stage or the evaluation needs, days later."""
    message = refusal(zoom_in_out.zoom_in_out, words(data, tmp_path / "run", **changes))
    assert all(fragment in message for fragment in fragments), message
    assert calls == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["zoom_in", "."])
def test_a_broken_last_pt_is_one_clear_error(
    finished: Path, data: Path, tmp_path: Path, stage: str, calls: list[Call], refusal: Refusal
) -> None:
    folder = shutil.copytree(finished, tmp_path / "a run")
    last = folder / "models" / stage / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    message = refusal(zoom_in_out.zoom_in_out, words(data, folder))
    assert str(last) in message and "cut off" in message
    assert calls == []


def test_a_training_of_another_command_is_not_taken_for_a_stage(
    data: Path, tmp_path: Path, calls: list[Call], refusal: Refusal
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "last.pt").write_bytes(b"of train.json")
    message = refusal(zoom_in_out.zoom_in_out, words(data, tmp_path))
    assert "last.pt: is of a training that this tool did not start" in message
    write_json(tmp_path / "zoom_in_out.json", [1])
    assert "zoom_in_out.json: cannot be read" in refusal(zoom_in_out.zoom_in_out, words(data, tmp_path))
    assert calls == []


def test_a_failing_run_ends_the_tool(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_tool(zoom_in_out.zoom_in_out, words(data, tmp_path, base_width=5))
    assert caught.value.code == 2
    reason, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "num_groups a divisor of 2 * base_width" in reason
    assert last == "error: this run of bundle zoom_resunet ended with exit status 1; see above."


def test_what_is_typed_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths keep their spaces, lists lose them."""
    typed: list[list[str]] = []

    def remember(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        typed.append(command)
        return subprocess.CompletedProcess(command, 3 if len(typed) > 1 else 0)

    monkeypatch.setattr(_bundle_runs.subprocess, "run", remember)
    options = {"ckpt_dir": Path("/a b/c"), "patch_size": [1, 2, 3], "resume": False}
    _bundle_runs.run_bundle("zoom_resunet", ["train", "zoom_out"], options, "training")
    files = str([f"bundles/zoom_resunet/configs/{name}.json" for name in ("train", "zoom_out")])
    words = ["run", "training", "--config_file", files, "--ckpt_dir", "/a b/c", "--patch_size", "[1,2,3]"]
    assert typed[0][-len(words) - 2 :] == [*words, "--resume", "False"]
    with pytest.raises(InputError, match="ended with exit status 3"):
        _bundle_runs.run_bundle("zoom_resunet", ["train"], {})
