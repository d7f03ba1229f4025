# SPDX-License-Identifier: Apache-2.0
"""Metrics of many structures in an evaluator made from a config: label maps, tables, overlap of slices."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.metric_handlers import (
    STRUCTURE_PUBLISHED,
    SliceIoU,
    SliceOverlapMetric,
    StructureMetric,
    StructureMetrics,
)
from custom_nets.metrics import (
    STRUCTURE_AVERAGED,
    SURFACE_KEYS,
    overlap_counts,
    slice_dice,
    slice_iou,
    structure_metrics,
    summarise_structures,
)
from tests.golden import draw

CLASSES = 4
LABELS = {0: "background", 1: "femur, left", 2: "femur, right", 3: "sacrum"}
SPACING = (4.0, 0.5, 1.0)  # exact in float32, in which MONAI keeps it
SHAPE = (5, 8, 9)
NAMES = ("sub-1", "sub-2")


def reference(name: str) -> Tensor:
    """The first case lacks the third structure."""
    return torch.from_numpy(draw(f"{name}_label", (CLASSES, *SHAPE))[: 3 if name == "sub-1" else None].argmax(0))


def prediction(name: str) -> Tensor:
    kept = torch.from_numpy(draw(f"{name}_kept", SHAPE)) > -0.5
    return torch.where(kept, reference(name), torch.from_numpy(draw(f"{name}_other", (CLASSES, *SHAPE)).argmax(0)))


def rows(name: str, **options: Any) -> list[dict[str, Any]]:
    return structure_metrics(prediction(name).numpy(), reference(name).numpy(), LABELS, SPACING, **options)


def meta(values: Tensor, name: str) -> MetaTensor:
    affine = torch.diag(torch.tensor([-SPACING[0], *SPACING[1:], 1.0]))
    return MetaTensor(values[None], affine=affine, meta={"filename_or_obj": f"/data/{name}/t2.nii.gz"})


def run(output_dir: Path | None = None, size: int = 1, **options: Any) -> Any:
    """Run the evaluator of a bundle; its network returns the image, which is the label map to judge."""
    cases = [
        {"image": meta(prediction(name), name).float(), "label": meta(reference(name).to(torch.uint8), name)}
        for name in NAMES
    ]
    transform = "$monai.handlers.from_engine(['pred', 'label'])"
    structures = {
        "_target_": "custom_nets.metric_handlers.StructureMetrics",
        "output_transform": transform,
        "labels": "@labels",
        "dataset_dir": "/data",
        "output_dir": None if output_dir is None else str(output_dir),
        **options,
    }
    slices = {
        "_target_": "custom_nets.metric_handlers.SliceIoU",
        "output_transform": transform,
        "classes": "$len(@labels)",
    }
    config = {
        "labels": {str(value): name for value, name in LABELS.items()},
        "dataloader": [list_data_collate(cases[start : start + size]) for start in range(0, len(cases), size)],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "SimpleInferer"},
            "key_val_metric": {"mean_dice": structures},
            "additional_metrics": {"mean_iou": slices},
        },
    }
    engine = ConfigParser(config).get_parsed_content("evaluator")
    engine.run()
    return engine


@pytest.mark.parametrize("size", [1, 2])
def test_evaluator_of_a_config_stores_the_means(size: int) -> None:
    state = run(size=size).state
    everything = [row for name in NAMES for row in rows(name)]
    means = {key: np.nanmean([row[key] for row in everything]) for key in STRUCTURE_AVERAGED}
    assert state.best_metric == state.metrics["mean_dice"] == pytest.approx(means["dice"])
    assert {name: state.metrics[name] for name in STRUCTURE_PUBLISHED} == pytest.approx(
        {name: means[key] for name, key in STRUCTURE_PUBLISHED.items()}
    )


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    run(tmp_path, distance_unit="voxel", count_hallucinated=True)
    expected = [
        {"case": f"{name}/t2.nii.gz", **row}
        for name in NAMES
        for row in rows(name, distance_unit="voxel", count_hallucinated=True)
    ]
    with (tmp_path / "metrics_per_structure.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(row["case"], row["name"]) for row in read] == [(row["case"], row["name"]) for row in expected]
    for key in STRUCTURE_AVERAGED:
        values = [row[key] for row in expected]
        assert [float(row[key]) for row in read] == pytest.approx(values, nan_ok=True)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    notes = {"distance_unit": "voxel", "count_hallucinated": True}
    assert summary == {**summarise_structures(expected), **notes}
    assert summary["pairs"]["hallucinated"] == 1 and (tmp_path / "structures.png").is_file()
    with (tmp_path / "metrics_per_case.csv").open(newline="", encoding="utf-8") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [f"{name}/t2.nii.gz" for name in NAMES]


def test_validation_without_surfaces_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("custom_nets.metrics.structures.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    found = run(surface=False).state.metrics
    assert not set(SURFACE_KEYS) & set(found) and found["mean_dice"] > 0 and not list(tmp_path.iterdir())


def test_plain_tensors_are_numbered_by_case() -> None:
    metric = StructureMetric(LABELS)
    batch = [torch.stack([make(name)[None] for name in NAMES]) for make in (prediction, reference)]
    values = metric(*batch)
    assert values.shape[0] == 2
    assert [row["case"] for row in metric.cases()] == ["rank0_case0"] * 3 + ["rank0_case1"] * 3
    metric.reset()
    metric([batch[0][0]], [batch[1][0]])
    assert [row["case"] for row in metric.cases()] == ["rank0_case0"] * 3


def test_no_structure_no_mean() -> None:
    metric = StructureMetric(LABELS)
    empty = torch.zeros(1, 1, *SHAPE)
    metric(empty, empty)
    assert math.isnan(metric.aggregate())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {0: "background"}}, "at least one structure"),
        ({"labels": {"one": "femur"}}, "no whole number"),
        ({"labels": {-1: "femur", 1: "sacrum"}}, "above 0"),
        ({"labels": {1: "femur", 2: "femur"}}, "the name 'femur' twice"),
        ({"labels": LABELS, "distance_unit": "cm"}, "distance_unit is 'cm'"),
    ],
)
def test_wrong_options_are_refused_before_inference(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StructureMetrics(lambda output: output, **options)


def test_one_hot_and_probabilities_are_refused() -> None:
    metric = StructureMetric(LABELS)
    label = reference("sub-1")[None, None]
    with pytest.raises(InputError, match="one channel but got 4"):
        metric(label.expand(-1, 4, -1, -1, -1), label)
    with pytest.raises(InputError, match=r"prediction holds 0.5"):
        metric(torch.full_like(label, 0.5, dtype=torch.float32), label)


def slice_means(names: tuple[str, ...]) -> tuple[float, float]:
    counts = overlap_counts(*(torch.cat([make(name) for name in names]) for make in (prediction, reference)), CLASSES)
    return float(slice_iou(counts).mean()), float(slice_dice(counts).mean())


@pytest.mark.parametrize("size", [1, 2])
def test_slices_of_an_evaluator(size: int) -> None:
    found = run(size=size).state.metrics
    assert (found["mean_iou"], found["slice_dice"]) == pytest.approx(slice_means(NAMES), rel=1e-12)


def test_every_slice_weighs_the_same() -> None:
    metric = SliceOverlapMetric(CLASSES)
    metric([prediction("sub-1")[None, :2]], [reference("sub-1")[None, :2]])  # two slices, then single ones
    for index in range(2, SHAPE[0]):
        metric([prediction("sub-1")[None, index]], [reference("sub-1")[None, index]])
    assert metric.means() == pytest.approx(slice_means(("sub-1",)), rel=1e-12)
    metric.reset()
    assert math.isnan(metric.aggregate())


def test_slices_of_one_hot_maps_are_refused() -> None:
    with pytest.raises(InputError, match=r"its shape is \(4, 8, 9\).*argmax"):
        SliceOverlapMetric(CLASSES)(torch.zeros(1, 4, 8, 9), torch.zeros(1, 1, 8, 9))
    with pytest.raises(InputError, match="classes is 1"):
        SliceIoU(lambda output: output, classes=1)
