# SPDX-License-Identifier: Apache-2.0
"""S2aNet and its variants against their golden numbers; what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from custom_nets.blocks.scale_aware import ScaleAwareModule
from custom_nets.checkpoints import from_official
from custom_nets.nets.s2anet import S2aNet
from tests.golden import weight
from tests.recipe import arrays, document, image
from tests.s2anet_files import NETWORKS, louder, network_options, official

ARRAYS = arrays("s2anet")
GOLDENS: dict[str, dict[str, Any]] = document("s2anet")["networks"]
CLOSE = 3e-5  # of the output's deviation

both_rules = pytest.mark.parametrize("he", [False, True], ids=["plain", "he"])


def small(**options: Any) -> S2aNet:
    """A network of few channels, whose norms do not pass their input on as it is."""
    torch.manual_seed(0)
    network = S2aNet(**{"feature_scale": 8, "out_channels": 5} | options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network


def published(name: str, he: bool = False) -> tuple[S2aNet, dict[str, str]]:
    """The network of a golden in eval mode, through its published checkpoint, and published names to ours."""
    state = official(name, he)
    converted = from_official("s2anet", state, **NETWORKS[name][2])
    network = S2aNet(**network_options(name)).eval()
    network.load_state_dict(converted, strict=True)
    return network, dict(zip(state, converted, strict=True))


def assert_close(found: Tensor, name: str) -> None:
    """Compare with an array; those of the rule "_he" hold every second row and column of an output."""
    expected = torch.from_numpy(ARRAYS[name])
    if found.shape != expected.shape:
        found = found[:, :, ::2, ::2]
    torch.testing.assert_close(found.detach(), expected, atol=CLOSE * expected.std().item(), rtol=0)


@both_rules
@pytest.mark.parametrize("name", NETWORKS)
def test_golden_output_and_gradients(name: str, he: bool) -> None:
    network, names = published(name, he)
    key = name + "_he" * he
    expected = GOLDENS[key]
    assert sum(parameter.numel() for parameter in network.parameters()) == GOLDENS[name]["parameters"]
    x = image(GOLDENS[name]["input_shape"]).requires_grad_()
    logits = network(x)
    assert_close(logits, key)
    with torch.no_grad():
        assert_close(network(x), key)
    numbers = logits.detach().double()
    assert numbers.mean().item() == pytest.approx(expected["mean"], abs=1e-5 * expected["std"])
    assert numbers.std(correction=0).item() == pytest.approx(expected["std"], rel=1e-5)
    assert numbers.norm().item() == pytest.approx(expected["l2"], rel=1e-5)
    assert numbers.abs().max().item() == pytest.approx(expected["absmax"], rel=3e-5)
    (logits * image(logits.shape, "cotangent")).sum().backward()
    assert x.grad is not None
    assert x.grad.norm().item() == pytest.approx(expected["grad_input_l2"], rel=1e-3)
    parameters = dict(network.named_parameters())
    found = {key: parameters[names[key]].grad.norm().item() for key in expected["grad_l2"]}
    assert found == pytest.approx(expected["grad_l2"], rel=1e-3)


def test_golden_features() -> None:
    network, _ = published("s2anet_c5_fs8", he=True)
    seen: dict[str, Tensor] = {}
    for name, module in (("conv4", network.slice_aware), ("SCaM", network.scale_aware)):
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    network(image(GOLDENS["s2anet_c5_fs8"]["input_shape"]))
    for name, feature in seen.items():
        assert_close(feature, f"s2anet_c5_fs8_he_{name}")
    assert len(seen) == 2


def test_golden_train_mode() -> None:
    """The norms of the shared encoder take one position of the window after the other, as three batches."""
    network, names = published("s2anet_c5_fs8")
    golden = GOLDENS["s2anet_c5_fs8_train_nodropout"]
    without_dropout(network.train())
    assert_close(network(image(golden["input_shape"])), "s2anet_c5_fs8_train_nodropout")
    state = network.state_dict()
    assert {key: state[names[key]].item() for key in golden["num_batches_tracked"]} == golden["num_batches_tracked"]
    for statistic in ("running_mean", "running_var"):
        for key, expected in golden[statistic].items():
            np.testing.assert_allclose(state[names[key]], expected, rtol=1e-5, atol=1e-6, err_msg=key)


def without_dropout(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


@both_rules
@pytest.mark.parametrize(("name", "branch_channels"), [("scam_16_16", None), ("scam_16_8", 8)])
def test_golden_scale_aware_module(name: str, branch_channels: int | None, he: bool) -> None:
    module = ScaleAwareModule(16, branch_channels).eval()
    layers = [*(f"b{number}.block" for number in range(5)), "project"]
    rest = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    names = dict(zip((f"{layer}.{entry}" for layer in layers for entry in rest), module.state_dict(), strict=True))
    shapes = {key: module.state_dict()[ours].shape for key, ours in names.items()}
    state = {names[key]: torch.from_numpy(np.asarray(weight(key, tuple(shape)))) for key, shape in shapes.items()}
    if he:
        state = {key: louder(value) for key, value in state.items()}
    module.load_state_dict(state)
    x = image(GOLDENS[name]["input_shape"]).requires_grad_()
    out = module(x)
    assert_close(out, name + "_he" * he)
    (out * image(out.shape, "cotangent")).sum().backward()
    expected = GOLDENS[name + "_he" * he]
    parameters = dict(module.named_parameters())
    assert x.grad is not None
    assert x.grad.norm().item() == pytest.approx(expected["grad_input_l2"], rel=1e-3)
    found = {key: parameters[names[key]].grad.norm().item() for key in expected["grad_l2"]}
    assert found == pytest.approx(expected["grad_l2"], rel=1e-3)


UNET = {"num_slices": 1, "poolings": 4, "scale_aware": "none"}
COUNTS = [
    ({}, 24_724_471),
    ({"skip": "centre"}, 23_176_183),
    ({"share_encoder": False, "skip": "centre"}, 25_468_279),
    ({"num_slices": 1}, 20_816_887),
    ({"num_slices": 5}, 28_632_055),
    ({"num_slices": 7}, 32_539_639),
    (UNET, 31_042_039),
    (UNET | {"in_channels": 3}, 31_043_191),
    ({"poolings": 4, "scale_aware": "none", "skip": "centre"}, 33_401_335),
    ({"num_slices": 1, "scale_aware": "skip1"}, 7_909_111),
    ({"num_slices": 1, "scale_aware": "level2"}, 8_524_279),
    (UNET | {"scale_aware": "skip1"}, 31_247_607),
    (UNET | {"scale_aware": "level2"}, 31_862_775),
]


@pytest.mark.parametrize(("options", "count"), COUNTS, ids=str)
def test_number_of_parameters(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        network = S2aNet(**options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


#: At 512 x 512: published multiply-accumulates.
COSTS = [
    ({}, 346_583_728_128),
    ({"skip": "centre"}, 288_601_669_632),
    ({"share_encoder": False, "skip": "centre"}, 288_601_669_632),
    ({"num_slices": 1}, 201_326_592_000),
    ({"num_slices": 5}, 491_840_864_256),
    ({"num_slices": 7}, 637_098_000_384),
    (UNET, 193_273_528_320),
    (UNET | {"in_channels": 3}, 193_575_518_208),
    ({"poolings": 4, "scale_aware": "none", "skip": "centre"}, 280_548_605_952),
    ({"num_slices": 1, "scale_aware": "skip1"}, 201_326_592_000),
    ({"num_slices": 1, "scale_aware": "level2"}, 201_326_592_000),
]


@pytest.mark.parametrize(("options", "macs"), COSTS, ids=str)
def test_multiply_accumulates(options: dict[str, Any], macs: int) -> None:
    channels = options.get("num_slices", 3) * options.get("in_channels", 1)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        S2aNet(**options).eval()(torch.zeros(1, channels, 512, 512))
    assert counter.get_total_flops() // 2 == macs


def test_initial_weights_are_kaiming_normal_by_fan_in() -> None:
    torch.manual_seed(0)
    network = S2aNet(feature_scale=4)
    scaled, biases, norms = [], [], []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # a transposed convolution as PyTorch counts it
            fan_in = module.weight[0].numel()
            scaled.append(module.weight.detach().flatten() * (fan_in / 2) ** 0.5)
            if module.bias is not None:
                biases.append(module.bias.detach() * fan_in**0.5)
        elif isinstance(module, nn.BatchNorm2d):
            norms.append(module.weight.detach())
            assert module.eps == 1e-5 and module.momentum == 0.1
            assert (module.bias == 0).all()
    for values in scaled:
        assert values.std().item() == pytest.approx(1, abs=4 / len(values) ** 0.5)
    assert (torch.cat(scaled) ** 4).mean().item() == pytest.approx(3, rel=0.01)  # normal, not uniform
    assert torch.cat(biases).abs().max() <= 1
    assert torch.cat(biases).std().item() == pytest.approx(3**-0.5, rel=0.05)
    assert torch.cat(norms).mean().item() == pytest.approx(1, abs=2e-3)
    assert torch.cat(norms).std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_slices": 4}, "num_slices 4: give an odd number"),
        ({"num_slices": -1}, "num_slices -1"),
        ({"in_channels": 0}, "in_channels 0, .* at least one channel"),
        ({"out_channels": 0}, "out_channels 0"),
        ({"feature_scale": 65}, "feature_scale 65: .* above 0 and up to 64"),
        ({"feature_scale": 0}, "feature_scale 0: "),
        ({"skip": "center"}, "skip 'center': choose one of all, centre"),
        ({"slice_order": "descending"}, "slice_order 'descending': choose one of ascending, centre_first"),
        ({"poolings": 5}, "poolings 5: choose one of 3, 4"),
        ({"scale_aware": "top"}, "scale_aware 'top': choose one of bottom, none, skip1, level2"),
        ({"up": "nearest"}, "up 'nearest' is unknown: choose 'transposed' or 'bilinear'"),
        ({"norm": "instance"}, "norm 'instance' is unknown: choose 'batch' or 'none'"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize("rates", [(), (1, 0)], ids=str)
def test_unfit_dilation_rates_are_refused(rates: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one dilation rate, each 1 or more"):
        ScaleAwareModule(4, rates=rates)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 20, 16), "slices of 20 x 16 voxels: give multiples of 8"),
        ({"poolings": 4}, (1, 3, 16, 24), "slices of 16 x 24 voxels: give multiples of 16"),
        ({}, (1, 3, 0, 16), "slices of 0 x 16 voxels"),
        ({}, (1, 5, 16, 16), "5 channels: give 3 slices of 1 channels each"),
        ({"in_channels": 2}, (1, 3, 16, 16), "3 channels: give 3 slices of 2 channels each"),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_unfit_inputs_are_refused(
    options: dict[str, Any], shape: tuple[int, ...], message: str, training: bool
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options).train(training)(torch.zeros(shape))
