# SPDX-License-Identifier: Apache-2.0
"""The demo of a bundle: which runs it makes on which data, and what it tells. The runs themselves are replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.files import write_json
from custom_nets.metrics.structure_reports import write_structure_reports
from custom_nets.metrics.structures import STRUCTURE_AVERAGED, STRUCTURE_VOLUMES
from custom_nets.registry import bundle
from tools import demo
from tools._command import run

Call = tuple[list[str], dict[str, Any], str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Runs of bundles, noted; an evaluation writes tables in which a neighbour of a slice is worth 0.1 of Dice."""
    noted: list[Call] = []

    def note(name: str, configs: list[str], overrides: dict[str, Any], run_id: str = "run") -> None:
        noted.append((configs, overrides, run_id))
        if "evaluate" not in configs:
            return
        if name == "s2anet":
            write_structure_reports(structures(overrides.get("num_slices", 3)), overrides["output_dir"])
        else:
            metrics = {"dice": {"mean": 0.25, "std": None}, "hd": {"mean": None, "std": None}}
            write_json(Path(overrides["output_dir"]) / "metrics_summary.json", {"metrics": metrics})

    monkeypatch.setattr(demo, "run_bundle", note)
    return noted


def structures(num_slices: int) -> list[dict[str, Any]]:
    """The rows of two cases and three structures."""
    numbers = dict.fromkeys((*STRUCTURE_AVERAGED, *STRUCTURE_VOLUMES), 1.0)
    return [
        {"case": case, "structure": value, "name": name, **numbers, "dice": 0.1 * num_slices + 0.01 * value}
        for case in ("a", "b")
        for value, name in list(bundle("s2anet").labels.items())[1:4]
    ]


def show(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run(demo.demo, [name, f"--directory={folder}", "--cases=3", "--spacing=6", "--seed=5"])
    return capsys.readouterr().out


def test_slices_with_and_without_their_neighbours(
    tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    told = show("s2anet", tmp_path, capsys)
    assert [configs for configs, _, _ in calls] == [
        *(["train", "demo"], ["evaluate", "demo"]) * 2,
        *(["inference", "demo"],) * 2,
    ]
    assert [run_id for _, _, run_id in calls] == ["training", "run", "training", "run", "run", "run"]
    two, three = tmp_path / "2d", tmp_path
    for (_, overrides, _), folder in zip(calls, (two, two, three, three, two, three), strict=True):
        assert overrides["dataset_dir"] == tmp_path / "data"
        assert overrides.get("num_slices") == (1 if folder == two else None)
        assert not overrides.get("tta"), "networks that never saw a mirror image"
        assert overrides["output_dir"].parent == folder
        assert overrides.get("checkpoint", folder / "models" / "model.pt") == folder / "models" / "model.pt"
    trainings = [overrides for _, overrides, run_id in calls if run_id == "training"]
    assert [(one["ckpt_dir"], one["seed"]) for one in trainings] == [(two / "models", 5), (three / "models", 5)]
    assert all(one["section"] == "testing" for _, one, run_id in calls if run_id == "run")
    assert "s2anet, 2D\n  dice                         0.120 ±" in told
    assert "s2anet, 2.5D\n  dice                         0.320 ±" in told
    for file in ("2d/evaluation/structures.png", "evaluation/structures.png", "comparison/comparison.png"):
        assert f"  {tmp_path / file}\n" in told
    compared = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    found = {model: value for one in compared["structures"].values() for model, value in one.items()}
    assert found == {"2D": pytest.approx(0.13), "2.5D": pytest.approx(0.33)}, "of the last structure"


def test_one_training(tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    told = show("rsanet", tmp_path, capsys)
    assert [configs[0] for configs, _, _ in calls] == ["train", "evaluate", "inference"]
    assert [overrides.get("tta") for _, overrides, _ in calls] == [None, True, True]
    assert "dice                         0.250 ± 0.000" in told and "  hd " not in told


def test_data_that_are_there_are_used_again(
    tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show("rsanet", tmp_path, capsys)
    monkeypatch.setattr(demo, "write_dataset", lambda *words, **options: pytest.fail("made again"))
    show("rsanet", tmp_path, capsys)
    assert len(calls) == 6
