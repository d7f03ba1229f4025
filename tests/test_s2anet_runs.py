# SPDX-License-Identifier: Apache-2.0
"""Runs of s2anet: what it alone has of slices, planes, windows, label tables, weights and tables of structures."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from custom_nets import S2aNet
from custom_nets.datasets.sides import left_right_pairs
from custom_nets.metrics import structure_metrics
from custom_nets.metrics.slice_overlap import overlap_counts, slice_iou
from custom_nets.slices.preparation import SlicePreparation
from tests.bundle_runs import TINY, Runs, write
from tests.test_resume import assert_same_run, interrupted

pytestmark = pytest.mark.parametrize("bundle_name", ["s2anet"], indirect=True, scope="session")

ROWS, COLUMNS = TINY["s2anet"].options["patch_size"]
#: A table of one's own, with a pair and without.
FEW = ("background", "Femur, left", "Femur, right", "Bladder", "Rectum", "Uterus", "Sacrum", "Vagina")


@pytest.fixture(autouse=True)
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure of 54 structures takes longer than such a run."""
    monkeypatch.setattr("custom_nets.metrics.structure_reports.structure_figure", lambda dice, path: path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def rows(runs: Runs, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (runs.eval / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def last(runs: Runs) -> dict[str, Any]:
    return torch.load(runs.models / "last.pt", weights_only=True)


# all workflows


def assert_tables_are_of_the_label_maps(runs: Runs, maps: Path, labels: dict[int, str]) -> None:
    """Computed here from the files."""
    found = rows(runs, "metrics_per_structure.csv")
    cases = {row["case"]: [one for one in found if one["case"] == row["case"]] for row in found}
    assert list(cases) == ["case2_MR.nii.gz", "case3_MR.nii.gz"]
    dice = []
    for case, of_case in cases.items():
        reference = nibabel.load(runs.data / case.replace("MR", "label"))
        written = nibabel.load(maps / case.replace("MR", "MR_seg"))
        assert written.shape == reference.shape
        np.testing.assert_allclose(written.affine, reference.affine, atol=1e-5)
        pair = (np.asarray(one.dataobj) for one in (written, reference))
        expected = structure_metrics(*pair, labels, reference.header.get_zooms())
        assert [row["name"] for row in of_case] == [row["name"] for row in expected] == list(labels.values())[1:]
        for row, wanted in zip(of_case, expected, strict=True):
            numbers = {key: value for key, value in wanted.items() if key != "name"}
            assert {key: float(row[key] or "nan") for key in numbers} == pytest.approx(numbers, rel=1e-6, nan_ok=True)
        dice += [row["dice"] for row in expected if not np.isnan(row["dice"])]
    summary = json.loads((runs.eval / "metrics_summary.json").read_text())
    assert summary["cases"] == 2 and summary["pairs"]["present"] == len(dice)
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(np.mean(dice))


def train_evaluate_and_segment(runs: Runs, labels: dict[int, str] | None = None, **options: Any) -> None:
    runs.run(epochs=1, **options)
    runs.run("evaluate", **options)
    runs.run("inference", section="validation", output_dir=str(runs.folder / "maps"), **options)
    assert_tables_are_of_the_label_maps(runs, runs.folder / "maps", labels or runs.bundle.labels)
    assert 0 < float(rows(runs)[0]["val_slice_dice"]) < 1


@pytest.mark.parametrize(
    "options",
    [
        {"num_slices": 1},
        {"num_slices": 5, "sw_batch_size": 3},
        {"windows": "sliding", "patch_size": [24, 16]},
        {"plane": "coronal", "intensity": "percentile", "keep_largest": True},
    ],
    ids=str,
)
def test_what_is_trained_is_evaluated_and_segmented(runs: Runs, options: dict[str, Any]) -> None:
    train_evaluate_and_segment(runs, **options)


def test_another_number_of_slices_is_another_network(trained: Runs, runs: Runs) -> None:
    message = runs.refusal("inference", checkpoint=str(trained.models / "model.pt"), num_slices=5)
    assert "entries disagree" in message and "slice_aware" in message


# label tables


@pytest.fixture
def few(runs: Runs) -> Runs:
    """The data with eight labels, and their table."""
    data = runs.folder / "data"
    shutil.copytree(runs.data, data)
    for path in data.glob("*_label.nii.gz"):
        label = nibabel.load(path)
        write(path, (np.asarray(label.dataobj) % len(FEW)).astype(np.uint8), label.affine)
    (runs.folder / "few.json").write_text(json.dumps(dict(enumerate(FEW))))
    return Runs(runs.name, data, runs.folder)


def test_a_label_table_of_ones_own(few: Runs) -> None:
    options = {"label_table": str(few.folder / "few.json"), "out_channels": len(FEW), "mirror_probability": 0.5}
    segmenting = {key: value for key, value in options.items() if key != "mirror_probability"}
    few.run(epochs=1, **options)
    few.run("evaluate", **segmenting)
    few.run("inference", section="validation", output_dir=str(few.folder / "maps"), tta=True, **segmenting)
    assert [row["name"] for row in rows(few, "metrics_per_structure.csv")] == 2 * list(FEW[1:])
    assert voxels(few.folder / "maps" / "case2_MR_seg.nii.gz").max() < len(FEW)
    assert "entries disagree" in few.refusal("inference")
    train_evaluate_and_segment(few.elsewhere(few.folder / "plain"), dict(enumerate(FEW)), **segmenting)


@pytest.mark.parametrize("workflow", ["train", "evaluate", "inference"])
def test_a_table_that_is_not_the_networks(trained: Runs, few: Runs, workflow: str) -> None:
    given = {} if workflow == "train" else {"checkpoint": str(trained.models / "model.pt")}
    table = str(few.folder / "few.json")
    told = f"{table} names 8 labels with the background, out_channels is 55: add --out_channels 8"
    assert told in few.refusal(workflow, label_table=table, **given)
    told = "the bundle's own label table names 55 labels with the background, out_channels is 8"
    assert told in few.refusal(workflow, out_channels=8, **given)
    assert "gone.json: label table cannot be read" in few.refusal(workflow, label_table="gone.json", **given)
    assert not few.eval.exists() and not few.models.exists()


def test_labels_that_the_table_lacks(few: Runs) -> None:
    (few.folder / "less.json").write_text(json.dumps(dict(enumerate(FEW[:-1]))))
    message = few.refusal(label_table=str(few.folder / "less.json"), out_channels=len(FEW) - 1)
    assert "case0_label.nii.gz" in message and "7 (" in message


# selection


@pytest.mark.parametrize("name", ["mean_iou", "mean_dice"])
def test_the_metric_that_picks_the_model(runs: Runs, name: str) -> None:
    """At this rate the network unlearns all structures, which the background makes up for in the IoU as published."""
    runs.run(epochs=3, learning_rate=0.1, select_by=name)
    scores = [float(row[f"val_{name}"]) for row in rows(runs)]
    assert last(runs)["best_metric"] == max(scores)
    assert last(runs)["best_metric_epoch"] == 1 + scores.index(max(scores))
    assert {"val_mean_iou", "val_slice_dice", "val_mean_dice"} <= set(rows(runs)[0])


def test_an_unknown_metric_is_refused(runs: Runs) -> None:
    assert "select_by is 'dice': choose one of mean_iou, mean_dice" in runs.refusal(select_by="dice")


def test_the_iou_is_that_of_slices_at_the_networks_size(trained: Runs) -> None:
    """Computed here from the files and the model of the best epoch, window by window."""
    network = S2aNet(feature_scale=16).eval()
    network.load_state_dict(torch.load(trained.models / "model.pt", weights_only=True))
    prepare = SlicePreparation((ROWS, COLUMNS))
    found = []
    for number in (2, 3):
        # x to the right, y to the front, z up -> slices upwards, rows to the back, columns to the left
        image, label = (
            torch.from_numpy(
                voxels(trained.data / f"case{number}_{name}.nii.gz").transpose(2, 1, 0)[:, ::-1, ::-1].copy()
            )
            for name in ("MR", "label")
        )
        slices = prepare(image)
        slices = torch.cat([slices[:1], slices, slices[-1:]])
        with torch.no_grad():
            labels = torch.cat([network(slices[None, k : k + 3]).argmax(1) for k in range(len(image))])
        found.append(slice_iou(overlap_counts(labels, prepare.resized(label).long(), 55)))
    best = max(float(row["val_mean_iou"]) for row in rows(trained))
    assert best == pytest.approx(torch.cat(found).mean().item(), rel=1e-3)


# loss and augmentation


def test_the_ways_to_weigh_classes(runs: Runs) -> None:
    (runs.folder / "weights.json").write_text(json.dumps([0.1] + 54 * [1]))
    losses = {}
    for weighting in ("adaptive", "rank", "none", "static"):
        weights = {"static_weights": str(runs.folder / "weights.json")} if weighting == "static" else {}
        own = runs.elsewhere(runs.folder / weighting)
        own.run(epochs=1, val_interval=2, weighting=weighting, **weights)
        losses[weighting] = float(rows(own)[0]["train_loss"])
    assert len(set(losses.values())) == 4 and all(0 < loss < 10 for loss in losses.values())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weighting": "static"}, "static_weights"),
        ({"static_weights": [1] * 55}, "static_weights"),
        ({"weighting": "static", "static_weights": "gone.json"}, "gone.json"),
        ({"weighting": "static", "static_weights": [1, 2]}, "2 numbers for 55 classes"),
        ({"plane": "sagittal", "mirror_probability": 0.5}, "mirror_probability"),
    ],
)
def test_training_options_that_cannot_be_meant(runs: Runs, options: dict[str, Any], told: str) -> None:
    assert told in runs.refusal(**options)
    assert not runs.models.exists()


def test_a_mirrored_window_exchanges_left_and_right(runs: Runs) -> None:
    plain, mirrored = (runs.workflow(elastic_probability=0, mirror_probability=share).parser for share in (0, 1))
    for parser in (plain, mirrored):
        parser["imports"] += ["$import torch"]
    plain, mirrored = (parser.get_parsed_content("train::dataset")[3] for parser in (plain, mirrored))
    torch.testing.assert_close(mirrored["image"], plain["image"].flip(-1), rtol=0, atol=0)
    partner = {a: b for pair in left_right_pairs(runs.bundle.labels) for a, b in (pair, pair[::-1])}
    expected = np.vectorize(lambda value: partner.get(value, value))(plain["label"].flip(-1).numpy())
    np.testing.assert_array_equal(mirrored["label"].numpy(), expected)
    assert plain["label"].any() and len(partner) == 46


def test_sliding_windows_are_resumed_exactly(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their places and mirrors are drawn anew for every visit."""
    options = {"windows": "sliding", "patch_size": [24, 16], "mirror_probability": 0.5, "select_by": "mean_dice"}
    other = runs.elsewhere(tmp_path / "other")
    runs.run(**options)
    interrupted(other, monkeypatch, **options)
    other.run(resume=True, num_workers=2, cache_rate=0.5, **options)
    assert_same_run(runs, other)


# slices


@pytest.mark.parametrize(("plane", "slices"), [("auto", 8), ("axial", 8), ("coronal", 44), ("sagittal", 40)])
def test_the_plane_of_the_training_windows(runs: Runs, plane: str, slices: int) -> None:
    parser = runs.workflow(plane=plane).parser
    parser["imports"] += ["$import torch"]
    windows = parser.get_parsed_content("train::dataset")
    assert len(windows) == 2 * slices
    assert windows[0]["image"].shape == (3, ROWS, COLUMNS) and windows[0]["label"].shape == (1, ROWS, COLUMNS)


# evaluation


def test_the_files_of_an_evaluation(trained: Runs, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    given = {"checkpoint": str(trained.models / "model.pt")}
    runs.run("evaluate", pictures=1, **given)
    names = {path.name for path in runs.eval.iterdir()}
    tables = {"metrics_per_structure.csv", "metrics_per_case.csv", "metrics_summary.json", "evaluation.json"}
    assert names == {*tables, "structures.png", "case2_MR.png"}
    assert all(path.stat().st_size > 200 for path in runs.eval.iterdir())


def test_options_of_an_evaluation(trained: Runs, runs: Runs) -> None:
    given = {"checkpoint": str(trained.models / "model.pt")}
    found = {}
    for name, options in {"mm": {}, "voxel": {"distance_unit": "voxel"}, "all": {"count_hallucinated": True}}.items():
        runs.run("evaluate", **options, **given)
        found[name] = json.loads((runs.eval / "metrics_summary.json").read_text())
    assert found["mm"]["pairs"]["hallucinated"] > 0, "some structures are not in every case"
    assert found["mm"]["metrics"]["hd"]["mean"] > found["voxel"]["metrics"]["hd"]["mean"], "slices are 5 mm thick"
    more = found["all"]["metrics"]["dice"]["n"] - found["mm"]["metrics"]["dice"]["n"]
    assert more == found["mm"]["pairs"]["hallucinated"]
    assert (found["voxel"]["distance_unit"], found["all"]["count_hallucinated"]) == ("voxel", True)
