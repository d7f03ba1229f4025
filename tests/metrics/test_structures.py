# SPDX-License-Identifier: Apache-2.0
"""Many structures: golden numbers of one mask, a case against plain masks, rules for absent ones, means, files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from custom_nets.errors import InputError
from custom_nets.metrics import (
    STRUCTURE_AVERAGED,
    STRUCTURE_KEYS,
    SURFACE_KEYS,
    case_means,
    non_zero_mean,
    structure_means,
    structure_metrics,
    summarise_structures,
    surface_metrics,
    volume_overlap,
)
from custom_nets.metrics.structure_reports import write_structure_reports
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("s2anet")["metrics"]
#: Column of the goldens -> ours.
COLUMNS = {**{key: key for key in ("sensitivity", "specificity", "dice", *SURFACE_KEYS)}, "ravd": "rvd"}
LABELS = {0: "background", 1: "femur, left", 2: "femur, right", 3: "sacrum", 4: "bladder"}
SPACING = (3.0, 0.8, 1.0)
SHAPE = (7, 12, 11)


def random_pair() -> tuple[np.ndarray, np.ndarray]:
    true = draw("metric_gt", (6, 9, 8)) > 0.6
    return true ^ (draw("metric_flip", (6, 9, 8)) > 1.2), true


def blob_pair() -> tuple[np.ndarray, np.ndarray]:
    smooth = gaussian_filter(draw("metric_blob", (8, 16, 14)), 2)
    noisy = smooth + 0.2 * smooth.std() * draw("metric_blobnoise", smooth.shape)
    return noisy > np.quantile(noisy, 0.82), smooth > np.quantile(smooth, 0.8)


def mask_pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = blob_pair() if name == "blob" else random_pair()
    nothing = np.zeros_like(true)
    kinds = {"empty_pred": (nothing, true), "identical": (true, true), "full_pred": (~nothing, true)}
    return kinds.get(name, (predicted, true))


def label_maps(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four structures that overlap in part; in the reference the fourth is absent, in the prediction the third."""
    rng = np.random.default_rng(seed)
    score = gaussian_filter(rng.standard_normal((5, *SHAPE)), (0, 1, 1, 1))
    other = score + 0.15 * gaussian_filter(rng.standard_normal((5, *SHAPE)), (0, 1, 1, 1))
    prediction, reference = other.argmax(0), score.argmax(0)
    prediction[prediction == 3], reference[reference == 4] = 0, 0
    return prediction, reference


@pytest.mark.parametrize("name", ["random", "blob", "empty_pred", "identical", "full_pred"])
def test_golden_mask(name: str) -> None:
    pair = mask_pair(name)
    (row,) = structure_metrics(*pair, {1: "one"})
    golden = {COLUMNS[key]: float(value) for key, value in GOLDEN[name].items()}
    assert {key: row[key] for key in golden} == pytest.approx(golden, rel=1e-9, nan_ok=True)
    assert (row["iou"], row["rvd_absolute"]) == pytest.approx((row["dice"] / (2 - row["dice"]), abs(row["rvd"])))
    if f"{name}_counts" in GOLDEN:
        counts = [int(mask.sum()) for mask in (pair[1], pair[0], pair[0] & pair[1])]
        assert counts == [GOLDEN[f"{name}_counts"][key] for key in ("gt", "pred", "both")]
        volumes = [row["volume_ref_ml"], row["volume_pred_ml"], row["volume_pred_ml"] - row["false_positive_ml"]]
        assert volumes == pytest.approx([count / 1000 for count in counts])


def test_row_of_each_structure_is_that_of_its_masks() -> None:
    prediction, reference = label_maps()
    rows = structure_metrics(prediction.astype(np.float32), reference.astype(np.uint8), LABELS, SPACING)
    assert [(row["structure"], row["name"]) for row in rows] == [(k, LABELS[k]) for k in (1, 2, 3, 4)]
    for row in rows[:2]:
        predicted, true = prediction == row["structure"], reference == row["structure"]
        assert tuple(row) == STRUCTURE_KEYS and 0 < row["dice"] < 1
        both, n_pred, n_ref = int((predicted & true).sum()), int(predicted.sum()), int(true.sum())
        expected = {
            "dice": 2 * both / (n_pred + n_ref),
            "iou": both / int((predicted | true).sum()),
            "sensitivity": both / n_ref,
            "specificity": int((~predicted & ~true).sum()) / int((~true).sum()),
            "rvd": (n_pred - n_ref) / n_ref,
            "rvd_absolute": abs(n_pred - n_ref) / n_ref,
            "volume_ref_ml": n_ref * 2.4e-3,
            "volume_pred_ml": n_pred * 2.4e-3,
            "false_positive_ml": (n_pred - both) * 2.4e-3,
            **surface_metrics(predicted, true, SPACING, assd="pooled", hd95="joined"),
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-6)


def test_missed_and_hallucinated_structure() -> None:
    missed, hallucinated = structure_metrics(*label_maps(), LABELS, SPACING)[2:]
    assert {key: missed[key] for key in ("dice", "iou", "sensitivity", "specificity", "rvd", "rvd_absolute")} == {
        **dict.fromkeys(("dice", "iou", "sensitivity"), 0.0),
        **{"specificity": 1.0, "rvd": -1.0, "rvd_absolute": 1.0},
    }
    assert all(math.isnan(missed[key]) for key in SURFACE_KEYS) and missed["volume_pred_ml"] == 0.0
    assert all(math.isnan(hallucinated[key]) for key in STRUCTURE_AVERAGED)
    assert hallucinated["volume_ref_ml"] == 0.0 < hallucinated["false_positive_ml"] == hallucinated["volume_pred_ml"]


def test_hallucinated_structure_may_count() -> None:
    prediction, reference = label_maps()
    plain, counted = (structure_metrics(prediction, reference, LABELS, count_hallucinated=on) for on in (False, True))
    assert (counted[3]["dice"], counted[3]["iou"]) == (0.0, 0.0) and math.isnan(counted[3]["sensitivity"])
    assert str(counted[:3]) == str(plain[:3])  # NaN is not equal to itself
    nowhere = structure_metrics(reference, reference, LABELS, count_hallucinated=True)[3]
    assert math.isnan(nowhere["dice"]) and nowhere["false_positive_ml"] == 0.0


def test_distances_in_voxels_but_volumes_in_ml() -> None:
    maps = label_maps()
    voxels = structure_metrics(*maps, LABELS, SPACING, distance_unit="voxel")[0]
    plain, mm = structure_metrics(*maps, LABELS)[0], structure_metrics(*maps, LABELS, SPACING)[0]
    assert [voxels[key] for key in SURFACE_KEYS] == [plain[key] for key in SURFACE_KEYS]
    assert voxels["hd"] != mm["hd"] and voxels["volume_ref_ml"] == mm["volume_ref_ml"] != plain["volume_ref_ml"]


def test_cheap_without_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custom_nets.metrics.structures.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    rows = structure_metrics(*label_maps(), LABELS, surface=False)
    assert tuple(rows[0]) == tuple(key for key in STRUCTURE_KEYS if key not in SURFACE_KEYS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.full(SHAPE, 7)}, r"prediction holds 7, which.*0 … 4"),
        ({"reference": np.full(SHAPE, -1)}, "reference holds -1"),
        ({"prediction": np.full(SHAPE, 0.5)}, "prediction holds 0.5.*argmax"),
        ({"prediction": np.full(SHAPE, math.nan)}, "prediction holds nan"),
        ({"labels": {1: "a", 4: "b"}}, "holds 2, which"),
        ({"prediction": np.zeros((1, *SHAPE), int)}, "without channels"),
        ({"prediction": np.zeros((7, 12, 10), int)}, "must be equal"),
        ({"distance_unit": "cm"}, "distance_unit is 'cm'; choose one of mm, voxel"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    prediction, reference = label_maps()
    with pytest.raises(InputError, match=message):
        structure_metrics(**{"prediction": prediction, "reference": reference, "labels": LABELS, **change})


def golden_rows() -> list[dict[str, Any]]:
    table = np.abs(draw("agg", (3, 4, 7)))
    table[..., :3] /= 1 + table[..., :3]
    table[..., 6] = 0.2 * draw("agg_rvd", (3, 4))
    table[[0, 2], 1] = math.nan
    table[1, 3, 3:6] = math.nan
    return [
        {
            **{"case": f"c{case}", "structure": index + 1, "name": f"s{index}"},
            **dict(zip(COLUMNS.values(), values, strict=True)),
            **{"iou": values[2] / (2 - values[2]), "rvd_absolute": abs(values[6])},
            **{"volume_ref_ml": 0.0 if math.isnan(values[2]) else 2.0, "volume_pred_ml": 1.0, "false_positive_ml": 1.0},
        }
        for case, structures in enumerate(table)
        for index, values in enumerate(structures)
    ]


def test_golden_aggregation() -> None:
    golden, rows = GOLDEN["aggregation"], golden_rows()
    found = summarise_structures(rows)
    expected = {("iou" if key == "IoU" else COLUMNS[key]): value for key, value in golden["nanmean_all"].items()}
    assert {key: found["metrics"][key]["mean"] for key in expected} == pytest.approx(expected, rel=1e-9)
    keys = ("iou", "sensitivity", "specificity", "dice", "assd", "rvd")
    values = np.array([[row[key] for key in keys] for row in rows]).reshape(3, -1)
    for rule, zero in (("per_class_nan_as_zero", True), ("per_class_nanmean", False)):
        assert structure_means(values, zero).reshape(4, -1) == pytest.approx(np.array(golden[rule]), rel=1e-9)
    of_structures = [[found["structures"][f"s{index}"][key]["mean"] for key in keys] for index in range(4)]
    assert np.array(of_structures) == pytest.approx(np.array(golden["per_class_nanmean"]), rel=1e-9)


def test_summary_counts_and_weighs() -> None:
    found = summarise_structures(golden_rows())
    assert found["cases"] == 3
    assert found["pairs"] == {"present": 10, "missed": 0, "hallucinated": 2, "hallucinated_ml": 2.0}
    assert (found["metrics"]["dice"]["n"], found["metrics"]["dice"]["left_out"]) == (10, 2)
    structure = found["structures"]["s1"]
    assert (structure["label"], structure["present"], structure["dice"]["n"], structure["dice"]["std"]) == (2, 1, 1, 0)
    means = [one["dice"]["mean"] for one in found["structures"].values()]
    assert found["over_structures"]["dice"] == {
        "mean": pytest.approx(np.mean(means)),
        "std": pytest.approx(np.std(means, ddof=1)),
        **{"n": 4, "left_out": 0},
    }
    assert abs(found["metrics"]["rvd"]["mean"]) < found["metrics"]["rvd_absolute"]["mean"]


def test_means_of_a_case_leave_out_what_does_not_exist() -> None:
    rows = golden_rows()
    first = case_means(rows)[0]
    own = [row for row in rows if row["case"] == "c0"]
    assert (first["case"], first["present"], first["hallucinated"]) == ("c0", 3, 1)
    assert first["dice"] == pytest.approx(np.nanmean([row["dice"] for row in own]))
    absent = [{**row, "dice": math.nan} for row in own]
    assert math.isnan(case_means(absent)[0]["dice"])
    assert summarise_structures(absent)["metrics"]["dice"]["mean"] is None


def test_golden_volume_overlap() -> None:
    golden = GOLDEN["volume_evaluation"]
    label = draw("eval_label", (6, 4, 8, 8))[:5].argmax(0)
    prediction = np.where(draw("eval_keep", (4, 8, 8)) > -0.3, label, draw("eval_pred", (6, 4, 8, 8)).argmax(0))
    found = volume_overlap(prediction, label, 6)
    assert found.iou.tolist() == pytest.approx(golden["iou"], rel=1e-5)
    assert found.dice.tolist() == pytest.approx(golden["dice"], rel=1e-5)
    assert (found.mean_iou, found.mean_dice) == pytest.approx((golden["mIoU"], golden["mDice"]), rel=1e-5)


def test_golden_non_zero_mean() -> None:
    golden = GOLDEN["non_zero_mean"]
    assert non_zero_mean(golden["input"]) == pytest.approx([float(v) for v in golden["output"]], nan_ok=True)


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    rows = [
        {"case": f"patient {seed}", **row}
        for seed in (0, 1)
        for row in structure_metrics(*label_maps(seed), LABELS, SPACING)
    ]
    files = write_structure_reports(rows, tmp_path / "new", distance_unit="mm")
    assert [file.name for file in files] == [
        *("metrics_per_structure.csv", "metrics_per_case.csv", "metrics_summary.json", "structures.png")
    ]
    assert files[3].read_bytes().startswith(b"\x89PNG")
    with files[0].open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(row["case"], row["structure"], row["name"]) for row in read] == [
        (f"patient {seed}", str(value), LABELS[value]) for seed in (0, 1) for value in (1, 2, 3, 4)
    ]
    for line, row in zip(read, rows, strict=True):
        assert float(line["hd95"]) == pytest.approx(row["hd95"], nan_ok=True)
    with files[1].open(newline="", encoding="utf-8") as file:
        assert [float(row["dice"]) for row in csv.DictReader(file)] == pytest.approx(
            [row["dice"] for row in case_means(rows)]
        )
    assert json.loads(files[2].read_text()) == {**summarise_structures(rows), "distance_unit": "mm"}


def test_no_row_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case to summarise"):
        write_structure_reports([], tmp_path)
    assert not list(tmp_path.iterdir())
