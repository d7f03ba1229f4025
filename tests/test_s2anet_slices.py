# SPDX-License-Identifier: Apache-2.0
"""S2aNet does the same in all its ways: slice by slice or a window at a time, with gradients (plain) or without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from custom_nets.blocks.convolution2d import ConvolutionNormReLU2d
from tests.recipe import image
from tests.test_s2anet import small

VARIANTS: list[dict[str, Any]] = [
    {},
    {"skip": "centre"},
    {"num_slices": 5, "slice_order": "centre_first"},
    {"num_slices": 1, "scale_aware": "skip1"},
    {"in_channels": 2, "poolings": 4, "scale_aware": "level2", "norm": "none"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_volume_whose_slices_are_encoded_once_gets_the_logits_of_its_windows(options: dict[str, Any]) -> None:
    network = small(**options)
    volume = image((6, options.get("in_channels", 1), 32, 48))
    half = network.num_slices // 2
    windows = torch.tensor([[min(max(i + j, 0), 5) for j in range(-half, half + 1)] for i in range(6)])
    with torch.no_grad():
        expected = network(volume[windows].flatten(1, 2))
        maps = network.encode(volume)
        found = network.decode([[level[windows[:, position]] for position in network.order] for level in maps])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [*VARIANTS, {"share_encoder": False}], ids=str)
def test_forward_is_encode_and_decode(options: dict[str, Any]) -> None:
    network = small(**options)
    x = image((2, network.num_slices * network.in_channels, 16, 32))
    slices = x.unflatten(1, (network.num_slices, network.in_channels))
    with torch.no_grad():
        stacked = torch.cat([slices[:, position] for position in network.order])
        maps = network.encode(stacked, positions=network.num_slices)
        found = network.decode([list(level.chunk(network.num_slices)) for level in maps])
        torch.testing.assert_close(found, network(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_same_with_gradients_and_without(options: dict[str, Any]) -> None:
    """Without them the norms are part of the weights."""
    network = small(**options)
    x = image((2, network.num_slices * network.in_channels, 16, 32))
    with torch.no_grad():
        found = network(x)
    torch.testing.assert_close(found, network(x).detach(), atol=1e-5, rtol=1e-5)


def test_the_centre_first_order_is_one_of_running_statistics_and_channels_alone() -> None:
    """Given the same weights, the two orders are two functions; with the blocks of channels exchanged, one."""
    x = image((1, 3, 16, 16))
    network, other = small(), small(slice_order="centre_first")
    with torch.no_grad():
        assert (network(x) - other(x)).abs().max() > 0.01
        torch.testing.assert_close(other(x), network(x[:, [1, 0, 2]]))


def test_metatensors_and_channels_last_are_taken() -> None:
    network, x = small(), image((2, 3, 16, 32))
    with torch.no_grad():
        expected = network(x)
        assert torch.equal(torch.as_tensor(network(MetaTensor(x))), expected)
        other = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-5)


def test_a_norm_that_trains_in_an_evaluated_layer_is_not_folded() -> None:
    """As when batch norms alone are adapted to new scans."""
    layer = ConvolutionNormReLU2d(2, 4).eval()
    assert layer.norm is not None
    layer.norm.train()
    x = image((2, 2, 8, 8))
    with torch.no_grad():
        expected = torch.relu(torch.nn.functional.batch_norm(layer.conv(x), None, None, training=True))
        torch.testing.assert_close(layer(x), expected)
    assert layer.norm.num_batches_tracked == 1
