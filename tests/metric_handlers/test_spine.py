# SPDX-License-Identifier: Apache-2.0
"""Metrics of spines in an evaluator made from a config: means, tables, slices."""

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
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.metric_handlers import SpineMetric, SpineMetrics
from custom_nets.metrics import overlap_counts, spine_metrics, spine_table, summarise_spine, validation_dice
from tests.golden import draw

GRAPH = mrspineseg(3)
SPACING = (4.0, 0.5, 1.0)  # exact in float32, in which MONAI keeps it
SHAPE = (4, 6, 9)
NAMES = ("sub-1", "sub-2", "sub-3")


def reference(name: str) -> Tensor:
    """The first case lacks the last disc."""
    scores = torch.from_numpy(draw(f"{name}_label", (len(GRAPH), *SHAPE)))
    return (scores[:-1] if name == "sub-1" else scores).argmax(0)


def prediction(name: str) -> Tensor:
    kept = torch.from_numpy(draw(f"{name}_kept", SHAPE)) > -0.5
    return torch.where(kept, reference(name), torch.from_numpy(draw(f"{name}_other", (3, *SHAPE)).argmax(0)))


def scores(name: str, **options: Any) -> Any:
    return spine_metrics(prediction(name).numpy(), reference(name).numpy(), GRAPH, SPACING, **options)


def meta(values: Tensor, name: str) -> MetaTensor:
    affine = torch.diag(torch.tensor([-SPACING[0], *SPACING[1:], 1.0]))
    return MetaTensor(values[None], affine=affine, meta={"filename_or_obj": f"/data/{name}/t2.nii.gz"})


def run(output_dir: Path | None = None, size: int = 1, **options: Any) -> Any:
    """Run the evaluator of a bundle; its network returns the image, which is the label map to judge."""
    cases = [
        {"image": meta(prediction(name), name).float(), "label": meta(reference(name).to(torch.uint8), name)}
        for name in NAMES
    ]
    spine = {
        "_target_": "custom_nets.metric_handlers.SpineMetrics",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        "graph": "@graph",
        "dataset_dir": "/data",
        "output_dir": None if output_dir is None else str(output_dir),
        **options,
    }
    config = {
        "graph": GRAPH.to_config(),
        "dataloader": [list_data_collate(cases[start : start + size]) for start in range(0, len(cases), size)],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "SimpleInferer"},
            "key_val_metric": {"mean_dice": spine},
        },
    }
    engine = ConfigParser(config).get_parsed_content("evaluator")
    engine.run()
    return engine


@pytest.mark.parametrize("size", [1, 3])
def test_evaluator_of_a_config_stores_the_means_of_all_cases(size: int) -> None:
    state = run(size=size).state
    rows = [scores(name).case for name in NAMES]
    assert state.metrics["mean_dice"] == pytest.approx(np.mean([row["validation_dice"] for row in rows]))
    for key in ("dice_vertebrae", "recall_discs", "assd_all", "accuracy", "order_errors"):
        assert state.metrics[key] == pytest.approx(np.mean([row[key] for row in rows])), key
    assert state.best_metric == state.metrics["mean_dice"]
    assert not any(key.startswith(("called_", "chain_shift_")) for key in state.metrics)


def test_tables_of_an_evaluation(tmp_path: Path) -> None:
    run(output_dir=tmp_path, assd="pooled")
    found = {f"{name}/t2.nii.gz": scores(name, assd="pooled") for name in NAMES}
    with (tmp_path / "metrics_per_case.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["case"] for row in read] == list(found)
    for row, own in zip(read, found.values(), strict=True):
        assert [float(row[key]) for key in own.case] == pytest.approx(list(own.case.values()), nan_ok=True)
    with (tmp_path / "metrics_per_structure.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["case"], row["name"]) for row in table] == [
        (case, row["name"]) for case, own in found.items() for row in own.structures
    ]
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert summary == {
        **summarise_spine(
            [{"case": case, **own.case} for case, own in found.items()],
            [{"case": case, **row} for case, own in found.items() for row in own.structures],
        ),
        "assd": "pooled",
    }
    assert (tmp_path / "metrics_table.md").read_text(encoding="utf-8") == spine_table(summary)
    assert (tmp_path / "structures.png").is_file()


def test_validation_without_surfaces_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("custom_nets.metrics.spine.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    found = run(surface=False).state.metrics
    assert found["mean_dice"] > 0 and "assd_all" not in found and not list(tmp_path.iterdir())


def test_slices_are_validated_one_by_one_with_the_background() -> None:
    metric = SpineMetric(GRAPH, surface=False, background=True)
    maps = [make("sub-2")[:, None] for make in (prediction, reference)]  # slices as a batch
    metric(*maps)
    expected = validation_dice(overlap_counts(*maps, len(GRAPH)), skip=()).mean()
    assert metric.aggregate() == pytest.approx(float(expected))


def test_no_structure_no_mean() -> None:
    metric = SpineMetric(GRAPH)
    metric(torch.zeros(1, 1, *SHAPE), torch.zeros(1, 1, *SHAPE))
    assert math.isnan(metric.aggregate())


def test_wrong_options_are_refused_before_inference() -> None:
    with pytest.raises(InputError, match="assd is 'mean'"):
        SpineMetrics(lambda output: output, GRAPH, assd="mean")
    with pytest.raises(InputError, match="the label graph: give"):
        SpineMetrics(lambda output: output, {"edges": []})


def test_values_of_files_are_refused() -> None:
    metric, label = SpineMetric(GRAPH), reference("sub-1")[None, None]
    with pytest.raises(InputError, match="holds 205"):
        metric(torch.full_like(label, 205), label)
    with pytest.raises(InputError, match="one channel but got 6"):
        metric(label.expand(-1, 6, -1, -1, -1), label)
