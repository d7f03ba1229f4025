# SPDX-License-Identifier: Apache-2.0
"""Scores of several folds together: means, spreads, tables and the picture."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from custom_nets.errors import InputError
from custom_nets.figures.cross_validation import cross_validation_figure, shown_metrics
from custom_nets.metrics.cross_validation import FoldScores, read_fold, summarise_folds, write_fold_reports
from custom_nets.metrics.reports import cases_csv

NAN = math.nan


def fold(*dice: float, start: int = 0) -> FoldScores:
    cases: list[dict[str, Any]] = [
        {"case": f"{start + place}", "dice": value, "n_ref": 2.0} for place, value in enumerate(dice)
    ]
    structures = [
        {"case": row["case"], "structure": 1.0, "name": name, "dice": row["dice"] * factor}
        for row in cases
        for name, factor in (("Ovary, left", 1.0), ("Sacrum", 0.5))
    ]
    return FoldScores(cases, structures)


def test_what_does_not_exist_is_left_out() -> None:
    """A fold of one case, one of a case without a value, and one without any value."""
    summary = summarise_folds([fold(0.5, NAN), fold(0.9, start=2), fold(NAN, math.inf, start=3)])
    one = summary["metrics"]["dice"]
    assert (summary["cases"], summary["cases_per_fold"]) == (5, [2, 1, 2])
    assert (one["n"], one["left_out"], one["fold_means"]) == (2, 3, [0.5, 0.9, None])
    assert one["mean"] == one["mean_of_folds"] == pytest.approx(0.7)
    assert one["std"] == one["std_of_folds"] == pytest.approx(np.std([0.5, 0.9], ddof=1))
    assert summary["structures"]["Sacrum"]["dice"]["fold_means"] == [0.25, 0.45, None]
    assert "structure" not in summary["structures"]["Sacrum"]


def test_the_mean_of_folds_is_not_that_of_cases() -> None:
    one = summarise_folds([fold(0.0, 0.0, 0.0), fold(1.0, start=3)])["metrics"]["dice"]
    assert (one["mean"], one["mean_of_folds"]) == (0.25, 0.5)


def test_a_case_of_two_folds_is_refused() -> None:
    with pytest.raises(InputError, match="1: is scored in two of 2 folds"):
        summarise_folds([fold(0.5, 0.6), fold(0.5, start=1)])


def test_tables_are_read_and_written(tmp_path: Path) -> None:
    for number, one in enumerate([fold(0.5, NAN), fold(0.9, start=2)]):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "metrics_per_case.csv").write_text(cases_csv(one.cases), encoding="utf-8")
        (tmp_path / f"{number}" / "metrics_per_structure.csv").write_text(cases_csv(one.structures), encoding="utf-8")
    folds = [read_fold(tmp_path / f"{number}") for number in range(2)]
    summary = write_fold_reports(folds, tmp_path / "all")
    assert summary == json.loads((tmp_path / "all" / "metrics_summary.json").read_text(encoding="utf-8"))
    with (tmp_path / "all" / "metrics_per_case.csv").open(encoding="utf-8") as file:
        assert [(row["case"], row["fold"]) for row in csv.DictReader(file)] == [("0", "1"), ("1", "1"), ("2", "2")]
    with (tmp_path / "all" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["structure"], row["metric"]) for row in rows] == [
        *[("", "dice"), ("", "n_ref")],
        *[("Ovary, left", "dice"), ("Sacrum", "dice")],
    ]
    assert (rows[0]["fold1"], rows[0]["fold2"], rows[0]["left_out"]) == ("0.5", "0.9", "1")


@pytest.mark.parametrize(
    ("text", "told"), [(None, "cannot be read"), ("case,dice\n", "no row"), ("case,dice\na,x\n", "x")]
)
def test_a_broken_table_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "metrics_per_case.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"metrics_per_case\.csv: .*{told}"):
        read_fold(tmp_path)


def test_scores_are_shown_and_counts_are_not() -> None:
    assert shown_metrics(["tp", "dice", "n_ref", "volume_ref_ml", "hd95"]) == ["dice", "hd95"]
    assert shown_metrics(["dice_et", "dice_tc", "mean_dice", "hd95_et"]) == [
        "mean_dice",
        "dice_et",
        "dice_tc",
        "hd95_et",
    ]
    assert len(shown_metrics([f"dice_{number}" for number in range(20)])) == 9
    assert shown_metrics(["a", "b"]) == ["a", "b"]


def test_the_picture_shows_cases_and_copes_without_values(tmp_path: Path) -> None:
    drawn = imread(cross_validation_figure([fold(0.5, 0.6).cases, fold(0.9, start=2).cases], tmp_path / "a.png", "x"))
    blue = (drawn[..., 2].astype(int) - drawn[..., 0]) > 60
    assert blue.sum() > 50, "points of the cases"
    empty = imread(cross_validation_figure([fold(NAN).cases, fold(math.inf, start=2).cases], tmp_path / "b.png"))
    assert not ((empty[..., 2].astype(int) - empty[..., 0]) > 60).any()
