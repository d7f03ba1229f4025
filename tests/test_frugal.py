# SPDX-License-Identifier: Apache-2.0
"""Frugal inference: the same logits to the bit, from fewer and smaller maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_nets.blocks import frugal_separable3d, multi_scale_deformable, plane_sources
from custom_nets.blocks.frugal import frugal, is_frugal
from custom_nets.blocks.frugal_residual3d import residual_planes, suits
from custom_nets.blocks.lean_instance_norm import norm_prelu
from custom_nets.blocks.separable3d import ResUnit
from custom_nets.nets import s2ca_net
from custom_nets.slices import stack
from custom_nets.slices.stack import stack_logits
from tests.recipe import image
from tests.test_s2anet import small as small_s2anet
from tests.test_s2ca_net import small as small_s2ca_net

#: Channels enough for the attentions of all options.
WIDE = {"filters": (16, 16, 32, 32)}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"in_channels": 16},  # a first unit without a shortcut
    {"deformable": "replacing", "local_global": False},
    {"deformable": "per_level", "context": "max_pool"},
    {"deformable": "none", "context": "none"},
]


@pytest.fixture(autouse=True)
def _few_planes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(frugal_separable3d, "_SLAB", 3 * 16 * 16 * 16)
    monkeypatch.setattr(multi_scale_deformable, "_SLAB", 8 * 16 * 8 * 8)
    with torch.no_grad():
        yield


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def unit_of(in_channels: int, out_channels: int, stride: int) -> ResUnit:
    torch.manual_seed(0)
    return ResUnit(in_channels, out_channels, stride).eval()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_s2ca_net_gives_the_same_logits(options: dict[str, Any]) -> None:
    network = small_s2ca_net(**WIDE | options)
    patches = image((2, network.in_channels, 16, 16, 16))
    before = patches.clone()
    with frugal():
        found = network(patches)
    assert torch.equal(found, torch.cat([network(patch[None]) for patch in patches]))
    assert torch.equal(patches, before)


def test_s2ca_net_goes_through_its_large_maps_plane_by_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def noted(unit: ResUnit, sources: Any, into: Tensor | None = None) -> Tensor:
        seen.append(sources[0].size)
        return residual_planes(unit, sources, into)

    monkeypatch.setattr(s2ca_net, "residual_planes", noted)
    network = small_s2ca_net(**WIDE)
    network(image((1, 4, 16, 16, 16)))
    assert not seen
    with frugal():
        network(image((1, 4, 16, 16, 16)))
    assert seen == [(16,) * 3, (16,) * 3, (8,) * 3, (16,) * 3]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("planes", [1, 2, 5, 20])
def test_a_residual_unit_is_the_same_however_many_planes_at_a_time(
    stride: int, planes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frugal_separable3d, "_SLAB", planes * 12 * 9 * 10)
    unit = unit_of(10, 6, stride)
    x, skip = (channels_last(drawn(1, channels, 11, 12, 9)) for channels in (4, 6))
    sources = [plane_sources.of_map(part) for part in (x, skip)]
    expected = unit(x, skip)
    assert suits(unit)
    assert torch.equal(residual_planes(unit, sources), expected)
    written = residual_planes(unit, sources, skip)  # over its own source, where that has the result's shape
    assert torch.equal(written, expected)
    assert (written.data_ptr() == skip.data_ptr()) == (stride == 1)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 12])
def test_sources_give_the_planes_of_the_map_that_they_spare(step: int) -> None:
    x, weights = channels_last(drawn(1, 4, 6, 5, 4)), drawn(1, 1, 6, 5, 4)
    slope = torch.tensor([0.2])
    cases = [
        (plane_sources.of_map(x), x),
        (plane_sources.doubled(x), s2ca_net._doubled(x)),
        (plane_sources.weighed(x, weights), x * weights),
        (plane_sources.normed(x, slope), norm_prelu(x, slope)),
    ]
    for source, expected in cases:
        assert torch.equal(source.whole(), expected)
        out = torch.empty(*source.size, source.channels)
        for first in range(0, source.size[0], step):
            source.write(first, min(first + step, source.size[0]), out[first : first + step])
        assert torch.equal(plane_sources.as_volume(out), expected)


@pytest.mark.parametrize("options", [{}, {"num_slices": 5, "slice_order": "centre_first"}, {"skip": "centre"}], ids=str)
def test_s2anet_holds_the_maps_of_one_window(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    network, scan = small_s2anet(**options), image((7, 1, 256, 256))
    held: list[int] = []
    one_by_one = stack._one_by_one

    def noted(*args: Any) -> Iterator[Tensor]:
        for logits in one_by_one(*args):
            held.append(len(logits))
            yield logits

    monkeypatch.setattr(stack, "_one_by_one", noted)

    def label() -> Tensor:
        return torch.cat(list(stack_logits(network, lambda a, b: scan[a:b], len(scan), network.num_slices, 4)))

    expected = label()
    assert not held
    with frugal():
        found = label()
    assert held == [1] * len(scan)
    assert torch.equal(found, expected)


def test_small_slices_stay_in_their_batches() -> None:
    """Of small maps PyTorch's convolutions depend on the batch, in the last bits."""
    network, scan = small_s2anet(), image((7, 1, 32, 48))

    def label() -> list[Tensor]:
        return list(stack_logits(network, lambda a, b: scan[a:b], len(scan), network.num_slices, 4))

    expected = label()
    with frugal():
        found = label()
    assert [len(logits) for logits in found] == [4, 3]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_switch_is_off_wherever_it_must_be() -> None:
    x = torch.zeros(1)
    assert not is_frugal(x, x)
    with frugal():
        assert is_frugal(x, x)
        assert not is_frugal(x.half(), x.half())
        with frugal(False):
            assert not is_frugal(x, x)
        with torch.enable_grad():
            assert not is_frugal(x, x)
        with torch.autocast("cpu"):
            assert not is_frugal(x, x)
        with pytest.raises(KeyError), frugal():
            raise KeyError
        assert is_frugal(x, x)
    assert not is_frugal(x, x)


def test_in_train_mode_all_heads_are_there() -> None:
    network = small_s2ca_net(**WIDE).train()
    with frugal():
        assert len(network(image((1, 4, 16, 16, 16)))) == 4
