# SPDX-License-Identifier: Apache-2.0
"""S2CANet and the networks of its ablation against their golden numbers; what they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from custom_nets.checkpoints import from_official
from custom_nets.nets.s2ca_net import S2CANet
from tests.recipe import arrays, document, image, relative_l2
from tests.s2ca_net_files import NETWORKS, empty, file_options, official, parameters

ARRAYS = arrays("s2ca_net")
GOLDENS: dict[str, dict[str, Any]] = document("s2ca_net")["network"]


def small(**options: Any) -> S2CANet:
    """A network of few channels, whose norms and layer scales do not pass their input on as it is."""
    torch.manual_seed(0)
    few: dict[str, Any] = {"patch_size": 16, "filters": (4, 8, 16, 32), "embed_channels": (16, 32)}
    few |= {"encoder_depths": (1, 1), "decoder_depths": (1, 1)}
    network = S2CANet(**few | options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    for name, parameter in network.named_parameters():
        if "scale" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("squeeze.weight") and parameter.ndim == 2:  # of few units none is to be dead
            parameter.data.abs_()
    return network


def published(patch_size: int = 32, drop_path: float = 0.1, **options: Any) -> tuple[S2CANet, dict[str, str]]:
    """A network in eval mode through its published checkpoint, and of what it stores the published names to ours."""
    state = official(patch_size, **options)
    converted = from_official("s2ca_net", state, **file_options(options))
    network = S2CANet(patch_size=patch_size, drop_path=drop_path, **options).eval()
    network.load_state_dict(converted, strict=True)
    ours = {value.data_ptr(): name for name, value in converted.items()}
    return network, {key: ours[value.data_ptr()] for key, value in state.items() if value.data_ptr() in ours}


def all_heads(network: S2CANet, x: Tensor) -> list[Tensor]:
    """The heads in the goldens' order, deepest first, with the norms and drop paths as they are."""
    network.training = True  # of the network alone, not of what it consists of
    heads = network(x)
    assert isinstance(heads, list)
    return heads[::-1]


def assert_close(found: Tensor, name: str, stride: int) -> None:
    expected = torch.from_numpy(ARRAYS[name])
    found = found.detach()[..., ::stride, ::stride, ::stride]
    assert found.shape == expected.shape
    assert relative_l2(found, expected) < 2e-5
    assert (found - expected).abs().flatten().quantile(0.999) < 1e-4  # a place near a border may be read otherwise


def assert_statistics(found: Tensor, expected: Mapping[str, Any], tolerance: float = 2e-5) -> None:
    numbers = found.detach().double()
    scale = expected["l2"] / numbers.numel() ** 0.5
    assert list(numbers.shape) == expected["shape"]
    assert numbers.mean().item() == pytest.approx(expected["mean"], abs=tolerance * scale)
    assert numbers.std(correction=0).item() == pytest.approx(expected["std"], abs=tolerance * scale)
    assert numbers.norm().item() == pytest.approx(expected["l2"], rel=tolerance)
    assert numbers.abs().max().item() == pytest.approx(expected["absmax"], rel=10 * tolerance)


def assert_golden(heads: list[Tensor], name: str) -> None:
    """Compare the arrays that there are, and all heads' statistics."""
    for number, (head, expected) in enumerate(zip(heads, GOLDENS[name]["heads"], strict=True)):
        assert_statistics(head, expected)
        if expected["stride"] is not None:
            assert_close(head, f"{name}.head{number}", expected["stride"])


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_heads(name: str) -> None:
    options = NETWORKS[name]
    assert parameters(empty(32, **options)) == GOLDENS[name]["parameters"]
    network, _ = published(**options)
    x = image(GOLDENS[name]["input_shape"])
    with torch.inference_mode():
        full = network(x)
        heads = all_heads(network, x)
    assert isinstance(full, Tensor)
    torch.testing.assert_close(full, heads[3], atol=1e-5, rtol=0)
    assert_golden(heads, name)


@pytest.mark.parametrize(("name", "patch_size"), [("net_p32b2", 32), ("net_p64", 64)])
def test_golden_heads_and_gradients(name: str, patch_size: int) -> None:
    golden = GOLDENS[name]
    network, names = published(patch_size)
    x = image(golden["input_shape"]).requires_grad_()
    heads = all_heads(network, x)
    assert_golden(heads, name)
    (heads[3] * image(heads[3].shape, "cotangent")).sum().backward()
    weights = dict(network.named_parameters())
    gradients: dict[str, Any] = {key: weights[ours].grad for key, ours in names.items() if ours in weights}
    gradients["input"] = x.grad
    found = {key: gradients[key].norm().item() for key in golden["grad_l2"]}
    assert found == pytest.approx(golden["grad_l2"], rel=5e-4)
    unmoved = {key for key in golden["no_grad_parameters"] if gradients.get(key) is None}
    assert unmoved == set(golden["no_grad_parameters"])
    assert [key for key, grad in gradients.items() if grad is None and key not in unmoved] == []


#: Golden -> the module of ours whose result it is; of level-2 and 3 units what a mixer adds its global branch to.
PARTS = {
    "backbone.conv0_0[0]": "encoder0.unit1",
    "backbone.conv0_0[1]": "encoder0",
    "backbone.former2_0": "encoder2.global_branch",
    "backbone.former3_0": "encoder3.global_branch",
    "backbone[0]": "encoder0",
    "backbone[1]": "encoder1",
    "backbone[2]": "encoder2",
    "backbone[3]": "encoder3",
    "down8Pooling": "context.down0",
    "down4Pooling": "context.down1",
    "down2Pooling": "context.down2",
    "ca": "context.weigh",
    "in_down01": "skips.from0",
    "skip_ca": "skips.weigh",
    "skip_msadc.offset_conv_kernel": "skips.deform.offsets",
    "skip_msadc.att": "skips.deform.attention",
    "skip_msadc": "skips.deform",
    "conv_bottom": "context.convolutions",
    "sa": "context.gate",
    "BottomAspmlp_l4": "context.mlp",
    "conv3_1": "decoder3.local_branch",
    "former3_1": "decoder3.global_branch",
    "out_down12": "skips.to2",
    "gate3_2": "gate2",
    "conv2_1": "decoder2.local_branch",
    "former2_1": "decoder2.global_branch",
    "gate2_1": "gate1",
    "conv1_1": "decoder1",
    "gate1_0": "gate0",
    "conv0_1": "decoder0",
}


def test_golden_parts() -> None:
    golden = GOLDENS["net_p32b2"]
    # three convolutions are computed without a call of their modules; what they give shows in the gates
    assert {*PARTS, "in_up21", "out_1", "out_up10"} == golden["module_output_stats"].keys()
    network, _ = published()
    seen: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        network(image(golden["input_shape"]))
    for name in ("decoder2", "decoder3"):
        seen[f"{name}.local_branch"] = seen[name] - seen[f"{name}.global_branch"]
    for key, part in PARTS.items():
        assert_statistics(seen[part], golden["module_output_stats"][key])


def test_golden_train_mode() -> None:
    """The gates' norms take the batch's statistics and keep some of them."""
    golden = GOLDENS["train_nodrop_p32b2"]
    network, names = published(drop_path=0.0)
    with torch.no_grad():
        heads = network.train()(image(golden["input_shape"]))
    assert_golden(heads[::-1], "train_nodrop_p32b2")
    state = network.state_dict()
    for key, expected in golden["bn_after_one_forward"].items():
        assert_statistics(state[names[key]], expected)


def test_golden_test_time_augmentation() -> None:
    golden = GOLDENS["tta_p32"]
    network, _ = published()
    x = image(golden["input_shape"])
    axes = [[axis + 2 for axis in range(3) if number >> axis & 1] for number in range(8)]
    with torch.inference_mode():
        mean = torch.stack([network(x.flip(flipped)).flip(flipped) for flipped in axes]).mean(dim=0)
    assert_statistics(mean, golden["head3"])
    assert_close(mean, "tta_p32.head3", golden["stride"])


def test_the_exchange_of_axes_matters() -> None:
    network, _ = published()
    corrected = S2CANet(patch_size=32, swapped_axes=False).eval()
    corrected.load_state_dict(network.state_dict(), strict=True)
    x = image((1, 4, 32, 32, 32))
    with torch.inference_mode():
        assert relative_l2(corrected(x), network(x)) > 0.2


#: Stored by the published code and never used: slopes, shortcuts beside the identity, one deformable convolution.
UNUSED = re.compile(r"identity_mapping\.act|gate.*\.act|skip_0|(conv3_1|conv_bottom\.[1-3])\.identity_mapping")


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_parameters(name: str) -> None:
    options = NETWORKS[name]
    used = {key: value for key, value in empty(128, **options).items() if not UNUSED.search(key)}
    if options.get("context") == "none":  # all four units are as wide before as behind
        del used["conv_bottom.0.identity_mapping.conv.weight"]
    with torch.device("meta"):
        network = S2CANet(**options)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == parameters(used)
    if not options:
        assert count == 21_445_012


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network = S2CANet(patch_size=16, embed_channels=(64, 128), encoder_depths=(1, 1), decoder_depths=(1, 1))
    normal = []
    for name, parameter in network.named_parameters():
        if "former" in name and name.endswith(("widen.weight", "narrow.weight", "squeeze.weight", "excite.weight")):
            normal.append(parameter.detach().flatten())
        elif "former" in name and name.endswith(("widen.bias", "narrow.bias")):
            assert (parameter == 0).all(), name
        elif "scale" in name:
            assert (parameter == 1e-5).all(), name
        elif "prelu" in name:
            assert parameter.shape == (1,) and parameter.item() == 0.25, name
    values = torch.cat(normal)
    assert values.std().item() == pytest.approx(0.02, rel=0.02)
    assert (values**4).mean().item() == pytest.approx(3 * 0.02**4, rel=0.05)  # normal, not uniform
    # PyTorch's own rule for the others, the offsets' convolution among them
    offsets = network.skips.deform.offsets.weight  # type: ignore[union-attr]
    assert offsets.std().item() == pytest.approx((3 * offsets[0].numel()) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("drop_path", "expected"), [(0.1, [0, 1 / 30, 2 / 30, 1 / 10]), (0.0, [0, 0, 0, 0])])
def test_drop_path_grows_with_the_depth(drop_path: float, expected: list[float]) -> None:
    blocks = small(drop_path=drop_path).context.mlp.mlp.blocks  # type: ignore[union-attr]
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx(expected)


def test_drop_path_is_random_in_train_mode_alone() -> None:
    network, x = small(drop_path=0.9), image((1, 4, 16, 16, 16))
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        network.train()
        assert not torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize("patch_size", [16, 24, 40, [16, 16, 16], (24, 24, 24)], ids=str)
@pytest.mark.parametrize("deep_supervision", [True, False], ids=["deep", "single"])
def test_patch_sizes(patch_size: Any, deep_supervision: bool) -> None:
    network = small(patch_size=patch_size, deep_supervision=deep_supervision)
    size = patch_size if isinstance(patch_size, int) else patch_size[0]
    x = image((1, 4, size, size, size))
    with torch.no_grad():
        assert network(x).shape == x.shape
        heads = network.train()(x)
    if not deep_supervision:
        assert isinstance(heads, Tensor)
        heads = [heads]
    assert len(heads) == (4 if deep_supervision else 1)
    assert all(head.shape == x.shape and head.isfinite().all() for head in heads)


def test_channels_in_and_out() -> None:
    network = small(in_channels=2, out_channels=5)
    with torch.no_grad():
        assert network(image((1, 2, 16, 16, 16))).shape == (1, 5, 16, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 8}, "patch_size 8: give a cube whose edge is a multiple of 8 and at least 16"),
        ({"patch_size": 12}, "patch_size 12: "),
        ({"patch_size": 20}, "patch_size 20: "),
        ({"patch_size": (32, 32, 16)}, r"patch_size \(32, 32, 16\): give a cube"),
        ({"patch_size": []}, r"patch_size \[\]: give a cube"),
        ({"patch_size": [16, 16]}, r"patch_size \[16, 16\]: give a cube"),
        ({"in_channels": 0}, "in_channels 0, out_channels 4: give at least one channel each"),
        ({"out_channels": 0}, "in_channels 4, out_channels 0: "),
        ({"embed_channels": (15, 32)}, "a channel attention over 15 channels: give filters or embed_channels that"),
        ({"filters": (1, 5, 8, 8)}, "a channel attention over 15 channels"),
        ({"filters": (1, 1, 8, 8)}, "a channel attention over 3 channels"),
        ({"filters": (3, 3, 8, 8), "deformable": "per_level"}, "3 channels to squeeze 4 times: give at least 4"),
        ({"context": "pooled"}, "context 'pooled': choose one of strided, max_pool, none"),
        ({"deformable": True}, "deformable True: choose one of added, replacing, per_level, none"),
        ({"filters": (4, 8, 16)}, r"filters \[4, 8, 16\]: give the channels of four levels"),
        ({"filters": (4, 8, 16, 0)}, "filters .*: give the channels of four levels"),
        ({"embed_channels": (16,)}, r"\[16\]: give a number for level 2 and one for level 3"),
        ({"encoder_depths": (1, 2, 3)}, r"\[1, 2, 3\]: give a number for level 2"),
        ({"decoder_depths": (0, 1)}, r"\[0, 1\]: give a number for level 2"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 16, 16), "3 channels: give 4"),
        ((1, 4, 16, 16, 24), r"a patch of \[16, 16, 24\] voxels: give 16 along each axis"),
        ((1, 4, 24, 24, 24), r"a patch of \[24, 24, 24\] voxels: give 16 along each axis"),
        ((1, 4, 12, 12, 12), r"a patch of \[12, 12, 12\] voxels"),
        ((1, 4, 16, 16), r"a patch of \[16, 16\] voxels"),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_unfit_inputs_are_refused(shape: tuple[int, ...], message: str, training: bool) -> None:
    with pytest.raises(ValueError, match=message):
        small().train(training)(torch.zeros(shape))
