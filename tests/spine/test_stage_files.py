# SPDX-License-Identifier: Apache-2.0
"""A training of the first stage that starts from a file of both stages, as MONAI Label's does, gives such a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from custom_nets import GCSN, SpineParseNet
from custom_nets.spine.weights import FirstStageFile
from tests.tools.small_spines import OPTIONS

WIDTH = OPTIONS["width"]


@pytest.fixture(scope="module")
def both() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(SpineParseNet(width=WIDTH, filters=OPTIONS["filters"]).state_dict())


def test_the_second_stage_stays_as_it_was(both: dict[str, torch.Tensor], tmp_path: Path) -> None:
    network = GCSN(width=WIDTH)
    write = FirstStageFile(network)
    network.load_state_dict(both, strict=False)  # as MONAI Label asks for it
    assert all(torch.equal(value, both[f"coarse.{name}"]) for name, value in network.state_dict().items())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    write(network.state_dict(), tmp_path / "model.pt")
    written = torch.load(tmp_path / "model.pt", weights_only=True)
    assert written.keys() == both.keys()
    assert all(torch.equal(value, both[name]) for name, value in written.items() if name.startswith("refinement."))
    assert all(torch.equal(written[f"coarse.{name}"], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("before", [False, True])
def test_any_other_start_gives_the_first_stage_alone(
    both: dict[str, torch.Tensor], tmp_path: Path, before: bool
) -> None:
    network = GCSN(width=WIDTH)
    write = FirstStageFile(network)
    if before:
        network.load_state_dict(both, strict=False)
    network.load_state_dict(GCSN(width=WIDTH).state_dict())
    write(network.state_dict(), tmp_path / "model.pt")
    assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == network.state_dict().keys()
