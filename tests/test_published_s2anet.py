# SPDX-License-Identifier: Apache-2.0
"""Files of S2aNet's authors, bare state dicts of many networks, become ours; what their names mean is told or asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_nets import registry
from custom_nets.checkpoints import from_official, load_weights, read_checkpoint, unwrap
from custom_nets.errors import InputError
from custom_nets.nets.s2anet import S2aNet
from custom_nets.published.s2anet import network_options
from tests import s2anet_files
from tests.recipe import arrays, document, image
from tests.reference import s2anet as reference
from tests.s2anet_files import NETWORKS, StateDict, entries, official
from tools import convert_checkpoint
from tools._command import run

SLICE_ORDERS = ("ascending", "centre_first")
AMBIGUOUS = ("msacunet_v1_centrefirst_c5_fs8", "nslices3_c5_fs8")
DEFAULTS = {
    "in_channels": 1,
    "num_slices": 3,
    "share_encoder": True,
    "skip": "all",
    "up": "transposed",
    "norm": "batch",
    "poolings": 3,
    "scale_aware": "bottom",
}


def empty(name: str) -> StateDict:
    """The state dict of a golden without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in entries(name).items()}


def of_scale(scale: float, classes: int = 2, **options: Any) -> StateDict:
    with torch.device("meta"):
        return reference.S2aNet(n_classes=classes, feature_scale=scale, **options).state_dict()


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_tell_the_network(name: str) -> None:
    assert network_options(empty(name)) == DEFAULTS | s2anet_files.network_options(name)


@pytest.mark.parametrize("scale", [0.5, 1, 1.5, 1.6, 2, 3, 7, 8, 12.5, 31, 64])
def test_widths_tell_the_feature_scale(scale: float) -> None:
    told = network_options(of_scale(scale))
    assert told["out_channels"] == 2
    with torch.device("meta"):
        network = S2aNet(**told)
    assert network.state_dict().keys() == from_official("s2anet", of_scale(scale)).keys()
    if scale <= 8:  # widths of few channels are those of many scales
        assert told["feature_scale"] == scale


def logits(state: StateDict, name: str) -> Tensor:
    network = S2aNet(**s2anet_files.network_options(name)).eval()
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        return network(image(document("s2anet")["networks"][name]["input_shape"]))


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_the_order_of_three_slices_is_asked_for(name: str) -> None:
    state, right = official(name), NETWORKS[name][2]["slice_order"]
    with pytest.raises(InputError) as refusal:
        from_official("s2anet", state)
    for words in ("--slice_order centre_first", "macunet or msacunet", "3_slices_", "previous, centre, next"):
        assert words in str(refusal.value)
    golden = torch.from_numpy(arrays("s2anet")[name])
    for order in SLICE_ORDERS:
        error = (logits(from_official("s2anet", state, slice_order=order), name) - golden).abs().max()
        assert (error < 3e-5 * golden.std()) == (order == right)


def test_the_two_orders_are_a_permutation_of_channels() -> None:
    state = official("nslices3_c5_fs8")
    ascending, centre_first = (from_official("s2anet", state, slice_order=order) for order in SLICE_ORDERS)
    changed = {key for key, value in ascending.items() if not torch.equal(value, centre_first[key])}
    assert changed == {"slice_aware.conv1.conv.weight", *(f"decoder{level}.conv1.weight" for level in (1, 2, 3))}
    for key in changed:
        f = ascending[key].shape[1] // (3 if key.startswith("slice") else 4)
        first = 0 if key.startswith("slice") else f
        previous, centre, following = ascending[key][:, first:].split(f, dim=1)
        found = centre_first[key]
        assert torch.equal(found[:, :first], ascending[key][:, :first])
        assert torch.equal(found[:, first:], torch.cat([centre, previous, following], dim=1))


@pytest.mark.parametrize("order", SLICE_ORDERS)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in (*AMBIGUOUS, "s2anet_c55_fs1")])
def test_an_order_that_the_layout_tells_must_be_that_one(name: str, order: str) -> None:
    options = NETWORKS[name][1]
    told = "centre_first" if options.get("skip") == "centre" else "ascending"
    if order == told or options.get("num_slices") == 1:
        found = from_official("s2anet", official(name), slice_order=order)
        expected = from_official("s2anet", official(name))
        assert all(torch.equal(value, expected[key]) for key, value in found.items())
    else:
        with pytest.raises(InputError, match=rf"slice_order '{order}': .* in the order '{told}'"):
            from_official("s2anet", empty(name), slice_order=order)


def test_an_unknown_order_is_refused() -> None:
    for name in ("s2anet_c5_fs8", "nslices3_c5_fs8", "unet1_c5_fs8"):
        with pytest.raises(InputError, match="slice_order 'descending': choose one of ascending, centre_first"):
            from_official("s2anet", empty(name), slice_order="descending")


@pytest.mark.parametrize("network", ["FCN", "PSPNet"])
def test_the_networks_on_a_resnet_are_refused_by_name(network: str) -> None:
    listing = json.loads((s2anet_files.GOLDENS / "s2anet" / "keys_variants.json").read_text(encoding="utf-8"))[network]
    state = {key: torch.empty(shape, device="meta") for key, shape in listing}
    with pytest.raises(InputError, match="FCN and PSPNet, which are not part of this collection"):
        from_official("s2anet", state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.conv1.0.weight": None}, "missing     encoders.0.level1.conv1.conv.weight"),
        ({"conv1.conv1.0.weight": torch.zeros(())}, r"mis-shaped  encoders.0.level1.conv1.conv.weight: found \[\]"),
        ({"extra": torch.zeros(2)}, r"1 of 112 entries disagree(.|\n)*unexpected  extra \[2\]"),
        ({"SCaM.b3.block.0.weight": torch.zeros(3)}, r"1 of 112 entries disagree(.|\n)*scale_aware.branches.3.conv"),
        ({"final.weight": torch.zeros(3)}, r"mis-shaped  head.weight: found \[3\]"),
        ({"conv2.conv1.0.weight": torch.zeros(5, 8, 3, 3)}, r"1 of 112(.|\n)*level2.conv1.conv.weight: found \[5, 8"),
        ({"conv3.conv2.1.running_var": None}, r"1 of 112(.|\n)*missing     encoders.0.level3.conv2.norm.running_var"),
    ],
    ids=str,
)
def test_disagreements_are_named(change: dict[str, Any], message: str) -> None:
    state = empty("s2anet_c5_fs8") | change
    with pytest.raises(InputError, match=message):
        from_official("s2anet", {key: value for key, value in state.items() if value is not None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": "centre"}, r"mis-shaped  decoder1.conv1.weight: found \[8, 32, 3, 3\], expected \[8, 16, 3, 3\]"),
        ({"out_channels": 55}, "mis-shaped  head.weight"),
        ({"norm": "none"}, "unexpected  encoders.0.level1.conv1.norm.weight"),
        ({"num_slices": 4}, "make no S2aNet: num_slices 4"),
        ({"feature_scale": 0}, "make no S2aNet: .*feature_scale 0"),
        ({"width": 4}, "make no S2aNet: .*unexpected keyword argument 'width'"),
    ],
    ids=str,
)
def test_options_are_checked_against_the_file(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_official("s2anet", empty("s2anet_c5_fs8"), **options)


def test_another_bundles_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)unexpected  ec0.conv1.weight .*missing|missing.*unexpected  ec0"):
        from_official("s2anet", {"ec0.conv1.weight": torch.zeros(2, 1, 3, 3, 3)})


# The tool, with a bundle whose network_def is small


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle" / "configs"
    folder.mkdir(parents=True)
    defined = {"_target_": "custom_nets.S2aNet", "num_slices": 3, "out_channels": 5, "feature_scale": "@scale"}
    (folder / "train.json").write_text(json.dumps({"scale": 8, "network_def": defined}), encoding="utf-8")
    small = dataclasses.replace(registry.bundle("s2anet"), folder=folder.parent)
    monkeypatch.setattr(convert_checkpoint, "available", lambda: {"s2anet": small})


def convert(name: str, folder: Path, *options: str, zipped: bool = True) -> Path:
    """Save a golden's state dict as its authors do, and convert it."""
    source, out = folder / f"{name}.pkl", folder / "ours.pt"
    torch.save(official(name), source, _use_new_zipfile_serialization=zipped)
    run(convert_checkpoint.convert, ["s2anet", str(source), str(out), *options])
    return out


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.usefixtures("bundle")
def test_a_pkl_file_of_either_format_is_read(zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = convert("s2anet_c5_fs8", tmp_path, zipped=zipped)
    assert "112 entries" in (printed := capsys.readouterr().out)
    assert printed.endswith("it loads with strict=True into the network of bundle s2anet\n")
    load_weights(S2aNet(feature_scale=8, out_channels=5), out)
    assert unwrap(read_checkpoint(tmp_path / "s2anet_c5_fs8.pkl")).keys() == entries("s2anet_c5_fs8").keys()


@pytest.mark.parametrize(
    ("prefix", "options"), [("SCaM.", []), ("aspp.", ["--slice_order", "centre_first"])], ids=["SCaM", "aspp"]
)
def test_the_published_size_fits_the_bundle(
    prefix: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {key.replace("SCaM.", prefix): torch.zeros(shape) for key, shape in entries("s2anet_c55_fs1").items()}
    source, out = tmp_path / "macunet_w_3006.pkl", tmp_path / "ours.pt"
    torch.save(state, source)
    run(convert_checkpoint.convert, ["s2anet", str(source), str(out), *options])
    assert capsys.readouterr().out.endswith("it loads with strict=True into the network of bundle s2anet\n")
    S2aNet().load_state_dict(read_checkpoint(out), strict=True)


@pytest.mark.parametrize(
    "name", ["msacunet_v1_centrefirst_c5_fs8", "msacunet_centreskip_c5_fs8", "unet3_c5_fs8", "nslices5_c5_fs8"]
)
@pytest.mark.usefixtures("bundle")
def test_the_tool_converts_the_variants(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, of_network, of_file = NETWORKS[name]
    typed = [part for key, value in (of_network | of_file).items() for part in (f"--{key}", str(value))]
    out = convert(name, tmp_path, *typed)
    named = "".join(f" --{key} {value}" for key, value in of_network.items())
    assert f"bundle s2anet{' with' + named if named else ''}\n" in capsys.readouterr().out
    golden = torch.from_numpy(arrays("s2anet")[name])
    torch.testing.assert_close(logits(read_checkpoint(out), name), golden, atol=3e-5 * golden.std().item(), rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nslices3_c5_fs8", [], "--slice_order centre_first"),
        ("nslices3_c5_fs8", ["--slice_order", "previous"], "slice_order 'previous': choose one of"),
        ("s2anet_c5_fs8", ["--slice_order", "centre_first"], "in the order 'ascending'"),
        ("munet_c5_fs8", [], "as --option value, here --skip centre --poolings 4 --scale_aware none: "),
        ("a2unet_c5_fs8", ["--num_slices", "1"], "as --option value, here --scale_aware level2: "),
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
