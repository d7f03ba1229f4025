# SPDX-License-Identifier: Apache-2.0
"""The order check in an inference workflow: findings beside the prediction, one line a case."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.spine.order_check import OrderCheckd
from custom_nets.spine.order_report import OrderReport
from tests.spine.test_order import UPWARDS, column

GRAPH = mrspineseg(4)
SPINES = {"good": UPWARDS, "gap": [1, 5, 2, 3, 7, 4], "again": UPWARDS}


def case(name: str) -> MetaTensor:
    values = torch.from_numpy(column(SPINES[name]))[None].float()
    affine = torch.diag(torch.tensor([4.0, 0.5, 0.5, 1.0]))
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": f"/data/{name}/t2.nii.gz"})


def run(output_dir: Path, **changes: Any) -> Any:
    """Run an evaluator whose network returns its image, the label map to check."""
    config = {
        "graph": GRAPH.to_config(),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": [list_data_collate([{"image": case(name)}]) for name in SPINES],
            "network": "$torch.nn.Identity()",
            "inferer": {"_target_": "SimpleInferer"},
            "postprocessing": {
                "_target_": "custom_nets.spine.order_check.OrderCheckd",
                "keys": "pred",
                "graph": "@graph",
            },
            "val_handlers": [
                {
                    "_target_": "custom_nets.spine.order_report.OrderReport",
                    "output_dir": str(output_dir),
                    "dataset_dir": "/data",
                }
            ],
            **changes,
        },
    }
    engine = ConfigParser(config).get_parsed_content("evaluator")
    engine.run()
    return engine


def test_one_line_a_case_and_a_warning_where_something_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="custom_nets"):
        run(tmp_path / "new")
    with (tmp_path / "new" / "order_check.csv").open(newline="", encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    text = "L4/L5 is missing between L5 and L4"
    assert rows == [("good/t2.nii.gz", "0", "ok"), ("gap/t2.nii.gz", "1", text), ("again/t2.nii.gz", "0", "ok")]
    messages = [record.message for record in caplog.records if record.name.startswith("custom_nets")]
    assert messages == [f"gap/t2.nii.gz: order along the spine: {text}"]


def test_the_prediction_stays_as_it_is_and_a_second_run_starts_anew(tmp_path: Path) -> None:
    engine = run(tmp_path)
    assert torch.equal(engine.state.output[0]["pred"], case("again")) and engine.state.output[0]["pred_order"] == []
    engine.run()
    assert len((tmp_path / "order_check.csv").read_text().splitlines()) == 1 + len(SPINES)


def test_a_run_that_breaks_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finds no 'pred_order'"):
        run(tmp_path, postprocessing="$lambda data: data")
    assert not list(tmp_path.iterdir())


def test_plain_tensors_are_numbered_and_other_keys_checked(tmp_path: Path) -> None:
    data = OrderCheckd("coarse", GRAPH)({"coarse": torch.from_numpy(column(UPWARDS[::-1]))[None]})
    report = OrderReport(tmp_path, key="coarse")
    report.add(data["coarse"], data["coarse_order"])
    assert len(data["coarse_order"]) == 6 and report._rows[0]["case"] == "rank0_case0"
    with pytest.raises(InputError, match="one channel"):
        OrderCheckd("pred", GRAPH)({"pred": torch.zeros(2, 3, 4, 5)})
