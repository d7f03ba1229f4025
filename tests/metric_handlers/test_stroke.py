# SPDX-License-Identifier: Apache-2.0
"""Stroke metrics, voxel metrics and the validation loss in an evaluator made from a config, and over two processes."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from torch import Tensor, multiprocessing

from custom_nets.errors import InputError
from custom_nets.metric_handlers import (
    STROKE_PUBLISHED,
    VOXEL_PUBLISHED,
    LesionMetric,
    StrokeMetric,
    StrokeMetrics,
    VoxelMetric,
)
from custom_nets.metrics import (
    STROKE_KEYS,
    SURFACE_KEYS,
    VoxelReport,
    stroke_metrics,
    stroke_table,
    summarise_stroke,
    voxel_sums,
)
from tests.golden import draw

SHAPE = (7, 8, 9)
SPACING = (1.0, 1.0, 3.0)
NAMES = ("sub-1", "sub-2", "sub-3")


def logits(name: str) -> Tensor:
    """Outputs of a network; the second scan's has no lesion."""
    return torch.from_numpy(draw(f"{name}_logits", SHAPE)).float() - (9.0 if name == "sub-2" else 0.0)


def reference(name: str) -> Tensor:
    return torch.from_numpy(draw(f"{name}_label", SHAPE) + draw(f"{name}_logits", SHAPE) > 1.0).to(torch.uint8)


def row(name: str, **options: Any) -> dict[str, float]:
    return stroke_metrics((logits(name) > 0).numpy(), reference(name).numpy(), SPACING, **options)


def batches(names: tuple[str, ...], size: int = 1) -> list[dict[str, Tensor]]:
    affine = torch.diag(torch.tensor([-1.0, 1.0, 3.0, 1.0]))
    cases = [
        {
            key: MetaTensor(value[None], affine=affine, meta={"filename_or_obj": f"/data/{name}/{key}.nii.gz"})
            for key, value in (("image", logits(name)), ("label", reference(name)))
        }
        for name in names
    ]
    return [list_data_collate(cases[start : start + size]) for start in range(0, len(cases), size)]


def dice_loss(values: Tensor, labels: Tensor) -> Tensor:
    """A loss whose mean over scans differs from that over a batch: 1 - soft Dice."""
    p = torch.sigmoid(values)
    return 1.0 - 2.0 * (p * labels).sum() / (p.sum() + labels.sum())


def evaluator(output_dir: Path | None, **options: Any) -> dict[str, Any]:
    """The evaluator of a bundle; its network returns the image as logits, which stay beside the prediction."""
    stroke = {
        "_target_": "custom_nets.metric_handlers.StrokeMetrics",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        "dataset_dir": "/data",
        "output_dir": None if output_dir is None else str(output_dir),
        **options,
    }
    voxel = {
        "_target_": "custom_nets.metric_handlers.VoxelMetrics",
        "output_transform": "$monai.handlers.from_engine(['logits', 'label'])",
    }
    loss = {
        "_target_": "ignite.metrics.Loss",
        "loss_fn": "@loss",
        "output_transform": "$monai.handlers.from_engine(['logits', 'label'])",
    }
    return {
        "loss": "$__import__('tests.metric_handlers.test_stroke', fromlist=['dice_loss']).dice_loss",
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "SimpleInferer"},
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "CopyItemsd", "keys": "pred", "names": "logits"},
                    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0},
                ],
            },
            "key_val_metric": {"loss": loss},
            "metric_cmp_fn": "$lambda current, best: current < best",
            "additional_metrics": {"micro_dice": stroke, "hard_dice": voxel},
        },
    }


def run(names: tuple[str, ...], output_dir: Path | None = None, size: int = 1, **options: Any) -> Any:
    parser = ConfigParser({"dataloader": batches(names, size), **evaluator(output_dir, **options)})
    engine = parser.get_parsed_content("evaluator")
    engine.run()
    return engine


def expected_loss(names: tuple[str, ...]) -> float:
    return float(np.mean([dice_loss(logits(name), reference(name)) for name in names]))


@pytest.mark.parametrize("size", [1, 2])
def test_evaluator_of_a_config_stores_the_means(size: int) -> None:
    found = run(NAMES, size=size).state.metrics
    rows = [row(name) for name in NAMES]
    summary = summarise_stroke(rows)
    assert found["micro_dice"] == pytest.approx(summary["micro_dice"])
    assert {name: found[name] for name in STROKE_PUBLISHED} == pytest.approx(
        {name: summary["metrics"][key]["mean"] for name, key in STROKE_PUBLISHED.items()}
    )


def test_tables_of_an_evaluation(tmp_path: Path) -> None:
    run(NAMES, tmp_path, assd="directed", resamples=100, seed=4, connectivity=6)
    rows = [row(name, assd="directed", connectivity=6) for name in NAMES]
    with (tmp_path / "metrics_per_case.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [case["case"] for case in read] == [f"{name}/image.nii.gz" for name in NAMES]
    for case, values in zip(read, rows, strict=True):
        assert [float(case[key]) for key in STROKE_KEYS] == pytest.approx(list(values.values()), nan_ok=True)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert summary == {**summarise_stroke(rows, resamples=100, seed=4), "assd": "directed"}
    assert (tmp_path / "metrics_table.md").read_text(encoding="utf-8") == stroke_table(summary)


def test_validation_without_surfaces_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("custom_nets.metrics.stroke.surface_metrics", lambda *masks: pytest.fail("not cheap"))
    found = run(NAMES, surface=False).state.metrics
    assert not set(SURFACE_KEYS) & set(found) and found["mean_dice"] > 0 and not list(tmp_path.iterdir())


def test_scans_left_out_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="custom_nets"):
        run(NAMES)
    assert [record.message for record in caplog.records if record.name.startswith("custom_nets")] == [
        "scans left out of a mean, because a mask is empty, of 3: hd 1, hd95 1, assd 1"
    ]


def test_mean_of_an_earlier_validation_does_not_stay() -> None:
    engine = run(NAMES)
    assert engine.state.metrics["hd"] > 0
    engine.data_loader = batches(("sub-2",))
    engine.run()
    assert engine.state.metrics["tpr"] == 0.0 and "hd" not in engine.state.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assd": "both"}, "assd is 'both'"),
        ({"connectivity": 8}, "connectivity is 8"),
        ({"resamples": 0}, "resamples is 0"),
    ],
)
def test_wrong_options_are_refused_before_inference(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StrokeMetrics(**options)


@pytest.mark.parametrize("size", [1, 2])
def test_library_loss_metric_is_the_mean_over_scans(size: int) -> None:
    """`ignite.metrics.Loss` takes MONAI's decollated outputs scan by scan, so that the batch size does not matter."""
    state = run(NAMES, size=size).state
    assert state.metrics["loss"] == state.best_metric == pytest.approx(expected_loss(NAMES), rel=1e-6)


def test_library_loss_metric_lets_nan_through() -> None:
    """MONAI's `LossMetric` would make 0, the best of losses, of it."""
    parser = ConfigParser({"dataloader": batches(NAMES), **evaluator(None)})
    parser["loss"] = lambda values, labels: values.sum() * math.nan
    engine = parser.get_parsed_content("evaluator")
    engine.run()
    assert math.isnan(engine.state.metrics["loss"])


@pytest.mark.parametrize("sigmoid", [True, False])
def test_voxel_metrics_pool_the_logits(sigmoid: bool) -> None:
    metric = VoxelMetric(threshold=0.4, sigmoid=sigmoid)
    outputs = [logits(name) if sigmoid else torch.sigmoid(logits(name)) for name in NAMES]
    metric(torch.stack(outputs[:2])[:, None], torch.stack([reference(name) for name in NAMES[:2]])[:, None])
    metric([outputs[2][None]], [reference(NAMES[2])[None]])
    sums = sum(voxel_sums(torch.sigmoid(logits(name)), reference(name), 0.4) for name in NAMES)
    assert metric.report().as_dict() == pytest.approx(VoxelReport.of_sums(torch.as_tensor(sums)).as_dict())


def test_voxel_metrics_of_an_evaluator() -> None:
    found = run(NAMES).state.metrics
    p, y = (torch.stack([function(name) for name in NAMES]) for function in (logits, reference))
    values = VoxelReport.of(torch.sigmoid(p), y).as_dict()
    assert found["hard_dice"] == pytest.approx(values["hard_dice"]) == pytest.approx(found["micro_dice"])
    assert {name: found[name] for name in VOXEL_PUBLISHED} == pytest.approx(
        {name: values[key] for name, key in VOXEL_PUBLISHED.items()}
    )


def test_voxel_metrics_need_a_label() -> None:
    with pytest.raises(InputError, match="reference label"):
        VoxelMetric()(logits("sub-1")[None, None])


def evaluate_share(rank: int, folder: Path) -> None:
    """One of two processes with unequal shares: two cases and one, then one and none."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    engine = run(NAMES[:2] if rank == 0 else NAMES[2:], folder)
    metrics = (StrokeMetric(surface=False), LesionMetric())
    if rank == 0:
        for metric in metrics:
            metric(logits("sub-1")[None, None] > 0, reference("sub-1")[None, None])
    found = [engine.state.metrics, *(metric.aggregate() for metric in metrics)]
    (folder / f"metrics{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_two_processes_agree_on_all_scans(tmp_path: Path) -> None:
    multiprocessing.spawn(evaluate_share, args=(tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"metrics{rank}.json").read_text()) for rank in (0, 1))
    one = row("sub-1")
    alone = pytest.approx(run(NAMES).state.metrics, rel=1e-6)
    assert first == second == [alone, pytest.approx(one["dice"]), pytest.approx(one["lesion_f1"])]
    assert len((tmp_path / "metrics_per_case.csv").read_text().splitlines()) == 1 + len(NAMES)
