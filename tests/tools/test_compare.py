# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from custom_nets.files import write_text
from custom_nets.metrics.comparison import MetricTable, compare_models
from custom_nets.metrics.reports import cases_csv
from tests.recipe import document
from tools._command import run
from tools.compare import main

STRUCTURES = ("femur, left", "femur, right", "sacrum", "bladder", "rectum")
CASES = ("a", "b", "c")
RNG_SEEDS = {"unet": 1, "munet": 2, "s2anet": 3}


def values(model: str) -> np.ndarray:
    """Dice, cases x structures: nobody has the bladder of case b, nor has case c a rectum in one model."""
    table = np.random.default_rng(RNG_SEEDS[model]).uniform(0.3, 0.9, (len(CASES), len(STRUCTURES)))
    table[1, 3] = math.nan
    table[2, 4] = math.nan if model == "munet" else table[2, 4]
    return table


def write_model(folder: Path, table: np.ndarray, reverse: bool = False, cases: tuple[str, ...] = CASES) -> Path:
    rows = [
        {
            "case": case,
            "structure": index + 1,
            "name": name,
            "dice": table[number, index],
            "hd95": 1 - table[number, index],
        }
        for number, case in enumerate(cases)
        for index, name in enumerate(STRUCTURES[: table.shape[1]])
    ]
    write_text(folder / "metrics_per_structure.csv", cases_csv(rows[::-1] if reverse else rows))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [str(write_model(tmp_path / model, values(model), model == "munet")) for model in RNG_SEEDS]


def compared(folders: list[str], output: Path, **options: Any) -> dict[str, Any]:
    main(*folders, output_dir=str(output), **options)
    return json.loads((output / "comparison.json").read_text(encoding="utf-8"))


def test_golden_example() -> None:
    golden = document("s2anet")["metrics"]["aggregation"]
    columns = np.array(golden["per_class_nan_as_zero"])[:, 1:4]  # sensitivity, specificity, dice
    structures = tuple("abcd")
    tables = {
        name: MetricTable(("mean",), structures, own[None])
        for name, own in zip(golden["friedman_example"]["columns"], columns.T, strict=True)
    }
    found = compare_models(tables)
    assert found.test == "Friedman chi-square" and found.blocks == 4
    expected = (golden["friedman_example"]["stat"], golden["friedman_example"]["p"])
    assert (found.statistic, found.p_value) == pytest.approx(expected, abs=1e-12)


def test_three_models(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(folders, tmp_path / "out")
    means = {model: np.nan_to_num(values(model)).mean(axis=0) for model in RNG_SEEDS}
    assert list(found["structures"]) == list(STRUCTURES)
    for index, name in enumerate(STRUCTURES):
        assert found["structures"][name] == pytest.approx({model: means[model][index] for model in RNG_SEEDS})
    expected = stats.friedmanchisquare(*means.values())
    assert (found["statistic"], found["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found["test"], found["blocks"], found["undefined_pairs"], found["nan"]) == (
        *("Friedman chi-square", 5, 2, "zero"),
    )
    printed = capsys.readouterr().out
    markdown = (tmp_path / "out/comparison.md").read_text(encoding="utf-8")
    assert f"p = {expected.pvalue:.3g}" in printed and f"p = {expected.pvalue:.3g}" in markdown
    assert "2 of 15 scan-structure pairs" in markdown and "counts as 0, as published" in printed
    cells = " | ".join(f"{means[model][0]:.4f}" for model in RNG_SEEDS)
    assert f"| {STRUCTURES[0]} | {cells} |" in markdown.splitlines()
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_undefined_values_may_be_left_out_of_all_models(folders: list[str], tmp_path: Path) -> None:
    found = compared(folders, tmp_path / "out", nan="leave_out")
    for model in RNG_SEEDS:
        own = values(model)
        own[2, 4] = math.nan
        assert [one[model] for one in found["structures"].values()] == pytest.approx(np.nanmean(own, axis=0))
    assert found["blocks"] == 5


def test_structure_that_no_case_has_is_no_block(tmp_path: Path) -> None:
    folders = []
    for model in RNG_SEEDS:
        table = values(model)
        table[:, 1] = math.nan
        folders.append(str(write_model(tmp_path / model, table)))
    found = compared(folders, tmp_path / "out", nan="leave_out")
    assert found["blocks"] == 4 and found["structures"][STRUCTURES[1]] == dict.fromkeys(RNG_SEEDS)


def test_two_models_are_tested_by_wilcoxon(folders: list[str], tmp_path: Path) -> None:
    found = compared(folders[:2], tmp_path / "out")
    means = [np.nan_to_num(values(model)).mean(axis=0) for model in ("unet", "munet")]
    assert found["test"] == "Wilcoxon signed-rank"
    assert found["p_value"] == pytest.approx(stats.wilcoxon(*means).pvalue)


def test_equal_models_have_no_p_value(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared([folders[0]] * 3, tmp_path / "out", names="x,y,z")
    assert (found["statistic"], found["p_value"]) == (None, None)
    assert "the models are equal in every structure" in capsys.readouterr().out


def test_distances_of_missed_structures_are_warned_of(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(folders, tmp_path / "out", metric="hd95")["metric"] == "hd95"
    assert "this rewards missed structures" in capsys.readouterr().out


@pytest.mark.parametrize("names", ["mine,yours,2", ("mine", "yours", 2)])
def test_models_are_named(folders: list[str], tmp_path: Path, names: Any) -> None:
    found = compared(folders, tmp_path / "out", names=names)
    assert list(found["structures"]["sacrum"]) == ["mine", "yours", "2"]


def test_folders_of_one_name_are_named_by_their_path(folders: list[str], tmp_path: Path) -> None:
    twins = [str(write_model(tmp_path / model / "eval", values(model))) for model in RNG_SEEDS]
    assert list(compared(twins, tmp_path / "out")["structures"]["sacrum"]) == twins


def spoil(path: Path, old: str, new: str) -> None:
    write_text(path, path.read_text(encoding="utf-8").replace(old, new))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unet"], "models to compare: 1"),
        (["unet", "gone"], "cannot read .*gone"),
        (["unet", "munet", "--metric", "f1"], "no column 'f1'; its metrics are dice, hd95"),
        (["unet", "munet", "--names", "x"], "names are x; give 2 different ones"),
        (["unet", "unet"], "give 2 different ones"),
        (["unet", "munet", "--nan", "mean"], "nan is 'mean'; choose one of zero, leave_out"),
        (["unet", "fewer"], "model 'fewer' lacks a structure that model 'unet' has, such as 'rectum'"),
        (["fewer", "unet"], "model 'fewer' lacks a structure that model 'unet' has, such as 'rectum'"),
        (["unet", "others"], "model 'others' lacks 2 cases that model 'unet' has, such as 'b'"),
        (["unet", "twice"], "has case 'a' with structure 'sacrum' twice"),
        (["unet", "gap"], "lacks structure 'sacrum' of case 'b'"),
        (["unet", "text"], "dice of case 'a', structure 'sacrum' is 'good', not a number"),
        (["unet", "empty"], "no column 'case'; its metrics are none"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "fewer", values("unet")[:, :4])
    write_model(tmp_path / "others", values("unet"), cases=("a", "x", "y"))
    for name in ("twice", "gap", "text", "empty"):
        write_model(tmp_path / name, values("unet"))
    line = next(one for one in Path("gap/metrics_per_structure.csv").read_text().splitlines() if one.startswith("b,3"))
    spoil(Path("gap/metrics_per_structure.csv"), f"{line}\n", "")
    spoil(Path("twice/metrics_per_structure.csv"), "b,3,sacrum", "a,3,sacrum")
    spoil(Path("text/metrics_per_structure.csv"), f"a,3,sacrum,{values('unet')[0, 2]:.10g}", "a,3,sacrum,good")
    write_text("empty/metrics_per_structure.csv", "")
    with pytest.raises(SystemExit) as caught:
        run(main, arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert re.search(message, error), error
    assert not Path("comparison").exists()
