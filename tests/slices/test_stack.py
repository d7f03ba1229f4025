# SPDX-License-Identifier: Apache-2.0
"""A stack of slices is encoded once and labelled as if window by window, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from custom_nets.nets.s2anet import S2aNet
from custom_nets.slices.stack import Slices, sliding_logits, stack_logits
from tests.recipe import image
from tests.test_s2anet import small

#: Of networks that share the maps of their slices, and of those that do not.
SHARING: list[dict[str, Any]] = [
    {"num_slices": 1},
    {},
    {"num_slices": 5},
    {"num_slices": 7},
    {"skip": "centre"},
    {"slice_order": "centre_first"},
    {"num_slices": 5, "slice_order": "centre_first", "skip": "centre"},
    {"poolings": 4, "scale_aware": "none", "skip": "centre"},
    {"num_slices": 1, "scale_aware": "skip1"},
    {"in_channels": 2, "scale_aware": "level2", "norm": "none", "up": "bilinear"},
]
APART: list[dict[str, Any]] = [{"share_encoder": False}, {"share_encoder": False, "skip": "centre", "num_slices": 5}]
COUNTS = (1, 2, 3, 5, 12)
BATCHES = (1, 2, 5, 20)


def counted(stack: Tensor, calls: list[tuple[int, int]]) -> Slices:
    """Gives parts of a stack, and notes which."""

    def slices(first: int, last: int) -> Tensor:
        assert 0 <= first < last <= len(stack)
        calls.append((first, last))
        return stack[first:last]

    return slices


def window_of(centre: int, count: int, num_slices: int) -> list[int]:
    return [min(max(centre + offset, 0), count - 1) for offset in range(-(num_slices // 2), num_slices // 2 + 1)]


def windows_of(stack: Tensor, num_slices: int) -> Iterator[Tensor]:
    """The window around each slice, 1 x (S · C) x H x W, ends repeated."""
    for centre in range(len(stack)):
        yield stack[window_of(centre, len(stack), num_slices)].flatten(0, 1)[None]


def joined(batches: Iterator[Tensor], count: int, batch_size: int) -> Tensor:
    """All logits, which come as full batches and a rest."""
    found = list(batches)
    sizes = [min(batch_size, count - first) for first in range(0, count, batch_size)]
    assert [len(batch) for batch in found] == sizes
    return torch.cat(found)


@pytest.mark.parametrize("options", [*SHARING, *APART], ids=str)
def test_logits_are_those_of_the_windows(options: dict[str, Any]) -> None:
    network = small(feature_scale=16, **options)
    s = network.num_slices
    for count in COUNTS:
        stack = image((count, network.in_channels, 16, 16))
        with torch.inference_mode():
            expected = torch.cat([network(window) for window in windows_of(stack, s)])
            for batch_size in BATCHES:
                found = joined(stack_logits(network, counted(stack, []), count, s, batch_size), count, batch_size)
                torch.testing.assert_close(found, expected, atol=1e-5 * expected.std().item(), rtol=0)


class Spy(nn.Module):
    """A network that notes which slices it encodes and how many maps it is handed; a slice's pixels are its number."""

    encodes_once = True

    def __init__(self, num_slices: int) -> None:
        super().__init__()
        self.num_slices = num_slices
        self.order = list(range(num_slices))
        self.encoded: list[int] = []
        self.storages: list[int] = []  # slices whose maps lie behind those that are decoded
        self.alive: list[int] = []  # slices whose maps, as they were given, are in memory at the next encoding
        self._given: list[tuple[StorageWeakRef, int]] = []

    def encode(self, slices: Tensor) -> list[Tensor]:
        self.encoded += slices[:, 0, 0, 0].int().tolist()
        self.alive.append(sum(number for storage, number in self._given if not storage.expired()))
        maps = [slices.clone(), -slices]
        self._given.append((StorageWeakRef(maps[0].untyped_storage()), len(slices)))
        return maps

    def decode(self, maps: list[list[Tensor]]) -> Tensor:
        level = maps[0]
        assert torch.equal(torch.cat(level), -torch.cat(maps[1]))
        self.storages.append(max(one.untyped_storage().nbytes() for one in level) // (4 * 8 * 8))
        return torch.cat(level, dim=1)  # the window itself

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("windows are decoded from maps")


@pytest.mark.parametrize("num_slices", [1, 3, 5, 7])
@pytest.mark.parametrize("batch_size", BATCHES)
def test_every_slice_is_prepared_and_encoded_once(num_slices: int, batch_size: int) -> None:
    for count in (*COUNTS, 40):
        network, calls = Spy(num_slices), []
        stack = torch.arange(count).float()[:, None, None, None].expand(-1, 1, 8, 8)
        logits = stack_logits(network, counted(stack, calls), count, num_slices, batch_size)
        seen = joined(logits, count, batch_size)
        assert seen[:, :, 0, 0].int().tolist() == [window_of(centre, count, num_slices) for centre in range(count)]
        assert network.encoded == list(range(count))
        assert [index for first, last in calls for index in range(first, last)] == list(range(count))
        assert max(last - first for first, last in calls) <= batch_size + num_slices // 2
        assert max(network.storages) <= batch_size + num_slices - 1
        assert max(network.alive) <= batch_size + num_slices // 2 and not any(network.alive[2:])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("num_slices", [1, 3, 5])
def test_a_plain_callable_is_given_whole_windows(num_slices: int, count: int) -> None:
    stack, calls = image((count, 2, 8, 8)), []
    for batch_size in BATCHES:
        logits = stack_logits(lambda windows: windows, counted(stack, calls), count, num_slices, batch_size)
        expected = torch.cat(list(windows_of(stack, num_slices)))
        assert torch.equal(joined(logits, count, batch_size), expected)
        assert max(last - first for first, last in calls) <= batch_size + num_slices - 1


def test_a_network_of_another_number_of_slices_is_given_windows() -> None:
    """The U-Net that takes the slices of a window as channels encodes them together."""
    network = small(in_channels=3, num_slices=1, scale_aware="none", poolings=4, feature_scale=16)
    stack = image((4, 1, 16, 16))
    with torch.inference_mode():
        expected = torch.cat([network(window) for window in windows_of(stack, 3)])
        found = torch.cat(list(stack_logits(network, counted(stack, []), 4, 3, 2)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def slid(network: Any, window: Tensor, roi: tuple[int, int], overlap: float, padding: float) -> Tensor:
    """MONAI's sliding window over one window of slices."""
    return sliding_window_inference(window, roi, 1, network, overlap, mode="gaussian", cval=padding)


@pytest.mark.parametrize("options", [{}, {"num_slices": 1}, {"num_slices": 5, "in_channels": 2}, *APART[:1]], ids=str)
@pytest.mark.parametrize("size", [(40, 24), (16, 16), (9, 30), (5, 7)], ids=str)
def test_sliding_windows_are_monais_over_each_window_of_slices(options: dict[str, Any], size: tuple[int, int]) -> None:
    network, roi, padding = small(feature_scale=16, **options), (16, 16), -0.9
    s = network.num_slices
    stack = image((5, network.in_channels, *size))
    with torch.inference_mode():
        expected = torch.cat([slid(network, window, roi, 0.25, padding) for window in windows_of(stack, s)])
        for batch_size in (1, 2, 5, 20):
            logits = sliding_logits(network, counted(stack, []), 5, s, batch_size, roi, 0.25, padding)
            found = joined(logits, 5, batch_size)
            assert found.shape == (5, 5, *size)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_sliding_windows_of_a_plain_callable() -> None:
    stack = image((4, 1, 20, 11))
    logits = sliding_logits(lambda windows: 2 * windows, counted(stack, []), 4, 3, 3, (8, 8), 0.5, 0.0)
    torch.testing.assert_close(torch.cat(list(logits)), 2 * torch.cat(list(windows_of(stack, 3))))


def test_sliding_windows_encode_a_region_once_for_all_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    network, encoded = small(feature_scale=16), []
    encode = S2aNet.encode
    monkeypatch.setattr(S2aNet, "encode", lambda self, x, *more: encoded.append(len(x)) or encode(self, x, *more))
    with torch.inference_mode():
        list(sliding_logits(network, counted(image((6, 1, 16, 24)), []), 6, 3, 4, (16, 16), 0.5, 0.0))
    assert encoded == [5, 5, 3, 3]  # slices 0 to 4 of two regions, then 3 to 5
