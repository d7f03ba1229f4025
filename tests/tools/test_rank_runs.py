# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.files import write_json, write_text
from tools._command import run
from tools.rank_runs import main

RECORD = {
    "zoom_in_size": [128, 128, 128],
    "zoom_out_size": [144, 172, 168],
    "zoom_in_epochs": 120,
    "zoom_out_epochs": 15,
    "seconds": 5400.5,
}


def summary(dice: float | None, interval: list[float] | None = None) -> dict[str, Any]:
    return {"metrics": {"dice": {"mean": dice, "ci95": interval}}, "micro_dice": 0.75}


def write_run(folder: Path, dice: float | None = None, zoom_in: float | None = None, **changes: Any) -> Path:
    write_json(folder / "zoom_in_out.json", {**RECORD, **changes})
    for stage, value in (("zoom_out", dice), ("zoom_in", zoom_in)):
        if value is not None:
            interval = [value - 0.1, value + 0.1]
            write_json(folder / f"eval/evaluation/{stage}/metrics_summary.json", summary(value, interval))
    return folder


def ranking(root: Path) -> dict[str, Any]:
    return json.loads((root / "ranking.json").read_text(encoding="utf-8"))


def test_best_whole_volume_dice_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 0.5, zoom_in=0.9)
    write_run(tmp_path / "deep/er/b", 0.625, zoom_out_size=[160, 160, 160])
    write_run(tmp_path / "c", 0.25, zoom_in=0.125)
    main(str(tmp_path))
    ranked = ranking(tmp_path)["ranked"]
    assert [(one["rank"], one["run"], one["dice"]) for one in ranked] == [
        (1, "deep/er/b", 0.625),
        (2, "a", 0.5),
        (3, "c", 0.25),
    ]
    assert ranked[0]["zoom_out_size"] == "160x160x160"
    assert [one["zoom_in_dice"] for one in ranked] == [None, 0.9, 0.125]
    assert (ranked[1]["dice_low"], ranked[1]["dice_high"], ranked[1]["micro_dice"]) == (0.4, 0.6, 0.75)
    with (tmp_path / "ranking.csv").open(encoding="utf-8", newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["deep/er/b", "a", "c"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["rank", "run", "Dice"]
    shown = " ".join(lines[1].split())
    assert shown == "1 deep/er/b 0.6250 0.5250 to 0.7250 0.7500 - 128x128x128 160x160x160 120+15 1.50"
    assert "not ranked:" not in lines


def test_a_folder_may_be_a_run_itself_and_a_second_ranking_is_the_same(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5)
    main(str(tmp_path))
    first = ranking(tmp_path)
    main(str(tmp_path))
    assert ranking(tmp_path) == first
    assert first["ranked"][0]["run"] == "."


def test_equal_runs_keep_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_run(tmp_path / name, 0.5)
    main(str(tmp_path))
    assert [one["run"] for one in ranking(tmp_path)["ranked"]] == ["a", "b", "c"]


def test_unfinished_and_broken_runs_are_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "fine", 0.5)
    write_run(tmp_path / "training")
    write_json(tmp_path / "no_record/eval/evaluation/zoom_out/metrics_summary.json", summary(0.9))
    write_text(write_run(tmp_path / "cut", 0.9) / "zoom_in_out.json", '{"zoom_in_size": [128')
    write_text(write_run(tmp_path / "list", 0.9) / "zoom_in_out.json", "[]")
    write_run(tmp_path / "no_size", 0.9, zoom_in_size="128")
    write_run(tmp_path / "no_seconds", 0.9, seconds=None)
    for name, content in (("nan", summary(float("nan"))), ("none", summary(None)), ("other", {"metrics": []})):
        write_json(write_run(tmp_path / name) / "eval/evaluation/zoom_out/metrics_summary.json", content)
    main(str(tmp_path))
    found = ranking(tmp_path)
    assert [one["run"] for one in found["ranked"]] == ["fine"]
    reasons = {one["run"]: one["reason"] for one in found["not_ranked"]}
    evaluation = "eval/evaluation/zoom_out/metrics_summary.json"
    assert reasons.pop("cut").startswith("zoom_in_out.json cannot be read")
    assert reasons == {
        "training": f"no {evaluation}: not finished",
        "no_record": "no zoom_in_out.json: not finished",
        "list": "zoom_in_out.json holds a list, not an object",
        "no_size": "zoom_in_out.json has no size 'zoom_in_size' of three whole numbers (found '128')",
        "no_seconds": "zoom_in_out.json has no number 'seconds' (found None)",
        **dict.fromkeys(("nan", "none", "other"), f"{evaluation} has no finite metrics.dice.mean"),
    }
    printed = capsys.readouterr().out
    assert all(reason in printed for reason in reasons.values())


def test_missing_interval_and_broken_first_stage_do_not_matter(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.5)
    write_json(folder / "eval/evaluation/zoom_out/metrics_summary.json", summary(0.5))
    write_text(folder / "eval/evaluation/zoom_in/metrics_summary.json", "{")
    main(str(tmp_path))
    (one,) = ranking(tmp_path)["ranked"]
    assert (one["dice"], one["dice_low"], one["zoom_in_dice"]) == (0.5, None, None)


def test_nothing_finished_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a")
    main(str(tmp_path))
    assert capsys.readouterr().out.startswith("no run is finished\n\nnot ranked:\n")
    assert (tmp_path / "ranking.csv").read_text(encoding="utf-8").count("\n") == 1


@pytest.mark.parametrize(("name", "message"), [("gone", "is not a folder"), (".", "no zoom_in_out.json below")])
def test_no_runs_end_with_status_2(tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, [str(tmp_path / name)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
