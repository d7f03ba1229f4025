# SPDX-License-Identifier: Apache-2.0
"""What a faster way of inference saves: both ways run on the same scans, and their label maps are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.phantoms import write_dataset
from tests.bundle_runs import TINY
from tools.compare_presets import compare_presets

OPTIONS = {key: value for key, value in TINY["s2ca_net"].options.items() if key != "windows"}
NETWORK = {key: value for key, value in OPTIONS.items() if not key.startswith("min_")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a run on phantoms with a network that was not trained."""
    folder = tmp_path_factory.mktemp("presets")
    write_dataset("s2ca_net", folder / "data", cases=3, spacing=4.0)
    torch.manual_seed(0)
    torch.save(S2CANet(**NETWORK).state_dict(), folder / "model.pt")
    return {"checkpoint": str(folder / "model.pt"), "dataset_dir": str(folder / "data"), **OPTIONS}


def test_both_ways_are_timed_and_compared(
    model: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = tmp_path / "slow.json"  # with the preset over it nothing changes
    slow.write_text(json.dumps({"windows": "foreground", "overlap": 0.5, "blending": "gaussian"}))
    compare_presets("s2ca_net", configs=str(slow), section="training", **model)
    same = capsys.readouterr().out
    assert "ET 1.0000, TC 1.0000, WT 1.0000" in same
    assert "ratio of medians" in same
    compare_presets("s2ca_net", section="training", region_threshold=0.45, **model)
    assert "WT 1.0000" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "quick"}, r"quick\.json: no such configuration"),
        ({"cases": 0.5}, "cases is 0.5"),
        ({"cases": 0}, "cases is 0: give 1 to 1, which section 'testing' has"),
        ({"cases": 2}, "cases is 2: give 1 to 1"),
    ],
)
def test_refused(model: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_presets("s2ca_net", **model, **options)
