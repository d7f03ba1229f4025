# SPDX-License-Identifier: Apache-2.0
"""Metrics of brain tumours in an evaluator made from a config, and over two processes."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from torch import Tensor, multiprocessing

from custom_nets.errors import InputError
from custom_nets.metric_handlers import TumourMetric, TumourMetrics
from custom_nets.metrics import TUMOUR_AVERAGED, TUMOUR_KEYS, summarise_tumours, tumour_metrics, tumour_table
from tests.golden import draw

SHAPE = (7, 8, 9)
SPACING = (4.0, 0.5, 1.0)  # exact in float32, in which MONAI keeps it
NAMES = ("sub-1", "sub-2", "sub-3")
VALUES = torch.tensor([0, 1, 2, 4], dtype=torch.uint8)


def reference(name: str) -> Tensor:
    """The second case has no enhancing tumour."""
    scores = torch.from_numpy(draw(f"{name}_label", (4, *SHAPE)))
    return VALUES[(scores[:3] if name == "sub-2" else scores).argmax(0)]


def prediction(name: str) -> Tensor:
    kept = torch.from_numpy(draw(f"{name}_kept", SHAPE)) > -0.5
    return torch.where(kept, reference(name), VALUES[torch.from_numpy(draw(f"{name}_other", (4, *SHAPE))).argmax(0)])


def row(name: str, **options: Any) -> dict[str, float]:
    return tumour_metrics(prediction(name).numpy(), reference(name).numpy(), SPACING, **options)


def meta(values: Tensor, name: str) -> MetaTensor:
    affine = torch.diag(torch.tensor([-SPACING[0], *SPACING[1:], 1.0]))
    return MetaTensor(values[None], affine=affine, meta={"filename_or_obj": f"/data/{name}/flair.nii.gz"})


def batches(names: tuple[str, ...], size: int = 1) -> list[dict[str, Tensor]]:
    cases = [{"image": meta(prediction(name), name).float(), "label": meta(reference(name), name)} for name in names]
    return [list_data_collate(cases[start : start + size]) for start in range(0, len(cases), size)]


def run(names: tuple[str, ...] = NAMES, output_dir: Path | None = None, size: int = 1, **options: Any) -> Any:
    """Run the evaluator of a bundle; its network returns the image, which is the label map to judge."""
    tumours = {
        "_target_": "custom_nets.metric_handlers.TumourMetrics",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        "dataset_dir": "/data",
        "output_dir": None if output_dir is None else str(output_dir),
        **options,
    }
    config = {
        "dataloader": batches(names, size),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "SimpleInferer"},
            "key_val_metric": {"mean_dice": tumours},
        },
    }
    engine = ConfigParser(config).get_parsed_content("evaluator")
    engine.run()
    return engine


@pytest.mark.parametrize("size", [1, 3])
def test_evaluator_of_a_config_stores_the_means(size: int) -> None:
    state = run(size=size, lesion_wise=True, min_volume=4.0).state
    expected = summarise_tumours([row(name, lesion_wise=True, min_volume=4.0) for name in NAMES])["metrics"]
    assert set(state.metrics) == set(TUMOUR_AVERAGED)
    assert state.metrics == pytest.approx({key: value["mean"] for key, value in expected.items()})
    assert state.best_metric == state.metrics["mean_dice"]


def test_tables_of_an_evaluation(tmp_path: Path) -> None:
    options: dict[str, Any] = {"empty_rule": "et", "lesion_wise": True, "dilations": 1, "min_volume": 8.0}
    run(output_dir=tmp_path, resamples=100, seed=4, **options)
    rows = [row(name, **options) for name in NAMES]
    with (tmp_path / "metrics_per_case.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [case["case"] for case in read] == [f"{name}/flair.nii.gz" for name in NAMES]
    for case, values in zip(read, rows, strict=True):
        assert [float(case[key]) for key in TUMOUR_KEYS] == pytest.approx(list(values.values()), nan_ok=True)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    notes = {"dilations": 1, "min_volume": 8.0}
    assert summary == {**summarise_tumours(rows, "et", resamples=100, seed=4), **notes}
    assert (tmp_path / "metrics_table.md").read_text(encoding="utf-8") == tumour_table(summary)


def test_validation_without_surfaces_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("custom_nets.metrics.tumours.surface_metrics", lambda *_, **__: pytest.fail("not cheap"))
    found = run(surface=False).state.metrics
    assert found["mean_dice"] > 0 and not list(tmp_path.iterdir())
    assert set(found) == {key for key in TUMOUR_AVERAGED if "hd95" not in key and "lesion" not in key}


def test_cases_left_out_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="custom_nets"):
        run()
    assert [record.message for record in caplog.records if record.name.startswith("custom_nets")] == [
        "scans left out of a mean, because a mask is empty, of 3: sensitivity_et 1"
    ]


def test_mean_of_an_earlier_validation_does_not_stay() -> None:
    engine = run()
    assert engine.state.metrics["sensitivity_et"] > 0
    engine.data_loader = batches(("sub-2",))
    engine.run()
    assert "sensitivity_et" not in engine.state.metrics and engine.state.metrics["dice_et"] == 0.0


def test_no_case_with_a_mean() -> None:
    metric = TumourMetric(empty_rule="et")
    metric([torch.ones(1, *SHAPE)], [torch.zeros(1, *SHAPE)])
    assert math.isnan(metric.aggregate())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"empty_rule": "tc"}, "empty_rule is 'tc'"),
        ({"dilations": -2}, "dilations is -2"),
        ({"min_volume": -1.0}, r"min_volume is -1\.0"),
        ({"resamples": 0}, "resamples is 0"),
    ],
)
def test_wrong_options_are_refused_before_inference(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TumourMetrics(**options)


def test_region_channels_and_other_conventions_are_refused() -> None:
    metric, label = TumourMetric(), reference("sub-1")[None, None]
    with pytest.raises(InputError, match="one channel but got 4"):
        metric(label.expand(-1, 4, -1, -1, -1), label)
    with pytest.raises(InputError, match="prediction holds 3"):
        metric(torch.where(label == 4, 3, label), label)


def evaluate_share(rank: int, folder: Path) -> None:
    """One of two processes: two cases and one."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    engine = run(NAMES[:2] if rank == 0 else NAMES[2:], folder)
    (folder / f"metrics{rank}.json").write_text(json.dumps(engine.state.metrics))
    dist.destroy_process_group()


def test_two_processes_agree_on_all_cases(tmp_path: Path) -> None:
    multiprocessing.spawn(evaluate_share, args=(tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"metrics{rank}.json").read_text()) for rank in (0, 1))
    assert first == second == pytest.approx(run().state.metrics, rel=1e-6)
    assert len((tmp_path / "metrics_per_case.csv").read_text().splitlines()) == 1 + len(NAMES)
