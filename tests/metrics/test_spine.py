# SPDX-License-Identifier: Apache-2.0
"""Spines: the published numbers of one case, rules for absent structures, means over cases, files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.metrics import (
    label_groups,
    overlap_counts,
    overlap_scores,
    spine_metrics,
    spine_table,
    summarise_spine,
    surface_scores,
    validation_dice,
    validation_iou,
)
from custom_nets.metrics.label_maps import joint_histogram
from custom_nets.metrics.spine_reports import write_spine_reports
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("spineparsenet")["metrics"]
GRAPH = mrspineseg()
ASSD = {"pooled": "assd_each_pooled_medpy0.5", "directed": "assd_each_mean_of_means_medpy0.4"}


def labels(name: str) -> np.ndarray:
    small = np.clip(np.rint(5 * draw(name, (3, 5, 7)) + 9.5), 0, 19).astype(np.int32)
    return enlarged(small)


def enlarged(small: np.ndarray) -> np.ndarray:
    return small.repeat(2, axis=0).repeat(3, axis=1).repeat(2, axis=2)


def golden_pair() -> tuple[np.ndarray, np.ndarray]:
    reference = labels("metric_target")
    flipped = enlarged(draw("metric_flip", (3, 5, 7))) > 0.8
    prediction = np.roll(np.where(flipped, labels("metric_pred"), reference), 1, axis=1)
    for values, erased in ((reference, (4, 13)), (prediction, (6, 13))):
        values[np.isin(values, erased)] = 0
    return prediction, reference


def golden_scores(**options: Any) -> Any:
    return spine_metrics(*golden_pair(), GRAPH, GOLDEN["spacing"], **options)


def undefined(values: np.ndarray) -> list[float]:
    return np.where(np.isnan(values), -1.0, values).tolist()


def test_the_pair_is_that_of_the_goldens() -> None:
    sums = [int((own.ravel() * np.arange(own.size)).sum()) for own in golden_pair()]
    assert sums == [GOLDEN["pred_checksum"], GOLDEN["target_checksum"]]
    assert golden_pair()[0].shape == tuple(GOLDEN["shape"])


def test_golden_overlap_of_each_label() -> None:
    scores = overlap_scores(joint_histogram(*golden_pair(), 20))
    for key, golden in {"dice": "dsc", "precision": "precision", "recall": "recall"}.items():
        assert undefined(scores[key]) == pytest.approx(GOLDEN[f"{golden}_each"], abs=1e-6)
    assert undefined(scores["dice"]) == pytest.approx(GOLDEN["dice_each_medpy"], abs=1e-6)


@pytest.mark.parametrize("assd", list(ASSD))
def test_golden_surface_distance_of_each_label(assd: str) -> None:
    prediction, reference = golden_pair()
    scores = surface_scores(prediction + 1, reference + 1, 21, GOLDEN["spacing"], assd)  # 0 would be left out
    assert undefined(scores[1:]) == pytest.approx(GOLDEN[ASSD[assd]], abs=1e-6)


@pytest.mark.parametrize("assd", list(ASSD))
def test_golden_means_of_a_case(assd: str) -> None:
    case = golden_scores(assd=assd).case
    groups = {"all": "all19", "vertebrae": "vertebrae", "discs": "discs"}
    expected = {
        f"{measure}_{group}": GOLDEN[f"{golden}_{own}"]
        for measure, golden in (("dice", "dsc"), ("precision", "precision"), ("recall", "recall"))
        for group, own in groups.items()
    }
    expected |= {
        "assd_all": GOLDEN["assd_all19_mean_of_means" if assd == "directed" else "assd_all19_pooled"],
        "accuracy": GOLDEN["accuracy"],
        "dice_whole": GOLDEN["dice_whole_class"],
        "validation_dice": GOLDEN["dice_all_class"],
        "union_dice_vertebrae": GOLDEN["union_vertebrae_dice"],
        "union_dice_discs": GOLDEN["union_disc_dice"],
    }
    assert {key: case[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_golden_validation() -> None:
    prediction = torch.from_numpy(draw("metric_prob", (1, 20, 3, 6, 5))).argmax(1)
    reference = torch.from_numpy(draw("metric_prob_target", (1, 20, 3, 6, 5))).argmax(1)
    reference[reference == 2] = 0
    counts = overlap_counts(prediction, reference, 20)
    found = [validation_dice(counts), validation_dice(counts, skip=()), validation_iou(counts)]
    expected = [GOLDEN[f"val_{key}"] for key in ("dice_skip0", "dice_all_channels", "miou_skip0")]
    assert [float(one) for one in found] == pytest.approx(expected, abs=1e-6)


def test_every_sample_of_a_batch_is_validated_and_an_empty_one_has_no_score() -> None:
    maps = torch.tensor([[1, 1, 2, 0], [0, 0, 0, 0], [3, 3, 0, 0]])
    others = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [3, 3, 0, 0]])
    counts = overlap_counts(maps, others, 4)
    assert validation_dice(counts).tolist() == pytest.approx([0.4, math.nan, 1.0], abs=1e-6, nan_ok=True)
    assert validation_dice(counts, ())[1] == pytest.approx(1.0)
    assert validation_iou(counts).tolist() == pytest.approx([2 / 3, math.nan, 1.0], abs=1e-6, nan_ok=True)


def test_a_structure_in_one_map_scores_nothing_and_one_in_neither_has_no_score() -> None:
    rows = {row["structure"]: row for row in golden_scores().structures}
    for node, sizes in ((4, "volume_ref_ml"), (6, "volume_pred_ml")):
        assert [rows[node][key] for key in ("dice", "precision", "recall", sizes)] == [0.0] * 4
        assert math.isnan(rows[node]["assd"])
    assert all(math.isnan(rows[13][key]) for key in ("dice", "precision", "recall", "assd", "called"))


def test_row_of_a_structure() -> None:
    prediction, reference = golden_pair()
    row = golden_scores().structures[4]
    voxel_ml = 4.4 * 0.7 * 0.7 / 1000
    assert [row[key] for key in ("structure", "value", "name", "group")] == [5, 5, "L2", "vertebra"]
    assert row["volume_ref_ml"] == pytest.approx((reference == 5).sum() * voxel_ml)
    assert row["volume_pred_ml"] == pytest.approx((prediction == 5).sum() * voxel_ml)
    assert row["false_positive_ml"] == pytest.approx(((prediction == 5) & (reference != 5)).sum() * voxel_ml)


def test_groups_follow_the_graph() -> None:
    assert label_groups(spider(3)) == {
        "all": [1, 2, 3, 4, 5, 6, 7],
        "vertebrae": [1, 2, 3],
        "discs": [4, 5, 6],
        "canal": [7],
    }
    assert list(label_groups(GRAPH)) == ["all", "vertebrae", "discs"]


def test_a_case_of_another_graph_has_its_groups() -> None:
    same = np.arange(8).reshape(1, 2, 4)
    case = spine_metrics(same, same, spider(3), surface=False).case
    assert case["dice_canal"] == pytest.approx(1) and "assd_all" not in case


def test_a_perfect_case_and_an_empty_one() -> None:
    reference = golden_pair()[1]
    perfect = spine_metrics(reference, reference, GRAPH).case
    assert [perfect[key] for key in ("dice_all", "recall_discs", "accuracy", "dice_whole")] == pytest.approx([1.0] * 4)
    assert (perfect["assd_all"], perfect["order_errors"], perfect["called_correct"]) == (0.0, 0.0, 17.0)
    nothing = spine_metrics(np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), GRAPH).case
    assert nothing["accuracy"] == 1.0 and nothing["called_missed"] == 0.0
    assert all(math.isnan(nothing[key]) for key in ("dice_all", "dice_whole", "union_dice_discs", "neighbour_share"))


def test_cheap_without_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custom_nets.metrics.spine.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    scores = golden_scores(surface=False)
    assert "assd" not in scores.structures[0] and scores.case["dice_all"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.full((6, 15, 14), 20)}, "prediction holds 20"),
        ({"reference": np.zeros((6, 15, 13), int)}, "must be equal"),
        ({"assd": "mean"}, "assd is 'mean'; choose one of pooled, directed"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    prediction, reference = golden_pair()
    with pytest.raises(InputError, match=message):
        spine_metrics(**{"prediction": prediction, "reference": reference, "graph": GRAPH, **change})


def cases() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The golden case and one without error."""
    reference = golden_pair()[1]
    scores = {"one": golden_scores(), "two": spine_metrics(reference, reference, GRAPH, GOLDEN["spacing"])}
    structures = [{"case": name, **row} for name, own in scores.items() for row in own.structures]
    return [{"case": name, **own.case} for name, own in scores.items()], structures


def test_means_over_cases_are_the_tables_with_the_deviation_of_the_population() -> None:
    summary = summarise_spine(*cases())
    low = GOLDEN["dsc_discs"]
    assert summary["metrics"]["dice_discs"]["mean"] == pytest.approx((1 + low) / 2, abs=1e-6)
    assert summary["metrics"]["dice_discs"]["std"] == pytest.approx((1 - low) / 2, abs=1e-6)
    table = spine_table(summary)
    assert f"| discs | {50 * (1 + low):.2f} ± {50 * (1 - low):.2f} |" in table
    assert summary["structures"]["L3"]["missed"] == 0 and summary["structures"]["L3"]["hallucinated"] == 1
    assert summary["structures"]["L1"]["missed"] == 1  # label 6, erased from the prediction
    assert summary["structures"]["L3"]["dice"]["n"] == 1 and summary["structures"]["L3/L4"]["dice"]["mean"] is None
    assert "| L3/L4 | – | – | – | – | 0 | 0 | 0 |" in table
    calls = summary["order"]["calls"]
    assert sum(calls.values()) == sum(row["called_correct"] for row in cases()[0]) + calls["other"] + calls["missed"]


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    rows, structures = cases()
    files = write_spine_reports(rows, structures, GRAPH, tmp_path / "new", assd="directed")
    assert [file.name for file in files] == [
        *("metrics_per_case.csv", "metrics_summary.json", "metrics_table.md"),
        *("metrics_per_structure.csv", "structures.png"),
    ]
    with files[0].open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["case"] for row in read] == ["one", "two"]
    assert float(read[0]["dice_all"]) == pytest.approx(GOLDEN["dsc_all19"], abs=1e-6)
    assert json.loads(files[1].read_text()) == {**summarise_spine(rows, structures), "assd": "directed"}
    with files[3].open(newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in structures]
    assert files[4].read_bytes().startswith(b"\x89PNG")


def test_no_case_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case to summarise"):
        write_spine_reports([], [], GRAPH, tmp_path)
    assert not list(tmp_path.iterdir())
