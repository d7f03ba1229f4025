# SPDX-License-Identifier: Apache-2.0
"""The plain transcription has the golden numbers, and misreadings of the paper have not.

The bound of each mistake is its relative L2 difference from the golden output, rounded down; half of it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.recipe import arrays, document, filled, image, relative_l2
from tests.reference.zoom_resunet import Block, ZoomResUNet

GOLDENS = arrays("zoom_resunet")
OFFICIAL = document("zoom_resunet")["network"]
VARIANT = {"in_channels": 2, "out_channels": 3, "use_bias": False, "base_width": 8, "num_groups": 4}


def variant_error() -> float:
    """Of the small golden, whose sizes need every interpolation but one."""
    with torch.inference_mode():
        network = filled(ZoomResUNet(**VARIANT))
        return relative_l2(network(image(OFFICIAL["variant"]["input_shape"])), GOLDENS["variant_output"])


def test_the_transcription_is_right() -> None:
    with torch.inference_mode():
        found = filled(ZoomResUNet())(image(OFFICIAL["input"]["shape"]))
    assert relative_l2(found, GOLDENS["output"]) < 1e-5
    assert variant_error() < 1e-5


def two_layers(block: Block, x: Tensor) -> tuple[Tensor, int]:
    """The block without its identity, and the channels it has more than its input."""
    out = F.relu(block.gn1(block.conv1(F.relu(x))))
    out = F.relu(block.gn2(block.conv2(out)))
    return out, out.shape[1] - x.shape[1]


def identity_at_the_first_channels(block: Block, x: Tensor) -> Tensor:
    out, extra = two_layers(block, x)
    return out + F.pad(x, (0, 0, 0, 0, 0, 0, 0, extra))


def padded_in_front_cropped_behind(block: Block, x: Tensor) -> Tensor:
    out, extra = two_layers(block, x)
    return out + F.pad(x, (0, 0, 0, 0, 0, 0, max(extra, 0), min(extra, 0)))


def relu_after_the_sum(block: Block, x: Tensor) -> Tensor:
    out = block.gn2(block.conv2(F.relu(block.gn1(block.conv1(F.relu(x))))))
    return F.relu(out + F.pad(x, (0, 0, 0, 0, 0, 0, out.shape[1] - x.shape[1], 0)))


def no_relu_before_the_first_convolution(block: Block, x: Tensor) -> Tensor:
    out = F.relu(block.gn2(block.conv2(F.relu(block.gn1(block.conv1(x))))))
    return out + F.pad(x, (0, 0, 0, 0, 0, 0, out.shape[1] - x.shape[1], 0))


def no_identity(block: Block, x: Tensor) -> Tensor:
    return two_layers(block, x)[0]


@pytest.mark.parametrize(
    ("mutant", "bound"),
    [
        (identity_at_the_first_channels, 1.0),
        (padded_in_front_cropped_behind, 1.0),
        (relu_after_the_sum, 0.53),
        (no_relu_before_the_first_convolution, 0.74),
        (no_identity, 1.0),
    ],
)
def test_wrong_blocks_are_told_apart(
    mutant: Callable[[Block, Tensor], Tensor], bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Block, "forward", mutant)
    assert variant_error() > bound / 2


def resized(x: Tensor, skip: Tensor, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=align_corners)


def skip_first(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([skip, resized(x, skip)], dim=1)


def align_corners(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([resized(x, skip, align_corners=True), skip], dim=1)


def padded_to_the_skip(x: Tensor, skip: Tensor) -> Tensor:
    missing = [skip.shape[axis] - x.shape[axis] for axis in (4, 3, 2)]
    return torch.cat([F.pad(x, [side for length in missing for side in (0, length)]), skip], dim=1)


def nearest(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([F.interpolate(x, size=skip.shape[2:]), skip], dim=1)


@pytest.mark.parametrize(
    ("mutant", "bound"), [(skip_first, 1.1), (align_corners, 0.012), (padded_to_the_skip, 0.43), (nearest, 0.43)]
)
def test_wrong_joins_are_told_apart(
    mutant: Callable[[Tensor, Tensor], Tensor], bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ZoomResUNet, "join", staticmethod(mutant))
    assert variant_error() > bound / 2


def error_with(change: Callable[[ZoomResUNet], None]) -> float:
    with torch.inference_mode():
        network = filled(ZoomResUNet(**VARIANT))
        change(network)
        return relative_l2(network(image(OFFICIAL["variant"]["input_shape"])), GOLDENS["variant_output"])


def no_norm_in_the_upsampling_unit(network: ZoomResUNet) -> None:
    for unit in (network.up1, network.up2, network.up3):
        unit[1] = nn.Identity()


def no_relu_in_the_upsampling_unit(network: ZoomResUNet) -> None:
    for unit in (network.up1, network.up2, network.up3):
        unit[2] = nn.Identity()


def one_group(network: ZoomResUNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = 1


def large_epsilon(network: ZoomResUNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-3


def last_weight_not_transposed(network: ZoomResUNet) -> None:
    last = network.dc0b[0].weight
    last.data = last.data.flatten().view(3, 16).t().reshape(16, 3, 1, 1, 1)


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        (no_norm_in_the_upsampling_unit, 0.13),
        (no_relu_in_the_upsampling_unit, 0.13),
        (one_group, 0.34),
        (large_epsilon, 1.3e-3),
        (last_weight_not_transposed, 1.4),
    ],
)
def test_wrong_layers_are_told_apart(change: Callable[[ZoomResUNet], None], bound: float) -> None:
    assert error_with(change) > bound / 2
