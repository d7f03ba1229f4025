# SPDX-License-Identifier: Apache-2.0
"""Lesion metrics in MONAI: as a cumulative metric and in an evaluator made from a config."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.metric_handlers import PUBLISHED, LesionMetric
from custom_nets.metrics import ROW_KEYS, lesion_metrics, summarise_ms
from tests.recipe import arrays

REF, PRED = (torch.as_tensor(arrays("rsanet")[f"mask_{name}"].astype("uint8")) for name in ("ref", "pred"))
SPACING = (1.0, 1.0, 3.0)


def meta(mask: Tensor, name: str = "", channels: int = 1) -> MetaTensor:
    """A mask as MONAI hands it on: label (1 channel) or one-hot (2), with affine and file name."""
    data = mask[None] if channels == 1 else torch.stack([1 - mask, mask])
    return MetaTensor(data, affine=torch.diag(torch.tensor([-1.0, 1.0, 3.0, 1.0])), meta={"filename_or_obj": name})


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("batched", [False, True])
def test_rows_are_those_of_lesion_metrics(channels: int, batched: bool) -> None:
    pairs = [(PRED, REF), (REF, PRED)]
    predictions, references = ([meta(pair[side], channels=channels) for pair in pairs] for side in (0, 1))
    metric = LesionMetric(connectivity=18)
    if batched:
        metric(*(MetaTensor(torch.stack(group), meta=group[0].meta) for group in (predictions, references)))
    else:
        for prediction, reference in zip(predictions, references, strict=True):
            metric([prediction], [reference])
    expected = [lesion_metrics(*pair, spacing=SPACING, connectivity=18) for pair in pairs]
    assert [{key: row[key] for key in ROW_KEYS} for row in metric.cases()] == [pytest.approx(row) for row in expected]
    assert metric.aggregate() == pytest.approx((expected[0]["lf1"] + expected[1]["lf1"]) / 2)


def test_plain_tensors_are_one_millimetre_and_numbered() -> None:
    metric = LesionMetric()
    metric(torch.stack([PRED, REF])[:, None], torch.stack([REF, REF])[:, None])
    assert [(row["case"], row["volume_ref_ml"]) for row in metric.cases()] == [
        ("rank0_case0", 1.488),
        ("rank0_case1", 1.488),
    ]


def test_cases_grow_until_a_reset() -> None:
    metric = LesionMetric()
    for count in (1, 2):
        metric([meta(PRED)], [meta(REF)])
        assert len(metric.cases()) == count
    metric.reset()
    assert metric.cases() == []


def test_cases_are_named_relative_to_the_data_set(tmp_path: Path) -> None:
    metric = LesionMetric(dataset_dir=tmp_path)
    for name in (tmp_path / "patient1" / "flair.nii.gz", Path("/elsewhere/flair.nii.gz")):
        metric([meta(PRED, str(name))], [meta(REF, "label.nii.gz")])
    assert [row["case"] for row in metric.cases()] == ["patient1/flair.nii.gz", "/elsewhere/flair.nii.gz"]


@pytest.mark.parametrize("channels", [1, 2])
def test_probabilities_are_refused(channels: int) -> None:
    with pytest.raises(InputError, match="threshold"):
        LesionMetric()([meta(PRED.float() * 0.7, channels=channels)], [meta(REF)])


def test_wrong_connectivity_is_refused_before_inference() -> None:
    with pytest.raises(InputError, match="connectivity is 8"):
        LesionMetric(connectivity=8)


def evaluator(output_dir: Path | None) -> dict[str, Any]:
    """The evaluator of a bundle; its network returns the two channels of the image as logits."""
    metric = {
        "_target_": "custom_nets.metric_handlers.LesionMetrics",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        "connectivity": 26,
        "dataset_dir": "/data",
        "output_dir": None if output_dir is None else str(output_dir),
    }
    return {
        "key_metric": {"lesion_f1": metric},
        "postprocessing": {"_target_": "custom_nets.transforms.LesionThresholdd", "keys": "pred"},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "custom_nets.inferers.FlipTTAInferer", "inferer": {"_target_": "SimpleInferer"}},
            "postprocessing": "@postprocessing",
            "key_val_metric": "@key_metric",
            "val_handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        },
    }


def batches(pairs: list[tuple[Tensor, Tensor]]) -> list[dict[str, Tensor]]:
    cases = [
        {"image": meta(p, f"/data/p{index}/t1.nii.gz", 2).float(), "label": meta(r, f"/data/p{index}/label.nii.gz")}
        for index, (p, r) in enumerate(pairs)
    ]
    return [list_data_collate([case]) for case in cases]


def test_evaluator_of_a_config_stores_the_means_and_writes_the_tables(tmp_path: Path) -> None:
    pairs = [(PRED, REF), (REF, REF), (PRED, torch.zeros_like(REF))]
    parser = ConfigParser({"dataloader": batches(pairs), **evaluator(tmp_path)})
    engine = parser.get_parsed_content("evaluator")
    for _ in range(2):  # a second validation starts afresh
        engine.run()
    means = summarise_ms([lesion_metrics(*pair, spacing=SPACING) for pair in pairs])["metrics"]
    assert engine.state.best_metric == engine.state.metrics["lesion_f1"] == pytest.approx(means["lf1"]["mean"])
    assert {name: engine.state.metrics[name] for name in PUBLISHED} == {
        name: pytest.approx(means[key]["mean"]) for name, key in PUBLISHED.items()
    }
    with (tmp_path / "metrics_per_case.csv").open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [f"p{index}/t1.nii.gz" for index in range(3)]
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert summary["metrics"]["volume_difference"]["left_out"] == 1


def test_validation_during_training_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = ConfigParser({"dataloader": batches([(PRED, REF)]), **evaluator(None)}).get_parsed_content("evaluator")
    engine.run()
    assert engine.state.metrics["lesion_f1"] > 0 and not list(tmp_path.iterdir())
