# SPDX-License-Identifier: Apache-2.0
"""The plain transcription has the golden numbers and is our network; misreadings of the paper have other numbers.

The bound of each mistake is its relative L2 difference from the golden output, rounded down; half of it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.checkpoints import from_official
from custom_nets.nets.s2anet import S2aNet
from tests.recipe import arrays, document, image, relative_l2
from tests.reference import s2anet as reference
from tests.s2anet_files import official

ARRAYS = arrays("s2anet")
SHAPE = document("s2anet")["networks"]["s2anet_c5_fs8"]["input_shape"]
TRAINED = document("s2anet")["networks"]["s2anet_c5_fs8_train_nodropout"]
RIGHT = 1e-5


def plain(name: str = "s2anet_c5_fs8", he: bool = False, **options: Any) -> reference.S2aNet:
    """The transcription with a golden's weights, in eval mode and without dropout."""
    network = reference.S2aNet(n_classes=5, feature_scale=8, **options)
    state = official(name, he).items()
    network.load_state_dict({key.replace("aspp.", "SCaM."): value for key, value in state})
    network.SCaM.project[3].p = 0.0
    return network.eval()


def eval_error(change: Callable[[reference.S2aNet], Any]) -> float:
    """Difference from the golden whose deep features matter."""
    network = plain(he=True)
    change(network)
    with torch.inference_mode():
        return relative_l2(network(image(SHAPE))[:, :, ::2, ::2], ARRAYS["s2anet_c5_fs8_he"])


def train_errors(change: Callable[[reference.S2aNet], Any]) -> dict[str, float]:
    """Difference of the output in train mode, and the largest one of the running means."""
    network = plain().train()
    change(network)
    with torch.no_grad():
        error = relative_l2(network(image(SHAPE)), ARRAYS["s2anet_c5_fs8_train_nodropout"])
    state = network.state_dict()
    means = [relative_l2(state[key], torch.tensor(value)) for key, value in TRAINED["running_mean"].items()]
    return {"output": error, "running means": max(means)}


def test_the_transcription_is_right() -> None:
    assert eval_error(lambda network: None) < RIGHT
    assert max(train_errors(lambda network: None).values()) < RIGHT


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nslices1_c5_fs8", {"nslices": 1}),
        ("s2anet_c5_fs8", {}),
        ("s2anet_c5_fs8_nobn", {"is_batchnorm": False}),
        ("nslices5_c5_fs8", {"nslices": 5}),
    ],
)
def test_our_network_is_the_transcription(name: str, options: dict[str, Any], training: bool) -> None:
    """Output, gradients, running statistics; two steps, so that the second has the first one's statistics."""
    theirs = plain(name, he=True, **options).double().train(training)
    slices, norm = options.get("nslices", 3), "batch" if options.get("is_batchnorm", True) else "none"
    ours = S2aNet(out_channels=5, feature_scale=8, num_slices=slices, norm=norm, dropout=0.0)
    ours.load_state_dict(from_official("s2anet", theirs.state_dict()))
    ours.double().train(training)
    for draw in ("input", "second"):
        x = image((2, slices, 24, 16), draw).double()
        found, expected = ours(x), theirs(x)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
        for out in (found, expected):
            (out * image(out.shape, "cotangent").double()).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=1e-12)
    converted = from_official("s2anet", theirs.state_dict())
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, converted[key], atol=1e-12, rtol=1e-12, msg=key)
    gradients = from_official("s2anet", {k: p.grad for k, p in theirs.named_parameters()} | buffers(theirs))
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-10, rtol=1e-10, msg=key)


def buffers(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_buffers())


def test_a_volume_is_labelled_window_by_window() -> None:
    network, slices = plain(), image((4, 16, 16))
    with torch.no_grad():
        logits = reference.volume_logits(network, slices)
        for index, window in enumerate([(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)]):
            torch.testing.assert_close(logits[index], network(slices[list(window)][None])[0])
        alone = reference.volume_logits(plain("nslices5_c5_fs8", nslices=5), slices[:1], nslices=5)
    assert alone.shape == (1, 5, 16, 16)


def reordered(layer: nn.Module, order: list[int]) -> None:
    """Make ``layer`` take its input's len(order) blocks of channels in another order."""
    layer.register_forward_pre_hook(lambda _m, x: torch.cat([x[0].chunk(len(order), dim=1)[i] for i in order], dim=1))


def decoders(network: reference.S2aNet) -> list[nn.Module]:
    return [network.up_concat3, network.up_concat2, network.up_concat1]


def centre_first(network: reference.S2aNet) -> None:
    reordered(network.conv4.conv1, [1, 0, 2])
    for decoder in decoders(network):
        reordered(decoder.conv.conv1, [0, 2, 1, 3])


def descending(network: reference.S2aNet) -> None:
    reordered(network.conv4.conv1, [2, 1, 0])
    for decoder in decoders(network):
        reordered(decoder.conv.conv1, [0, 3, 2, 1])


def centre_first_in_the_fusion_alone(network: reference.S2aNet) -> None:
    reordered(network.conv4.conv1, [1, 0, 2])


def centre_skip(network: reference.S2aNet) -> None:
    for decoder in decoders(network):
        reordered(decoder.conv.conv1, [0, 2, 2, 2])


def skips_first(network: reference.S2aNet) -> None:
    for decoder in decoders(network):
        reordered(decoder.conv.conv1, [1, 2, 3, 0])


def no_scale_aware_module(network: reference.S2aNet) -> None:
    network.SCaM = nn.Identity()


def residual_scale_aware_module(network: reference.S2aNet) -> None:
    network.SCaM.register_forward_hook(lambda _m, x, out: out + x[0])


def rates(*values: int) -> Callable[[reference.S2aNet], None]:
    def change(network: reference.S2aNet) -> None:
        for number, rate in enumerate(values):
            layer = getattr(network.SCaM, f"b{number}").block[0]
            layer.dilation = layer.padding = (rate, rate)

    change.__name__ = f"rates {values}"
    return change


def first_branch_of_kernel_1(network: reference.S2aNet) -> None:
    layer = network.SCaM.b0.block[0]
    layer.weight.data, layer.padding = layer.weight.data[:, :, 1:2, 1:2], (0, 0)


def cascaded_branches(network: reference.S2aNet) -> None:
    """Each branch sees the one before it, as in some pyramids."""
    before: list[Tensor] = []
    branches = [getattr(network.SCaM, f"b{number}").block for number in range(5)]
    for branch in branches[1:]:
        branch.register_forward_pre_hook(lambda _m, _x: before[-1])
    for branch in branches:
        branch.register_forward_hook(lambda _m, _x, out: before.append(out))


def no_norm_in_the_scale_aware_module(network: reference.S2aNet) -> None:
    for number in range(5):
        getattr(network.SCaM, f"b{number}").block[1] = nn.Identity()


def relu_behind_the_upsampling(network: reference.S2aNet) -> None:
    for decoder in decoders(network):
        decoder.up.register_forward_hook(lambda _m, _x, out: F.relu(out))


def leaky_relu(network: reference.S2aNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _m, x, _out: F.leaky_relu(x[0], 0.01))


def large_epsilon(network: reference.S2aNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3


def average_pooling(network: reference.S2aNet) -> None:
    def encode(image: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference.F, "max_pool2d", F.avg_pool2d)
            return reference.S2aNet.encode(network, image)

    network.encode = encode


EVAL = [
    (centre_first, 0.84),
    (descending, 0.85),
    (centre_first_in_the_fusion_alone, 0.024),
    (centre_skip, 0.82),
    (skips_first, 0.98),
    (no_scale_aware_module, 0.11),
    (residual_scale_aware_module, 0.15),
    (rates(1, 2, 3, 8, 5), 0.024),
    (rates(1, 2, 4, 5, 8), 0.021),
    (rates(1, 2, 3, 5, 7), 0.0054),
    (first_branch_of_kernel_1, 0.044),
    (cascaded_branches, 0.06),
    (no_norm_in_the_scale_aware_module, 0.018),
    (relu_behind_the_upsampling, 0.33),
    (leaky_relu, 0.032),
    (large_epsilon, 0.0015),
    (average_pooling, 0.3),
]


@pytest.mark.parametrize(("change", "bound"), EVAL, ids=lambda value: getattr(value, "__name__", None))
def test_misreadings_are_told_apart(change: Callable[[reference.S2aNet], None], bound: float) -> None:
    assert eval_error(change) > bound / 2


def joint_statistics(network: reference.S2aNet) -> None:
    """All slices of a window as one batch."""

    def encode(image: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        (e1,), (e2,), (e3,) = (levels := reference.S2aNet.encode(network, torch.cat(image.split(1, dim=1))))[0]
        return [list(level.chunk(3)) for level in (e1, e2, e3)], list(levels[1][0].chunk(3))

    network.encode = encode


def centre_first_statistics(network: reference.S2aNet) -> None:
    """The right function, but the running statistics take the centre slice first."""

    def encode(image: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        skips, deepest = reference.S2aNet.encode(network, image[:, [1, 0, 2]])
        return [[level[i] for i in (1, 0, 2)] for level in skips], [deepest[i] for i in (1, 0, 2)]

    network.encode = encode


def statistics_of_the_last_slice(network: reference.S2aNet) -> None:
    """One update a step in place of three."""
    for block in (network.conv1, network.conv2, network.conv3):
        for layer in (block.conv1, block.conv2):
            norm = layer[1]
            norm.register_forward_pre_hook(partial(_restart, start=norm.running_mean.clone()))


def _restart(norm: nn.Module, _x: tuple[Tensor, ...], start: Tensor) -> None:
    norm.running_mean.copy_(start)


def norm_in_the_decoder(network: reference.S2aNet) -> None:
    for decoder in decoders(network):
        for layer in (decoder.conv.conv1, decoder.conv.conv2):
            layer.insert(1, nn.BatchNorm2d(layer[0].out_channels))


def momentum(value: float) -> Callable[[reference.S2aNet], None]:
    def change(network: reference.S2aNet) -> None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = value

    change.__name__ = f"momentum {value}"
    return change


TRAIN = [
    (joint_statistics, "output", 0.02),
    (joint_statistics, "running means", 0.53),
    (centre_first_statistics, "running means", 0.0024),
    (statistics_of_the_last_slice, "running means", 0.52),
    (norm_in_the_decoder, "output", 1.9),
    (momentum(0.01), "running means", 0.76),
]


@pytest.mark.parametrize(("change", "where", "bound"), TRAIN, ids=lambda value: getattr(value, "__name__", None))
def test_misreadings_of_the_train_mode_are_told_apart(
    change: Callable[[reference.S2aNet], None], where: str, bound: float
) -> None:
    assert train_errors(change)[where] > bound / 2
