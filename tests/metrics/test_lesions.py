# SPDX-License-Identifier: Apache-2.0
"""Lesion metrics: golden numbers, the rules for empty masks, averages over cases and the written tables."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.metrics import (
    LESION_COUNTS,
    LESION_VOLUME_CLASSES,
    ROW_KEYS,
    isbi2015_score,
    lesion_metrics,
    summarise_ms,
    volume_correlation,
    write_reports,
)
from tests.recipe import arrays, document

REF, PRED = arrays("rsanet")["mask_ref"], arrays("rsanet")["mask_pred"]
NOTHING = np.zeros_like(REF)
GOLDEN = document("rsanet")["reference_not_official"]


@pytest.mark.parametrize(
    ("golden", "prediction", "reference", "connectivity"),
    [
        ("metrics_conn6", PRED, REF, 6),
        ("metrics_conn18", PRED, REF, 18),
        ("metrics_conn26", PRED, REF, 26),
        ("metrics_both_empty", NOTHING, NOTHING, 26),
        ("metrics_pred_empty", NOTHING, REF, 26),
        ("metrics_ref_empty", PRED, NOTHING, 26),
    ],
)
def test_golden_metrics(golden: str, prediction: np.ndarray, reference: np.ndarray, connectivity: int) -> None:
    row = lesion_metrics(prediction, reference, connectivity=connectivity)
    for key, value in GOLDEN[golden].items():
        assert row[key] == pytest.approx(float(value), abs=1e-12), key


def test_row_has_all_keys_in_order_and_plain_numbers() -> None:
    row = lesion_metrics(PRED, REF)
    assert tuple(row) == ROW_KEYS
    assert all(type(value) in (int, float) for value in row.values())


def test_spacing_gives_the_volumes_and_changes_no_rate() -> None:
    plain, large = lesion_metrics(PRED, REF), lesion_metrics(PRED, REF, spacing=(1.0, 2.0, 3.0))
    assert large["volume_ref_ml"] == pytest.approx(6 * plain["volume_ref_ml"]) == pytest.approx(6 * 1.488)
    assert large["volume_pred_ml"] == pytest.approx(6 * 1.574)
    assert all(large[key] == plain[key] for key in ("dice", "lf1", "volume_difference"))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 3.0)])
def test_volume_classes_partition_the_lesions(spacing: tuple[float, float, float]) -> None:
    row = lesion_metrics(PRED, REF, spacing)
    for count in LESION_COUNTS:
        assert sum(row[f"{count}_{name}"] for name in LESION_VOLUME_CLASSES) == row[count]


@pytest.mark.parametrize(
    ("voxels", "name"), [(1, "small"), (9, "small"), (10, "medium"), (99, "medium"), (100, "large")]
)
def test_lesion_falls_into_its_volume_class(voxels: int, name: str) -> None:
    mask = np.zeros((1, 1, 120))
    mask[..., :voxels] = 1
    row = lesion_metrics(mask, mask, spacing=(1.0, 1.0, np.float32(0.9999999)))
    assert [row[f"n_ref_detected_{other}"] for other in LESION_VOLUME_CLASSES] == [
        int(other == name) for other in LESION_VOLUME_CLASSES
    ]


def test_exchanging_the_masks_exchanges_sensitivity_and_precision() -> None:
    there, back = lesion_metrics(PRED, REF), lesion_metrics(REF, PRED)
    assert (there["ltpr"], there["tpr"], there["lf1"]) == (back["lppv"], back["ppv"], back["lf1"])


def test_place_in_the_volume_and_label_value_do_not_matter() -> None:
    padded = [np.pad(mask * value, ((3, 9), (0, 5), (7, 1))) for mask, value in ((PRED, 7), (REF, 2))]
    assert lesion_metrics(*padded) == lesion_metrics(PRED, REF)


def test_masks_on_two_grids_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(24, 28, 20\).*\(24, 28, 19\)"):
        lesion_metrics(PRED, REF[..., 1:])


def cases() -> list[dict[str, float]]:
    return [lesion_metrics(PRED, REF), lesion_metrics(REF, REF), lesion_metrics(PRED, NOTHING)]


def test_isbi_score_of_perfect_cases_is_one() -> None:
    half = REF * (np.arange(REF.shape[0]) < 12)[:, None, None]
    assert isbi2015_score([lesion_metrics(REF, REF), lesion_metrics(half, half)]) == pytest.approx([1.0, 1.0])


def test_isbi_score_is_the_weighted_sum() -> None:
    rows = cases()
    correlation = np.corrcoef([row["volume_ref_ml"] for row in rows], [row["volume_pred_ml"] for row in rows])[0, 1]
    assert volume_correlation(rows) == pytest.approx(correlation)
    weights = {"dice": 1 / 8, "ppv": 1 / 8, "lfpr": -1 / 4, "ltpr": 1 / 4}
    expected = [sum(weights[key] * row[key] for key in weights) + (1 + correlation) / 4 for row in rows]
    assert isbi2015_score(rows) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2])
def test_isbi_score_does_not_exist_without_a_correlation(count: int) -> None:
    rows = [lesion_metrics(PRED, REF)] * count
    assert np.isnan(isbi2015_score(rows)).all()
    assert summarise_ms(rows)["metrics"]["isbi2015_score"] == {"mean": None, "std": None, "n": 0, "left_out": count}


def test_summary_leaves_infinity_out_and_counts_it() -> None:
    rows = cases()
    assert math.isinf(rows[2]["volume_difference"])
    summary = summarise_ms(rows)
    finite = [row["volume_difference"] for row in rows[:2]]
    assert summary["cases"] == 3
    assert summary["metrics"]["volume_difference"] == {
        "mean": pytest.approx(np.mean(finite)),
        "std": pytest.approx(np.std(finite, ddof=1)),
        "n": 2,
        "left_out": 1,
    }
    assert summary["metrics"]["dice"]["n"] == 3


def test_summary_pools_the_lesions_of_a_class_over_cases() -> None:
    rows = cases()
    medium = summarise_ms(rows)["lesion_volume_classes"]["medium"]
    detected, total = (sum(row[f"{key}_medium"] for row in rows) for key in ("n_ref_detected", "n_ref"))
    true, predicted = (sum(row[f"{key}_medium"] for row in rows) for key in ("n_pred_true", "n_pred"))
    assert (medium["from_mm3"], medium["below_mm3"]) == (10.0, 100.0)
    assert medium["ltpr"] == pytest.approx(detected / total)
    assert medium["lf1"] == pytest.approx(2 / (total / detected + predicted / true))


def test_class_without_lesions_has_no_rate() -> None:
    empty = summarise_ms([lesion_metrics(NOTHING, NOTHING)])["lesion_volume_classes"]["large"]
    assert (empty["ltpr"], empty["lppv"], empty["lf1"], empty["below_mm3"]) == (None, None, None, None)


def test_summary_of_no_case_is_refused() -> None:
    with pytest.raises(InputError, match="datalist"):
        summarise_ms([])


def test_reports_hold_every_case_and_standard_json(tmp_path: Path) -> None:
    rows = [{"case": f"patient{index}", **row} for index, row in enumerate(cases())]
    table, summary = write_reports(rows, summarise_ms(rows), tmp_path / "new")
    with table.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["case"] for row in read] == ["patient0", "patient1", "patient2"]
    assert (read[0]["tp"], read[2]["volume_difference"]) == ("795", "inf")
    assert float(read[0]["lf1"]) == pytest.approx(GOLDEN["metrics_conn26"]["lf1"])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(summary.read_text(), parse_constant=refuse) == summarise_ms(rows)
