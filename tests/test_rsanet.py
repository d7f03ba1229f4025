# SPDX-License-Identifier: Apache-2.0
"""RSANet against its golden numbers, on the path with gradients (as published) and without (folded, fused, split)."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from custom_nets.blocks.decoder import DecoderLevel
from custom_nets.blocks.slice_attention import RSABlock
from custom_nets.checkpoints import from_official
from custom_nets.nets.rsanet import RSANet
from tests.recipe import GOLDENS, arrays, document, image, recipe_state, relative_l2, slice_attention_weight
from tests.reference import rsanet as reference

ARRAYS = arrays("rsanet")
SHAPES = document("rsanet")["shapes"]
OFFICIAL = document("rsanet")["official"]
ATOL = 1e-4
SMALL = (16, 16, 16, 16, 32)

#: With gradients the published form runs, without them the folded block, the split decoder and the fused head.
PATHS = {"published": torch.enable_grad, "fast": torch.no_grad}
both_paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
Path = type[AbstractContextManager]


def official_state(regime: str) -> dict[str, Tensor]:
    keys = json.loads((GOLDENS / "rsanet" / "keys.json").read_text(encoding="utf-8"))
    return {key: slice_attention_weight(key, tuple(shape), regime) for key, shape in keys}


@pytest.fixture(scope="module")
def network() -> RSANet:
    return RSANet().eval()


def filled(network: RSANet, regime: str) -> RSANet:
    network.load_state_dict(from_official("rsanet", official_state(regime)))
    return network


def small(**options: Any) -> RSANet:
    """A network of few channels with every beta on."""
    torch.manual_seed(0)
    network = RSANet(**{"filters": SMALL} | options).eval()
    for name, parameter in network.named_parameters():
        if ".betas." in name or name.endswith("attention.out.weight"):
            nn.init.constant_(parameter, 0.5)
    return network


def assert_golden(value: Tensor, name: str) -> None:
    value = value.detach()[..., ::2, ::2, ::2] if name.endswith("_s2") else value.detach()
    np.testing.assert_allclose(value.numpy(), ARRAYS[name], rtol=0, atol=ATOL)


def assert_stats(value: Tensor, name: str) -> None:
    expected = OFFICIAL[name]
    assert list(value.shape) == expected["shape"]
    found = {"mean": value.mean().item(), "std": value.std().item(), "l2": value.norm().item()}
    assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-5, abs=1e-6)


@both_paths
@pytest.mark.parametrize(
    ("regime", "size", "outputs", "inner"),
    [
        ("hard", "even", ["net_even"], {"bottleneck": "net_even_center", "attention": "net_even_rsa"}),
        ("soft", "even", ["net_soft_s2", "net_soft_stats"], {"attention": "net_soft_rsa"}),
        ("soft", "odd", ["net_odd_soft"], {"attention": "net_odd_soft_rsa"}),
        ("hard", "odd", ["net_odd_s2", "net_odd_stats"], {}),
        ("beta0", "odd", ["net_odd_beta0_s2", "net_odd_beta0_stats", "unet_odd_s2", "unet_odd_stats"], {}),
    ],
)
def test_golden_outputs(
    network: RSANet, path: Path, regime: str, size: str, outputs: list[str], inner: dict[str, str]
) -> None:
    seen: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name in inner
    ]
    with path():
        logits = filled(network, regime)(image(SHAPES[size]))
    for hook in hooks:
        hook.remove()
    for name, golden in inner.items():
        assert_golden(seen[name], golden)
    for golden in outputs:
        (assert_stats if golden.endswith("_stats") else assert_golden)(logits, golden)


@both_paths
@pytest.mark.parametrize(("norm", "groups"), [("GN_4", 4), ("BN", None)])
def test_golden_outputs_of_other_channels_and_norms(path: Path, norm: str, groups: int | None) -> None:
    with torch.device("meta"):
        published = reference.RSANet(in_channels=1, out_channels=4, groups=groups)
    state = from_official("rsanet", recipe_state(published, "soft"), norm=norm)
    network = RSANet(in_channels=1, out_channels=4, norm=norm).eval()
    network.load_state_dict(state)
    name = "net_alt_bn" if norm == "BN" else "net_alt_gn4"
    with path():
        logits = network(image(SHAPES["alt"]))
    assert_golden(logits, f"{name}_s2")
    assert_stats(logits, f"{name}_stats")


@both_paths
def test_at_beta_zero_the_network_is_the_plain_unet_bit_for_bit(network: RSANet, path: Path) -> None:
    filled(network, "beta0")
    plain = RSANet(block="none").eval()
    state = network.state_dict()
    plain.load_state_dict({name: value for name, value in state.items() if not name.startswith("attention.")})
    with path():
        x = image((1, 3, 7, 18, 21))
        assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize(("regime", "golden"), [("soft", "grad_net_odd_soft"), ("hard", "grad_net_odd")])
def test_golden_gradients_in_float64(regime: str, golden: str) -> None:
    network = filled(RSANet().eval(), regime).double()
    x = image(SHAPES["odd"]).double().requires_grad_()
    logits = network(x)
    loss = (logits * image(logits.shape, "cotangent").double()).sum()
    loss.backward()
    gradients = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    state = official_state(regime)
    our_name = dict(zip(state, from_official("rsanet", state), strict=True))  # converting keeps the order
    for key, expected in OFFICIAL[golden].items():
        found = loss.item() if key == "loss" else x.grad.norm().item() if key == "input" else gradients[our_name[key]]
        assert found == pytest.approx(expected["float64"], rel=1e-6), key
    assert gradients["attention.phi_conv.bias"] < 1e-9 * gradients["attention.phi_conv.weight"]


@pytest.mark.parametrize(("options", "count"), [({}, 24_554_339), ({"block": "none"}, 23_766_368)])
def test_parameter_counts(options: dict[str, str], count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in RSANet(**options).parameters()) == count


@pytest.mark.parametrize(
    ("shape", "whole", "attention", "head"),
    [((32, 48, 64), 28.266e9, 0.0568e9, 2.724e9), ((96, 96, 96), 254.397e9, 0.5136e9, 24.518e9)],
)
def test_multiply_accumulates(shape: tuple[int, ...], whole: float, attention: float, head: float) -> None:
    with torch.device("meta"):
        network = RSANet().eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, *shape))
    counts = counter.get_flop_counts()
    assert counter.get_total_flops() / 2 == pytest.approx(whole, rel=1e-4)
    assert sum(counts["RSANet.attention"].values()) / 2 == pytest.approx(attention, rel=2e-3)
    assert sum(counts["RSANet.head"].values()) / 2 == pytest.approx(head, rel=1e-3)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"conv_block": "resV1", "down": "resV1", "up": "trilinear"},
    {"conv_block": "resV2", "down": "resV2", "norm": "BN", "attention_at": "111"},
    {"down": "maxpool", "up": "transposed", "norm": "LN", "scaled_attention": True},
    {"block": "non-local", "attention_at": "101", "norm": "GN"},
    {"norm": "IN", "directions": ["axial", "coronal"], "in_channels": 1, "out_channels": 5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 5), (7, 9, 11), (17, 24, 33)], ids=str)
def test_any_size_and_both_paths_agree(options: dict[str, Any], size: tuple[int, ...]) -> None:
    network = small(**options)
    x = image((2, options.get("in_channels", 3), *size))
    if options.get("norm") == "IN" and max(size) <= 16:
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            network(x)
        return
    published = network(x).detach()
    with torch.no_grad():
        fast = network(x)
    assert published.shape == (2, options.get("out_channels", 2), *size)
    torch.testing.assert_close(fast, published, atol=1e-5, rtol=1e-5)


def test_the_split_decoder_runs_at_usual_sizes_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = small(), image((1, 3, 32, 32, 48))
    ran = []
    split = DecoderLevel._forward_split

    def spy(self: DecoderLevel, x: Tensor, skip: Tensor) -> Tensor:
        ran.append(self)
        return split(self, x, skip)

    monkeypatch.setattr(DecoderLevel, "_forward_split", spy)
    with torch.no_grad():
        fast = network(x)
    assert ran == [network.decoder2, network.decoder1]
    torch.testing.assert_close(fast, network(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "group"}, "norm 'group' is unknown: choose 'GN'"),
        ({"norm": "GN_0"}, "norm 'GN_0' is unknown"),
        ({"norm": "GN_"}, "norm 'GN_' is unknown"),
        ({"norm": "GN_7"}, "16 channels do not divide into 7 groups"),
        ({"conv_block": "VGG"}, "conv_block 'VGG' is unknown: choose one of"),
        ({"down": "stride"}, "down 'stride' is unknown: choose 'conv'"),
        ({"up": "bilinear"}, "up 'bilinear' is unknown: choose 'nearest'"),
        ({"block": "RSA"}, "block 'RSA' is unknown: choose 'rsa'"),
        ({"block": "se", "attention_at": "000"}, "block 'se' is unknown"),
        ({"attention_at": "01"}, "attention_at '01': give three digits"),
        ({"attention_at": "012"}, "attention_at '012': give three digits"),
        ({"directions": []}, "name each of"),
        ({"directions": ["axial", "axial"]}, "at most once"),
        ({"directions": ["transverse"]}, r"directions \['transverse'\]"),
        ({"filters": (16, 16)}, "give the channels of the five levels"),
        ({"dropout": 1.5}, "dropout"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RSANet(**{"filters": SMALL} | options)


PLACES = ("attention_encoder4", "attention", "attention_decoder4")


@pytest.mark.parametrize("mask", ["000", "100", "010", "001", "110", "111"])
def test_attention_at_chooses_the_places(mask: str) -> None:
    network = small(attention_at=mask, filters=(16, 16, 16, 24, 32))
    maps = network.attention_maps(image((2, 3, 32, 48, 64)))
    chosen = [place for place, digit in zip(PLACES, mask, strict=True) if digit == "1"]
    assert [name for name, child in network.named_children() if isinstance(child, RSABlock)] == chosen
    assert list(maps) == [f"{place}.{direction}" for place in chosen for direction in ("coronal", "sagittal", "axial")]
    for name, attention in maps.items():
        coarse = 16 if name.startswith("attention.") else 8
        length = {"axial": 32, "coronal": 48, "sagittal": 64}[name.rpartition(".")[2]] // coarse
        assert attention.shape == (2, length, length)
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, length))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_dropout_takes_whole_channels_of_the_stem_in_train_mode_only() -> None:
    network = small(dropout=0.5)
    x = image((1, 3, 8, 8, 8))
    torch.manual_seed(0)
    stem = network.stem.train()(x)
    dropped = (stem == 0).flatten(2).all(dim=2)
    assert 0 < dropped.sum() < 16
    torch.testing.assert_close(stem[~dropped], 2 * network.stem.eval()(x)[~dropped])


@both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_reduced_precision_stays_finite_and_near(path: Path, dtype: torch.dtype) -> None:
    network, x = small(), image((1, 3, 16, 16, 32))
    with path():
        exact = network(x)
        with torch.autocast("cpu", dtype=dtype):
            reduced = network(x)
    assert reduced.isfinite().all()
    error = relative_l2(reduced.detach().float(), exact.detach())
    assert error < (0.05 if dtype == torch.bfloat16 else 0.01)
