# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import load_net_with_metadata
from torch import nn
from torch.export import Dim

from custom_nets.errors import InputError
from custom_nets.model_zoo import forms, onnx_form, parity
from custom_nets.model_zoo.accurate_norms import with_accurate_norms
from custom_nets.model_zoo.exportable import exportable
from custom_nets.model_zoo.form_parts import built, parts_of
from custom_nets.model_zoo.forms import write_forms
from custom_nets.model_zoo.parity import (
    REPORT,
    Comparison,
    Form,
    LeftOut,
    Parity,
    compare,
    parity_table,
    require_agreement,
)
from custom_nets.model_zoo.random_weights import settle_norms, stir, write_random_weights
from custom_nets.registry import available, bundle
from tests.bundle_runs import TINY

SMALLER: dict[str, dict[str, Any]] = {
    "spineparsenet": {"fine_size": [32, 48], "filters": [4, 6, 8, 8, 8]},
    "s2anet": {"num_slices": 3, "out_channels": 4},
}


def small_bundle(name: str, folder: Path, weights: bool = True) -> Path:
    """Configurations with a small network, and weights for it."""
    shutil.copytree(bundle(name).folder / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    changes = {**TINY[name].options, **SMALLER.get(name, {})}
    path.write_text(json.dumps(config | {key: value for key, value in changes.items() if key in config}))
    if weights:
        write_random_weights(folder, seed=0)
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / "models").iterdir())


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the packages are not installed, which is also much quicker."""
    monkeypatch.setattr(onnx_form, "PACKAGES", ("onnx", "no_such_package"))


def test_both_forms_of_a_network_are_written_and_agree_with_it(tmp_path: Path) -> None:
    for package in onnx_form.PACKAGES:
        pytest.importorskip(package)
    folder = small_bundle("s2anet", tmp_path / "s2anet")
    found = write_forms(folder)
    assert files_of(folder) == ["models/model.onnx", "models/model.pt", "models/model.ts"]
    scripted, onnx = found.forms
    assert (scripted.kind, scripted.made_by) == ("TorchScript", "scripting")
    assert (onnx.kind, onnx.made_by, onnx.sizes) == ("ONNX", "torch.export", "multiples of 8 from 16 on")
    for form in found.forms:
        assert [one.shape for one in form.comparisons] == [(1, 3, 32, 32), (1, 3, 64, 64), (2, 3, 48, 64)]
        assert all(0 < one.difference < 1e-4 * one.largest and one.same_labels > 0.999 for one in form.comparisons)
    assert set(found.versions) == {"torch", *onnx_form.PACKAGES}
    assert json.loads((folder / REPORT).read_text()) == json.loads(json.dumps(found.to_json()))

    session = onnx_form.onnx_session(folder / "models" / "model.onnx")
    _, metadata, extra = load_net_with_metadata(folder / "models" / "model.ts", more_extra_files=["inference.json"])
    assert session(torch.zeros(3, 3, 16, 24)).shape == (3, 4, 16, 24)
    assert metadata["bundle"] == "s2anet"
    assert json.loads(extra["inference.json"])["network_def"]["_target_"] == "custom_nets.S2aNet"


def test_a_network_tied_to_one_size_is_written_by_stages_and_says_why(tmp_path: Path, no_onnx: None) -> None:
    folder = small_bundle("spineparsenet", tmp_path / "spineparsenet")
    found = write_forms(folder, volume=[3, 20, 24])
    assert files_of(folder) == [
        *("models/coarse.ts", "models/model.pt", "models/model_3x20x24.ts", "models/refinement.ts")
    ]
    assert [form.made_by for form in found.forms] == ["scripting", "scripting", "tracing"]
    reasons = {one.file: one.reason for one in found.left_out}
    assert "scikit-image" in reasons["models/model.ts"] and "scikit-image" in reasons["models/model.onnx"]
    assert "pip install onnx no_such_package" in reasons["models/coarse.onnx"]
    assert "onnx" not in found.versions and found.opset is None

    whole = built(folder)
    whole.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    image, logits = torch.rand(2, 1, 48, 64), torch.rand(2, whole.labels, 5, 7)
    with torch.no_grad():
        found_logits = torch.jit.load(folder / "models" / "refinement.ts")(image, logits)
        torch.testing.assert_close(found_logits, whole.refinement(image, logits), atol=1e-4, rtol=1e-4)


def test_the_first_stage_alone_has_one_form(tmp_path: Path, no_onnx: None) -> None:
    folder = small_bundle("spineparsenet", tmp_path / "spineparsenet", weights=False)
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stages": "coarse"}))
    assert [part.name for part in parts_of(built(folder), folder)] == ["coarse"]


def test_a_form_that_differs_is_refused_and_no_file_is_left(
    tmp_path: Path, no_onnx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_bundle("spineparsenet", tmp_path / "spineparsenet")
    load = torch.jit.load

    def spoiled(file: Path) -> Any:
        form = load(file)
        return form if "coarse" in file.name else lambda *inputs: form(*inputs) + 1e-2

    monkeypatch.setattr(forms.torch.jit, "load", spoiled)
    with pytest.raises(InputError, match=r"models/refinement.ts: on an input of 1 x 1 x 32 x 48 .* by 0\.01"):
        write_forms(folder)
    assert files_of(folder) == ["models/model.pt"]
    assert not (folder / REPORT).exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = small_bundle("s2anet", tmp_path / "s2anet")
    torch.save({"head.weight": torch.zeros(1)}, folder / "models" / "model.pt")
    with pytest.raises(InputError, match="no checkpoint of this S2aNet"):
        write_forms(folder)


def test_a_network_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(InputError, match="a Linear: forms are known of GCSN"):
        exportable(nn.Linear(1, 1))


@pytest.mark.parametrize("volume", [[3, 4], [0, 4, 4], [3, 4, 4.0], "big"])
def test_a_volume_that_is_none_is_refused(volume: Any, tmp_path: Path) -> None:
    folder = small_bundle("spineparsenet", tmp_path / "spineparsenet")
    with pytest.raises(InputError, match="three numbers of voxels"):
        write_forms(folder, volume=volume)


@pytest.mark.parametrize("name", available())
def test_sizes_of_the_comparisons_follow_the_metadata(name: str, tmp_path: Path) -> None:
    folder = small_bundle(name, tmp_path / name, weights=False)
    expected = {
        "rsanet": [(1, 3, 32, 32, 32), (1, 3, 48, 48, 48), (2, 3, 32, 64, 48)],
        "s2anet": [(1, 3, 32, 32), (1, 3, 64, 64), (2, 3, 48, 64)],
        "s2ca_net": [(1, 4, 128, 128, 128)],
        "spineparsenet": [(1, 1, 8, 24, 32), (2, 1, 18, 36, 44)],
        "zoom_resunet": [(1, 1, 16, 16, 16), (1, 1, 24, 24, 24), (2, 1, 16, 32, 24), (1, 1, 17, 35, 29)],
    }
    part = parts_of(built(folder), folder)[0]
    assert [one[0] for one in part.shapes] == expected[name]
    assert all(torch.equal(a, b) for a, b in zip(*(part.examples(part.shapes[0]) for _ in "ab"), strict=True))


def test_a_rule_of_sizes_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = small_bundle("s2anet", tmp_path / "s2anet", weights=False)
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = ["8*n+p", "*"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=r"spatial_shape \['8\*n\+p', '\*'\]"):
        parts_of(built(folder), folder)


def test_difference_and_labels_are_measured() -> None:
    network = nn.Identity()
    x = torch.tensor([[[1.0, -4.0]], [[0.0, 2.0]]]).reshape(1, 2, 1, 2)  # argmax: 0, 1
    found = compare(lambda x: (x + torch.tensor([0.0, 0.5])).numpy(), network, [x])
    assert found == Comparison((1, 2, 1, 2), 0.5, 4.0, 1.0)
    assert compare(lambda x: -x, network, [x]).same_labels == 0
    assert compare(lambda x: x - 1.5, network, [x[:, 1:]]).same_labels == 1  # one channel: the sign, 0 2 and -1.5 0.5
    assert compare(lambda x: x - 3, network, [x[:, 1:]]).same_labels == 0.5


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Comparison((1, 2, 8, 8), 2e-4, 1.0, 1.0), r"m.onnx: .* 1 x 2 x 8 x 8 .* by 0.0002 where 0.0001 is allowed"),
        (Comparison((1, 2, 8, 8), float("nan"), 1.0, 0.0), "by nan"),
        (Comparison((1, 2, 8, 8), 0.0, float("inf"), 0.0), "largest output is inf"),
        (compare(lambda x: x[:, :1], nn.Identity(), [torch.zeros(1, 2, 8, 8)]), "by the shape of the output"),
    ],
)
def test_what_does_not_agree_is_refused(found: Comparison, told: str) -> None:
    good = Comparison((1, 2, 8, 8), 0.99e-4, 1.0, 1.0)
    require_agreement(Form("m.onnx", "ONNX", "torch.export", "any", (good,)))
    with pytest.raises(InputError, match=told):
        require_agreement(Form("m.onnx", "ONNX", "torch.export", "any", (good, found)))


class Cancelling(nn.Module):
    """Loses up to 4 of its output's 64 in float32, a step of 8 of numbers near 1e8."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add something small to something large, and take the large away."""
        return (x + 1e8) - 1e8


@pytest.mark.parametrize(("off", "agrees"), [(0.0, True), (4.0, True), (15.0, True), (17.0, False)])
def test_a_form_may_be_as_far_off_as_float32_makes_the_network_itself(off: float, agrees: bool) -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 64.0]).reshape(1, 1, 1, 5)
    found = compare(lambda x: Cancelling()(x) + off, Cancelling(), [x])
    assert (found.largest, found.difference, found.agrees) == (64.0, off, agrees)
    assert found.rounding == (4.0 if off else 0.0), "measured only where it is needed"


def test_the_table_has_a_line_for_each_size_and_the_reasons() -> None:
    one = Comparison((1, 2, 8, 8), 1.234e-6, 5.0, 1.0)
    other = Comparison((2, 2, 16, 8), 2e-6, 5.0, 0.9999999)
    form = Form("models/model.ts", "TorchScript", "scripting", "all that the network takes", (one, other))
    left_out = (LeftOut("models/model.onnx", "Too large."), LeftOut("models/other.onnx", "Too large."))
    text = parity_table(Parity("Net", "trained", {"torch": "2.13.0"}, None, (form,), left_out, ("A note.",)))
    assert (
        "| `models/model.ts` | scripting | all that the network takes | 1 x 2 x 8 x 8 | 1.2e-06 | 5 | 100 % |" in text
    )
    assert "| 2 x 2 x 16 x 8 | 2.0e-06 | 5 | 99.9999 % |" in text
    assert "of the largest output." in text
    lossy = replace(form, comparisons=(one, replace(other, rounding=0.25)))
    told = parity_table(Parity("Net", "trained", {"torch": "2.13.0"}, None, (lossy,)))
    assert "or 4 times what the network itself loses in float32, up to 2.5e-01 with these weights." in told
    assert "- not written, `models/model.onnx`, `models/other.onnx`: Too large." in text
    assert text.endswith("- A note.") and "opset" not in text


def test_random_weights_leave_no_part_idle() -> None:
    torch.manual_seed(0)  # weights near 0 leave the norm's epsilon in sight
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).eval()
    nn.init.zeros_(network[0].bias)
    weight = network[0].weight.clone()
    stir(network, seed=0)
    assert (network[0].bias != 0).all() and network[1].weight.unique().numel() == 2
    assert torch.equal(network[0].weight, weight)
    x = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (2, 1, 4, 4, 4)).astype(np.float32))
    settle_norms(network, [x])
    assert not network[1].training and network[1].momentum == 0.1
    with torch.no_grad():
        network[1].weight.fill_(1.0)
        network[1].bias.fill_(0.0)
        normalised = network(x)
    assert normalised.mean().abs() < 1e-5 and float(normalised.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm3d(4), nn.InstanceNorm3d(4, affine=True), nn.GroupNorm(2, 4), nn.GroupNorm(2, 4, affine=False)],
    ids=str,
)
def test_norms_of_an_exported_graph_are_written_out(norm: nn.Module) -> None:
    stir(norm.eval(), seed=0)
    x = torch.from_numpy(np.random.default_rng(0).normal(100, 1, (2, 4, 3, 5, 7)))
    exported = torch.export.export(norm.double(), (x,), dynamic_shapes=({0: Dim("batch"), 2: Dim("depth")},))
    accurate = with_accurate_norms(exported)
    assert not [node for node in accurate.graph.nodes if "norm" in str(node.target)]
    x = torch.cat([x, x + 1])[:, :, :2]
    torch.testing.assert_close(accurate.module()(x), norm(x), rtol=1e-9, atol=1e-9)


def test_the_tolerance_is_the_one_that_the_table_tells() -> None:
    assert f"{parity.TOLERANCE:g} of the largest" in parity_table(Parity("Net", "trained", {}, None, ()))
