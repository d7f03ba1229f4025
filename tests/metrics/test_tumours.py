# SPDX-License-Identifier: Apache-2.0
"""Brain tumours: golden numbers of one region, a case against plain masks, empty regions, summary, tables, picture."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from custom_nets.errors import InputError
from custom_nets.metrics import (
    LESION_WISE_SCORES,
    TUMOUR_AVERAGED,
    TUMOUR_KEYS,
    lesion_wise_metrics,
    region_rows,
    summarise_tumours,
    surface_metrics,
    tumour_metrics,
    tumour_table,
)
from custom_nets.metrics.comparison import compare_models, read_metric_table
from custom_nets.metrics.region_figure import region_figure
from custom_nets.metrics.tumour_reports import write_tumour_reports
from tests.recipe import arrays, document

GOLDEN = document("s2ca_net")["misc"]["metric"]["values"]
PRED, REF = arrays("s2ca_net")["metric.pred"], arrays("s2ca_net")["metric.gt"]
SPACING = (1.0, 0.8, 2.0)
REGION_VALUES = {"et": (4,), "tc": (1, 4), "wt": (1, 2, 4)}
WITHOUT_LESIONS = tuple(key for key in TUMOUR_KEYS if "lesion" not in key)


def mask_pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.zeros_like(REF)
    return {
        "normal": (PRED, REF),
        "shifted": (np.roll(PRED, 2, axis=1), PRED),
        "identical": (PRED, PRED),
        "empty_gt": (PRED, nothing),
        "empty_pred": (nothing, REF),
        "both_empty": (nothing, nothing),
    }[name]


def label_map(seed: int) -> np.ndarray:
    """Three nested blocks whose places vary a little."""
    rng = np.random.default_rng(seed)
    label = np.zeros((14, 16, 15), dtype=np.uint8)
    for value, size in ((2, 9), (1, 6), (4, 3)):
        low = (10 - size) // 2 + rng.integers(0, 3, 3)
        label[tuple(slice(start, start + size) for start in low)] = value
    return label


def rows() -> list[dict[str, Any]]:
    """The second case has no enhancing tumour in the reference, the third none in either."""
    no_enhancement = np.where(label_map(3) == 4, 1, label_map(3))
    pairs = [(label_map(0), label_map(1)), (label_map(2), no_enhancement), (no_enhancement, no_enhancement)]
    return [
        {"case": f"case-{index}", **tumour_metrics(*pair, SPACING, lesion_wise=True)}
        for index, pair in enumerate(pairs)
    ]


@pytest.mark.parametrize("name", list(GOLDEN))
@pytest.mark.parametrize("empty_rule", ["all", "et"])
def test_golden_region(name: str, empty_rule: str) -> None:
    """A mask of the value 4 is all three regions."""
    prediction, reference = mask_pair(name)
    golden = {key: float(value) for key, value in GOLDEN[name].items()}
    row = tumour_metrics(4 * prediction, 4 * reference, empty_rule=empty_rule)
    ruled = {"dice": golden["rule_dice"], "hd95": golden["rule_hd95"]}
    raw = {"dice": golden["dice"], "hd95": golden["hd95"]}
    for region in ("et", "tc", "wt"):
        found = {key: row[f"{key}_{region}"] for key in raw}
        # the golden numbers were computed in float32
        assert found == pytest.approx(ruled if region == "et" or empty_rule == "all" else raw, rel=1e-6, nan_ok=True)
        assert row[f"volume_ref_ml_{region}"] == pytest.approx(golden["gt_voxels"] / 1000)
        assert row[f"volume_pred_ml_{region}"] == pytest.approx(golden["pred_voxels"] / 1000)


def test_row_of_each_region_is_that_of_its_mask() -> None:
    prediction, reference = label_map(0), label_map(1)
    row = tumour_metrics(prediction.astype(np.float32), reference, SPACING, lesion_wise=True, min_volume=1.0)
    assert tuple(row) == TUMOUR_KEYS
    for region, values in REGION_VALUES.items():
        predicted, true = np.isin(prediction, values), np.isin(reference, values)
        tp, n_pred, n_ref = (int(mask.sum()) for mask in (predicted & true, predicted, true))
        expected = {
            "dice": 2 * tp / (n_pred + n_ref),
            "hd95": surface_metrics(predicted, true, SPACING)["hd95"],
            "sensitivity": tp / n_ref,
            "specificity": int((~predicted & ~true).sum()) / int((~true).sum()),
            "volume_ref_ml": n_ref * 1.6e-3,
            "volume_pred_ml": n_pred * 1.6e-3,
            **lesion_wise_metrics(predicted, true, SPACING, min_volume=1.0),
        }
        assert 0 < expected["dice"] < 1
        assert {key: row[f"{key}_{region}"] for key in expected} == pytest.approx(expected)
    for measure in ("dice", "hd95", *LESION_WISE_SCORES):
        assert row[f"mean_{measure}"] == pytest.approx(
            np.mean([row[f"{measure}_{region}"] for region in REGION_VALUES])
        )


def test_empty_regions_without_a_rule_have_no_case_mean() -> None:
    prediction, reference = label_map(0), np.zeros_like(label_map(0))
    ruled, as_published = (tumour_metrics(prediction, reference, empty_rule=rule) for rule in ("all", "et"))
    assert (ruled["mean_dice"], ruled["mean_hd95"]) == pytest.approx((0.0, 373.13))
    assert math.isnan(as_published["mean_dice"]) and math.isnan(as_published["mean_hd95"])


def test_rates_of_empty_and_full_regions() -> None:
    nothing, everything = np.zeros((3, 4, 5), int), np.full((3, 4, 5), 4)
    row = tumour_metrics(everything, nothing)
    assert math.isnan(row["sensitivity_et"]) and row["specificity_et"] == 0.0
    row = tumour_metrics(nothing, everything)
    assert row["sensitivity_et"] == 0.0 and math.isnan(row["specificity_et"])


def test_cheap_without_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custom_nets.metrics.tumours.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    row = tumour_metrics(label_map(0), label_map(1), surface=False)
    assert tuple(row) == tuple(key for key in WITHOUT_LESIONS if "hd95" not in key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.full((14, 16, 15), 3)}, r"prediction holds 3.*0, 1, 2, 4.*'brats'"),
        ({"reference": np.full((14, 16, 15), 0.5)}, r"reference holds 0\.5"),
        ({"prediction": np.full((14, 16, 15), math.nan)}, "prediction holds nan"),
        ({"prediction": np.zeros((14, 16, 14))}, "must be equal"),
        ({"empty_rule": "none"}, "empty_rule is 'none'; choose one of all, et"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tumour_metrics(**{"prediction": label_map(0), "reference": label_map(1), **change})


def test_summary_over_cases() -> None:
    cases = rows()
    summary = summarise_tumours(cases, resamples=300, seed=2)
    assert summary["cases"] == 3 and tuple(summary["metrics"]) == TUMOUR_AVERAGED
    assert summary["bootstrap"] == {"resamples": 300, "seed": 2}
    left_out = {key: value["left_out"] for key, value in summary["metrics"].items() if value["left_out"]}
    assert left_out == {"sensitivity_et": 2}
    assert summary["metrics"]["dice_et"]["mean"] == pytest.approx((cases[0]["dice_et"] + 0.0 + 1.0) / 3)
    assert summary["metrics"]["hd95_et"]["mean"] == pytest.approx((cases[0]["hd95_et"] + 373.13 + 0.0) / 3)
    assert summary["metrics"]["mean_dice"]["mean"] == pytest.approx(
        np.mean([summary["metrics"][f"dice_{region}"]["mean"] for region in REGION_VALUES])
    )
    with pytest.raises(InputError, match="datalist"):
        summarise_tumours([])
    with pytest.raises(InputError, match="empty_rule is 'wt'"):
        summarise_tumours(cases, empty_rule="wt")


def test_table_has_a_line_for_every_region() -> None:
    summary = summarise_tumours(rows())
    text = tumour_table(summary)
    heading, _, *lines = text.splitlines()
    assert heading == (
        "| region | Dice | HD95 mm | sensitivity | specificity | lesion-wise Dice | lesion-wise HD95 mm |"
    )
    assert [line.split(" | ")[0] for line in lines[:4]] == ["| ET", "| TC", "| WT", "| mean of the regions"]
    hd95 = summary["metrics"]["hd95_tc"]
    assert f"| {hd95['mean']:.2f} ({hd95['ci95'][0]:.2f}–{hd95['ci95'][1]:.2f}) |" in lines[1]
    assert lines[3].count("–") == 4 + 2  # four intervals, and no mean of the rates
    assert "one empty Dice 0 and HD95 373.13 mm. Scans left out of a mean" in text
    assert "of 3: sensitivity_et 2." in text
    assert "TC and WT have no Dice without a reference" in tumour_table({**summary, "empty_rule": "et"})


def test_table_of_what_was_not_computed() -> None:
    row = {"case": "one", **tumour_metrics(label_map(0), label_map(1), surface=False)}
    assert tumour_table(summarise_tumours([row])).startswith("| region | Dice | sensitivity | specificity |\n")


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    cases = rows()
    written = write_tumour_reports(cases, tmp_path / "new", "et", resamples=50, seed=1, dilations=3)
    assert [path.name for path in written] == [
        *("metrics_per_case.csv", "metrics_summary.json", "metrics_table.md"),
        *("metrics_per_structure.csv", "dice_by_region.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)
    with written[0].open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["case", *TUMOUR_KEYS] and read[1]["sensitivity_et"] == "nan"
    summary = {**summarise_tumours(cases, "et", 50, 1), "dilations": 3}
    assert json.loads(written[1].read_text()) == summary
    assert written[2].read_text(encoding="utf-8") == tumour_table(summary)
    assert Image.open(written[4]).width > 100


def test_regions_are_compared_between_models(tmp_path: Path) -> None:
    for name, worse in (("one", 0.0), ("other", 0.1)):
        cases = [{**row, "dice_tc": row["dice_tc"] - worse} for row in rows()]
        write_tumour_reports(cases, tmp_path / name, resamples=10)
    table = read_metric_table(tmp_path / "one", "dice")
    assert table.structures == ("ET", "TC", "WT")
    assert table.values[:, 1].tolist() == pytest.approx([row["dice_tc"] for row in rows()])
    found = compare_models({name: read_metric_table(tmp_path / name, "dice") for name in ("one", "other")})
    assert found.means["one"] - found.means["other"] == pytest.approx([0.0, 0.1, 0.0])


def test_rows_of_regions_hold_what_was_computed() -> None:
    row = {"case": "one", **tumour_metrics(label_map(0), label_map(1), surface=False)}
    (first, *_) = region_rows([row])
    assert list(first) == [
        *("case", "name", "dice", "sensitivity", "specificity"),
        *("volume_ref_ml", "volume_pred_ml"),
    ]


def test_picture_of_regions_without_a_value(tmp_path: Path) -> None:
    values = {"ET": np.array([math.nan, math.nan]), "TC": np.array([0.5, math.nan]), "WT": np.array([0.9, 1.0])}
    first, second = (region_figure(values, tmp_path / f"{number}.png").read_bytes() for number in range(2))
    assert first == second
