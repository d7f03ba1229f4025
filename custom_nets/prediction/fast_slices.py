# SPDX-License-Identifier: Apache-2.0
"""The fastest way to compute a 2.5D network whose slices are encoded once, chosen on the first slices of a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.prediction.agreement import equal_maps
from custom_nets.prediction.choosing import Choice, chosen
from custom_nets.prediction.ways import compiled_by_openvino, may_convert, now, openvino_name, own_name

#: Seconds of work below which a trial costs more than it brings: OpenVINO takes about a tenth less time than PyTorch.
_TRIAL = 600.0

#: Encoder and decoder, as `S2aNet` has them.
Halves = tuple[Callable[[Tensor], list[Tensor]], Callable[[list[list[Tensor]]], Tensor]]


class FastSlices(nn.Module):
    """Stands in the place of `S2aNet`, as `FastForward` in that of other networks.

    Args:
        network: in eval mode, encoding slices once.
        device: where it lies.

    Attributes:
        calls: how many slices are to be expected, set from outside as it becomes known.
        choice: None before anything was chosen.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.calls = 0
        self.choice: Choice[Halves] | None = None
        self._seconds = 0.0
        self._seen: list[Tensor] = []
        self.train(network.training)

    def __getattr__(self, name: str) -> Any:
        """What else a network is asked is answered by the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def encode(self, slices: Tensor) -> list[Tensor]:
        """As the network's."""
        if self.choice is not None:
            return self.choice.way[0](slices)
        start = now(self.device)
        maps = self.network.encode(slices)
        self._seconds += now(self.device) - start
        self._seen.append(slices)
        return maps

    def decode(self, maps: list[list[Tensor]]) -> Tensor:
        """As the network's; float32. Once there are slices for two windows, the way is chosen and then kept."""
        if self.choice is not None:
            return self.choice.way[1](maps).float()
        start = now(self.device)
        logits = self.network.decode(maps)
        self._seconds += now(self.device) - start
        slices = sum(map(len, self._seen))
        if slices > self.network.num_slices or slices >= self.calls:
            self.choice = self._chosen((self.calls - slices) * self._seconds / slices)
            self._seen = []
        return logits.float()

    def forward(self, image: Tensor) -> Tensor:
        """Whole windows, for what does not encode slices once."""
        return self.network(image)

    def _chosen(self, left: float) -> Choice[Halves]:
        best: Choice[Halves] = Choice(own_name(self.device), (self.network.encode, self.network.decode))
        if left < _TRIAL or not may_convert(self.network, self.device):
            return best
        slices = torch.cat(self._seen)[: self.network.num_slices + 1]
        there = {openvino_name(self.device): lambda: _openvino(self.network, slices)}

        def trial(halves: Halves) -> tuple[Tensor, float]:
            return self._trial(halves, slices)

        with torch.autocast(self.device.type, enabled=False):
            wanted, _ = trial(best.way)
        return chosen(best, trial(best.way), there, trial, lambda found: equal_maps(found, wanted))

    def _trial(self, halves: Halves, slices: Tensor) -> tuple[Tensor, float]:
        """Labels of two windows, and the seconds of the second one, which needs one slice more."""
        maps = [halves[0](one) for one in slices[:-1].split(1)]
        first = self._label(maps, halves)
        start = now(self.device)
        second = self._label([*maps[1:], halves[0](slices[-1:])], halves)
        return torch.cat([first, second]), now(self.device) - start

    def _label(self, maps: Sequence[list[Tensor]], halves: Halves) -> Tensor:
        levels = zip(*(maps[place] for place in self.network.order), strict=True)
        return halves[1]([list(level) for level in levels]).argmax(dim=1)


class _Encoder(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.encode(slices))


class _Decoder(nn.Module):
    def __init__(self, network: Any, positions: int) -> None:
        super().__init__()
        self.network = network
        self.positions = positions

    def forward(self, *maps: Tensor) -> Tensor:
        levels = [list(maps[first : first + self.positions]) for first in range(0, len(maps), self.positions)]
        return self.network.decode(levels)


def _openvino(network: Any, slices: Tensor) -> Halves:
    """Both halves compiled by OpenVINO for one slice, or window, of this size."""
    with torch.autocast("cpu", enabled=False):
        levels = network.encode(slices[:1].float())
    encoder = compiled_by_openvino(_Encoder(network), [slices[:1]])
    maps = [level for level in levels for _ in range(network.num_slices)]
    decoder = compiled_by_openvino(_Decoder(network, network.num_slices), maps)

    def encode(batch: Tensor) -> list[Tensor]:
        found = [encoder([one]) for one in batch.split(1)]
        return [torch.cat(level) for level in zip(*found, strict=True)]

    def decode(maps: list[list[Tensor]]) -> Tensor:
        flat = [one for level in maps for one in level]
        windows = zip(*(one.split(1) for one in flat), strict=True)
        return torch.cat([decoder(window)[0] for window in windows])

    return encode, decode
