# SPDX-License-Identifier: Apache-2.0
"""Files of S2CA-Net's authors become ours; names and shapes tell which network of the ablation they are of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from custom_nets import registry
from custom_nets.checkpoints import from_official, load_weights, read_checkpoint
from custom_nets.errors import InputError
from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.published.s2ca_net import network_options
from tests.recipe import arrays, image, relative_l2
from tests.s2ca_net_files import NETWORKS, StateDict, empty, entries, file_options, listing, official
from tests.test_s2ca_net import GOLDENS
from tools import convert_checkpoint
from tools._command import run

#: What is told of every network.
PAPER = {"in_channels": 4, "out_channels": 4, "filters": (16, 32, 64, 128)}
PAPER |= {"local_global": True, "context": "strided", "deformable": "added"}
#: What is told where there are global branches.
GLOBAL = {"patch_size": 128, "embed_channels": (256, 512), "encoder_depths": (6, 2), "decoder_depths": (4, 2)}
FEW: dict[str, Any] = {"filters": (4, 8, 16, 32), "embed_channels": (16, 32)}


@pytest.mark.parametrize(
    ("name", "options"), [("keys", {}), ("keys_published_checkpoint", NETWORKS["ckptcfg_p32"])], ids=["paper", "file"]
)
def test_the_listings_are_those_of_two_networks(name: str, options: dict[str, Any]) -> None:
    assert entries(128, **options) == dict(listing(name))
    state = {key: torch.empty(shape, device="meta") for key, shape in listing(name)}
    with torch.device("meta"):
        network = S2CANet(**options)
    network.load_state_dict(from_official("s2ca_net", state), strict=True, assign=True)


@pytest.mark.parametrize("patch_size", [128, 24])
@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_tell_the_network(name: str, patch_size: int) -> None:
    options = NETWORKS[name]
    told = network_options(empty(patch_size, **options))
    expected = PAPER | (GLOBAL | {"patch_size": patch_size} if options.get("local_global", True) else {}) | options
    if options.get("deformable") == "replacing":  # the only thing that a file does not tell
        expected["deformable"] = "added"
    assert told == expected


def test_channels_in_and_out_are_told() -> None:
    state = empty(16, **FEW) | {"backbone.conv0_0.conv1.dwconv.weight": torch.empty(2, 1, 3, 3, 3)}
    state |= {
        "backbone.conv0_0.conv1.pwconv.weight": torch.empty(4, 2, 1, 1, 1),
        "backbone.conv0_0.identity_mapping.conv.weight": torch.empty(4, 2, 1, 1, 1),
    }
    for level, width in enumerate(FEW["filters"]):
        state |= {f"convds{level}.weight": torch.empty(3, width, 1, 1, 1), f"convds{level}.bias": torch.empty(3)}
    told = network_options(state)
    assert (told["in_channels"], told["out_channels"]) == (2, 3)
    network = S2CANet(**told)
    network.load_state_dict({key: torch.zeros(value.shape) for key, value in from_official("s2ca_net", state).items()})


@pytest.mark.parametrize("name", NETWORKS)
def test_conversion_is_strict_and_keeps_every_used_number(name: str) -> None:
    options = NETWORKS[name]
    state = empty(16, **FEW | options)
    converted = from_official("s2ca_net", state, **file_options(options))
    with torch.device("meta"):
        network = S2CANet(patch_size=16, **FEW | options)
    network.load_state_dict(converted, strict=True, assign=True)
    assert len(state) - len(converted) == sum(map(needless(state), state))


def needless(state: StateDict) -> Any:
    """What the published code stores and does not use."""

    def is_needless(key: str) -> bool:
        shortcut = key.endswith("identity_mapping.conv.weight") and state[key].shape[0] == state[key].shape[1]
        return (
            shortcut
            or key.endswith("identity_mapping.act.weight")
            or key.startswith("skip_0")
            or (key.startswith("gate") and ".act." in key)
        )

    return is_needless


def wrappings(state: StateDict) -> dict[str, Any]:
    prefixed = {f"module.{key}": value for key, value in state.items()}
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, weight_decay=1e-5)
    parameter.sum().backward()
    optimizer.step()
    beside = {
        "optimizer": optimizer.state_dict(),
        "scheduler": {"base_lrs": [1e-3], "cycle_steps": 9, "last_epoch": 3, "max_lr": 1e-3, "_step_count": 4},
        "epoch": 400,
    }
    return {"net": {"net": state} | beside, "data parallel": {"net": prefixed} | beside, "bare": state}


@pytest.mark.parametrize("wrapping", ["net", "data parallel", "bare"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files_are_read_without_running_what_they_hold(wrapping: str, zipped: bool, tmp_path: Path) -> None:
    state = official(16, **FEW)
    file = tmp_path / "s2ca-net_fold_2.pkl"
    torch.save(wrappings(state)[wrapping], file, _use_new_zipfile_serialization=zipped)
    found, expected = from_official("s2ca_net", read_checkpoint(file)), from_official("s2ca_net", state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convds0.bias": None}, r"1 of \d+ entries disagree(.|\n)*missing     head0.bias \[4\]"),
        ({"extra": torch.zeros(2)}, r"1 of \d+ entries disagree(.|\n)*unexpected  extra \[2\]"),
        (
            {"sa.conv.weight": torch.zeros(3)},
            r"1 of \d+(.|\n)*mis-shaped  context.gate.convolution.weight: found \[3\]",
        ),
        ({"skip_msadc.conv_kernel.weight": torch.zeros(24, 27, 1, 1, 1)}, r"skips.deform.kernel.weight: found \[24, 1"),
        ({"gate1_0.psi.0.norm.running_var": None}, r"1 of \d+(.|\n)*missing     gate0.norm_score.running_var"),
        ({"conv2_1.conv2.dwconv.weight": None}, "missing     decoder2.local_branch.unit2.depthwise.weight"),
        ({"conv2_1.identity_mapping.conv.weight": None}, "missing     decoder2.local_branch.shortcut.weight"),
        ({"backbone.conv2_0.conv1.pwconv.weight": torch.zeros(())}, "encoder2.local_branch.unit1.pointwise.weight"),
        ({"skip_msadc.conv_kernel.weight": torch.zeros(24, 50)}, r"skips.deform.kernel.weight: found \[24, 50\]"),
        ({"skip_msadc.conv_kernel.weight": torch.zeros(24, 50, 1, 1, 1)}, r"kernel.weight: found \[24, 50, 1, 1, 1\]"),
        ({"skip_msadc.conv_kernel.weight": torch.zeros(())}, r"skips.deform.kernel.weight: found \[\]"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_disagreements_are_named(change: dict[str, Any], message: str) -> None:
    state = empty(16, **FEW) | change
    with pytest.raises(InputError, match=message):
        from_official("s2ca_net", {key: value for key, value in state.items() if value is not None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 32}, r"mis-shaped  encoder2.global_branch.reduce.weight: found \[16, 64, 1, 1\]"),
        ({"out_channels": 3}, r"mis-shaped  head3.weight: found \[4, 32, 1, 1, 1\], expected \[3, 32, 1, 1, 1\]"),
        ({"decoder_depths": (6, 2)}, "missing     decoder2.global_branch.former.blocks.4.scale1"),
        ({"deformable": "none"}, "unexpected  skips.from0.weight"),
        ({"context": "none"}, "missing     bottom.2.unit1.depthwise.weight"),
        ({"context": "pooled"}, "make no S2CANet: context 'pooled': choose one of"),
        ({"patch_size": 20}, "make no S2CANet: patch_size 20"),
        ({"width": 4}, "make no S2CANet: .*unexpected keyword argument 'width'"),
    ],
    ids=str,
)
def test_options_are_checked_against_the_file(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_official("s2ca_net", empty(16, **FEW), **options)


def test_another_bundles_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)unexpected  ec0.conv1.weight .*missing|missing.*unexpected  ec0"):
        from_official("s2ca_net", {"ec0.conv1.weight": torch.zeros(2, 1, 3, 3, 3)})


# The tool, with a bundle whose patch is small


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = registry.bundle("s2ca_net").folder
    assert original is not None
    config = json.loads((original / "configs" / "train.json").read_text(encoding="utf-8"))
    folder = tmp_path / "bundle" / "configs"
    folder.mkdir(parents=True)
    config["patch_size"] = [32, 32, 32]
    (folder / "train.json").write_text(json.dumps(config), encoding="utf-8")
    small = dataclasses.replace(registry.bundle("s2ca_net"), folder=folder.parent)
    monkeypatch.setattr(convert_checkpoint, "available", lambda: {"s2ca_net": small})


def convert(name: str, folder: Path, *options: str) -> Path:
    """Save a golden's state dict as its authors do, and convert it."""
    source, out = folder / f"{name}.pkl", folder / "ours.pt"
    torch.save(wrappings(official(32, **NETWORKS[name]))["net"], source)
    run(convert_checkpoint.convert, ["s2ca_net", str(source), str(out), *options])
    return out


def typed(options: dict[str, Any]) -> list[str]:
    """As on a command line."""
    values = {key: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for key, v in options.items()}
    return [part for key, value in values.items() for part in (f"--{key}", value)]


def logits(network: nn.Module, name: str) -> Tensor:
    with torch.inference_mode():
        return network.eval()(image(GOLDENS[name]["input_shape"]))[..., ::2, ::2, ::2]


@pytest.mark.parametrize("name", ["net_p32b2", "ckptcfg_p32", "small_p32", "b_msadc_p32", "b_lgsm_mca_msadc_p32"])
@pytest.mark.usefixtures("bundle")
def test_the_tool_converts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = NETWORKS[name]
    out = convert(name, tmp_path, *typed(options))
    printed = capsys.readouterr().out
    assert "it loads with strict=True into the network of bundle s2ca_net" in printed
    assert all(f"--{option} " in printed for option in options)
    network = S2CANet(patch_size=32, **options)
    load_weights(network, out)
    assert relative_l2(logits(network, name), arrays("s2ca_net")[f"{name}.head3"]) < 2e-5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("baseline_p32", [], "here --local_global False --context none --deformable none"),
        ("ckptcfg_p32", [], "here --embed_channels 360,512 --decoder_depths 6,2: "),
        ("ckptcfg_p32", ["--decoder_depths", "6,2"], "here --embed_channels 360,512: "),
        ("small_p32", [], "here --filters 8,16,32,64: "),
        ("net_p32b2", ["--context", "max_pool"], "unexpected  context.down0.weight"),
        ("net_p32b2", ["--context", "pool"], "context 'pool': choose one of strided, max_pool, none"),
    ],
)
@pytest.mark.usefixtures("bundle")
def test_the_tool_says_what_to_type(
    name: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        convert(name, tmp_path, *options)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (tmp_path / "ours.pt").exists()
