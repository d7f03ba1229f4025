# SPDX-License-Identifier: Apache-2.0
"""Stroke lesions: rows, the rules for empty masks, the summary over scans and its table."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.metrics import (
    STROKE_AVERAGED,
    STROKE_KEYS,
    SURFACE_KEYS,
    VoxelReport,
    lesion_metrics,
    stroke_metrics,
    stroke_table,
    summarise_stroke,
    surface_metrics,
    write_reports,
)
from tests.recipe import arrays

REF, PRED = arrays("rsanet")["mask_ref"], arrays("rsanet")["mask_pred"]
NOTHING = np.zeros_like(REF)
SPACING = (1.0, 0.8, 2.0)
SUMMARY_KEYS = ["mean", "ci95", "std", "median", "iqr", "n", "left_out"]


def rows() -> list[dict[str, Any]]:
    pairs = [(PRED, REF), (REF, REF), (PRED, NOTHING), (NOTHING, REF)]
    return [{"case": f"sub-{index}", **stroke_metrics(*pair, SPACING)} for index, pair in enumerate(pairs)]


def test_row_is_put_together_from_voxels_surfaces_and_lesions() -> None:
    row = stroke_metrics(PRED, REF, SPACING, connectivity=6, assd="directed")
    report, lesions = VoxelReport.of(PRED, REF), lesion_metrics(PRED, REF, SPACING, 6)
    assert tuple(row) == STROKE_KEYS
    assert all(type(value) in (int, float) for value in row.values())
    expected = {
        **{key: getattr(report, key) for key in ("tp", "fp", "fn", "tn", "tpr", "precision")},
        **surface_metrics(PRED, REF, SPACING, "directed"),
        "dice": report.hard_dice,
        "lesion_f1": lesions["lf1"],
        "lesion_count_error": abs(lesions["n_pred"] - lesions["n_ref"]),
        "volume_error_ml": (report.fp - report.fn) * 1.6 / 1000,
        "absolute_volume_error_ml": abs(report.fp - report.fn) * 1.6 / 1000,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected)


def test_without_surfaces_all_else_is_the_same() -> None:
    row = stroke_metrics(PRED, REF, SPACING)
    assert stroke_metrics(PRED, REF, SPACING, surface=False) == {
        key: value for key, value in row.items() if key not in SURFACE_KEYS
    }


@pytest.mark.parametrize(
    ("prediction", "reference", "undefined", "dice"),
    [
        (NOTHING, NOTHING, {*SURFACE_KEYS, "tpr", "precision"}, 1.0),
        (NOTHING, REF, set(SURFACE_KEYS), 0.0),
        (PRED, NOTHING, {*SURFACE_KEYS, "tpr"}, 0.0),
        (PRED, REF, set(), 0.52),
    ],
)
def test_empty_masks(prediction: np.ndarray, reference: np.ndarray, undefined: set[str], dice: float) -> None:
    row = stroke_metrics(prediction, reference)
    assert {key for key, value in row.items() if math.isnan(value)} == undefined
    assert row["dice"] == pytest.approx(dice, abs=0.001)
    assert row["volume_error_ml"] == pytest.approx((int(prediction.sum()) - int(reference.sum())) / 1000)


def test_missing_everything_has_precision_0() -> None:
    assert stroke_metrics(NOTHING, REF)["precision"] == 0.0


def test_two_empty_masks_may_agree() -> None:
    row = stroke_metrics(NOTHING, NOTHING, both_empty_is_zero=True)
    assert [row[key] for key in SURFACE_KEYS] == [0.0, 0.0, 0.0]


def test_summary_of_scans() -> None:
    cases = rows()
    summary = summarise_stroke(cases, resamples=500, seed=3)
    assert summary["cases"] == 4 and tuple(summary["metrics"]) == STROKE_AVERAGED
    assert all(list(value) == SUMMARY_KEYS for value in summary["metrics"].values())
    left_out = {key: value["left_out"] for key, value in summary["metrics"].items() if value["left_out"]}
    assert left_out == {"hd": 2, "hd95": 2, "assd": 2, "tpr": 1}
    assert summary["metrics"]["hd"]["mean"] == pytest.approx((cases[0]["hd"] + 0.0) / 2)
    assert summary["metrics"]["dice"]["mean"] == pytest.approx((cases[0]["dice"] + 1.0) / 4)
    low, high = summary["metrics"]["dice"]["ci95"]
    assert 0.0 <= low < summary["metrics"]["dice"]["mean"] < high <= 1.0
    assert summary["bootstrap"] == {"resamples": 500, "seed": 3}


def test_micro_dice_pools_voxels_and_dice_averages_scans() -> None:
    """Scans of very different volume: one large and right, one small and missed."""
    large, small = np.ones((4, 4, 4)), np.zeros((4, 4, 4))
    small[0, 0, 0] = 1
    summary = summarise_stroke([stroke_metrics(large, large), stroke_metrics(np.zeros_like(small), small)])
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(0.5)
    assert summary["micro_dice"] == pytest.approx(128 / 129)
    assert summary["pooled_voxels"]["tpr"] == pytest.approx(64 / 65)


def test_summary_of_no_scan_is_refused() -> None:
    with pytest.raises(InputError, match="datalist"):
        summarise_stroke([])


def test_table_has_the_columns_of_the_paper() -> None:
    heading, _, line, *rest = stroke_table(summarise_stroke(rows())).splitlines()
    assert heading == "| scans | microDSC | DSC | HD mm | ASSD mm | TPR | precision |"
    metrics = summarise_stroke(rows())["metrics"]
    hd = metrics["hd"]
    assert f"{hd['mean']:.1f} ({hd['ci95'][0]:.1f}–{hd['ci95'][1]:.1f})" in line
    assert line.count("|") == heading.count("|")
    assert any("of 4: hd 2, hd95 2, assd 2, tpr 1." in text for text in rest)
    assert [text.split(" | ")[0] for text in rest if text.startswith("| ")][2:] == [f"| {key}" for key in metrics]


def test_table_without_surfaces_or_without_any_defined_value() -> None:
    summary = summarise_stroke([stroke_metrics(NOTHING, NOTHING, surface=False)])
    line = stroke_table(summary).splitlines()[2]
    assert line == "| 1 | 1.00 | 1.00 (1.00–1.00) | – | – | – | – |"


def test_negative_bounds_stay_readable() -> None:
    summary = summarise_stroke([stroke_metrics(NOTHING, np.ones_like(REF))])
    assert "-13.440 to -13.440" in stroke_table(summary)


def test_reports_are_three_files(tmp_path: Path) -> None:
    summary = summarise_stroke(rows())
    table, document, markdown = write_reports(rows(), summary, tmp_path / "new", stroke_table(summary))
    with table.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["case", *STROKE_KEYS]
    assert (read[0]["case"], read[3]["hd"], read[0]["tp"]) == ("sub-0", "nan", "795")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(document.read_text(), parse_constant=refuse) == summary
    assert markdown.read_text(encoding="utf-8") == stroke_table(summary)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "metrics_per_case.csv",
        "metrics_summary.json",
        "metrics_table.md",
    ]
