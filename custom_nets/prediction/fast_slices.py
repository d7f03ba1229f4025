# SPDX-License-Identifier: Apache-2.0
"""The fastest way to compute a 2.5D network whose slices are encoded once, chosen on the first slices of a scan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.precision import amp_pays
from custom_nets.prediction.agreement import AGREEMENT, equal_maps
from custom_nets.prediction.ways import BFLOAT16, FLOAT32, OPENVINO, OPENVINO_BFLOAT16, now

_WINDOWS = 2
_logger = logging.getLogger(__name__)

#: Encoder and decoder, as `S2aNet` has them.
Halves = tuple[Callable[[Tensor], list[Tensor]], Callable[[list[list[Tensor]]], Tensor]]


class FastSlices(nn.Module):
    """Stands in the place of `S2aNet`, as `FastForward` in that of other networks.

    Args:
        network: in eval mode, encoding slices once.
        device: where it lies.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.way = ""
        self.agreement = 1.0
        self._halves: Halves | None = None
        self._seen: list[Tensor] = []
        self.train(network.training)

    def __getattr__(self, name: str) -> Any:
        """What else a network is asked is answered by the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def encode(self, slices: Tensor) -> list[Tensor]:
        """As the network's; once there are enough slices for a few windows, the way is chosen and then kept."""
        if self._halves is None:
            self._seen.append(slices)
            least = self.network.num_slices + _WINDOWS - 1
            if sum(map(len, self._seen)) >= least:
                self._halves = self._chosen(torch.cat(self._seen)[:least])
                self._seen = []
        halves = self._halves or _under_autocast(self.network, self.device, False)
        return halves[0](slices)

    def decode(self, maps: list[list[Tensor]]) -> Tensor:
        """As the network's; float32."""
        halves = self._halves or _under_autocast(self.network, self.device, False)
        return halves[1](maps).float()

    def forward(self, image: Tensor) -> Tensor:
        """Whole windows, for what does not encode slices once."""
        return self.network(image)

    def _chosen(self, slices: Tensor) -> Halves:
        best = _under_autocast(self.network, self.device, False)
        self.way = FLOAT32
        wanted, fastest = self._timed(best, slices)
        for name, make in self._ways(slices).items():
            try:
                halves = make()
                self._timed(halves, slices)  # warms up
                found, seconds = self._timed(halves, slices)
            except Exception as error:  # a back end that cannot take this network is no reason to stop
                _logger.info("%s: does not run here (%s)", name, (str(error).splitlines() or [repr(error)])[0])
                continue
            share = equal_maps(found, wanted)
            _logger.info("%s: %.2f s, %.4f of the labels as in float32", name, seconds, share)
            if share >= AGREEMENT and seconds < fastest:
                best, fastest, self.agreement, self.way = halves, seconds, share, name
        return best

    def _timed(self, halves: Halves, slices: Tensor) -> tuple[Tensor, float]:
        """Labels of all windows that these slices make, one after the other, and the seconds they took."""
        start = now(self.device)
        maps = [halves[0](one) for one in slices.split(1)]
        labels = []
        for first in range(len(slices) - self.network.num_slices + 1):
            levels = zip(*(maps[first + place] for place in self.network.order), strict=True)
            labels.append(halves[1]([list(level) for level in levels]).argmax(dim=1))
        return torch.cat(labels), now(self.device) - start

    def _ways(self, slices: Tensor) -> dict[str, Callable[[], Halves]]:
        found: dict[str, Callable[[], Halves]] = {}
        pays = amp_pays(self.device)
        if pays:
            found[BFLOAT16] = lambda: _under_autocast(self.network, self.device, True)
        if self.device.type == "cpu" and find_spec("openvino") is not None:
            found[OPENVINO] = lambda: _openvino(self.network, slices, "f32")
            if pays:
                found[OPENVINO_BFLOAT16] = lambda: _openvino(self.network, slices, "bf16")
        return found


def _under_autocast(network: Any, device: torch.device, enabled: bool) -> Halves:
    def encode(slices: Tensor) -> list[Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            return network.encode(slices.float())

    def decode(maps: list[list[Tensor]]) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            return network.decode(maps)

    return encode, decode


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


def _openvino(network: Any, slices: Tensor, precision: str) -> Halves:
    """Both halves compiled by OpenVINO for one slice, or window, of this size."""
    with torch.inference_mode(False), torch.no_grad():
        example = slices[:1].clone().float()
        levels = network.encode(example)
        maps = [level[:1].clone().contiguous() for level in levels for _ in range(network.num_slices)]
        encoder = _compiled(_Encoder(network), [example], precision)
        decoder = _compiled(_Decoder(network, network.num_slices), maps, precision)

    def encode(batch: Tensor) -> list[Tensor]:
        found = [encoder([one.float()]) for one in batch.split(1)]
        return [torch.cat(level) for level in zip(*found, strict=True)]

    def decode(maps: list[list[Tensor]]) -> Tensor:
        flat = [one.float() for level in maps for one in level]
        windows = zip(*(one.split(1) for one in flat), strict=True)
        return torch.cat([decoder(list(window))[0] for window in windows])

    return encode, decode


def _compiled(module: nn.Module, example: Sequence[Tensor], precision: str) -> Callable[[list[Tensor]], list[Tensor]]:
    import openvino  # an extra

    traced = torch.jit.trace(module, tuple(example), check_trace=False)
    sizes = [tuple(one.shape) for one in example]
    model = openvino.convert_model(traced, example_input=tuple(example), input=sizes)
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(inputs: list[Tensor]) -> list[Tensor]:
        result = compiled([one.contiguous().numpy() for one in inputs])
        return [torch.from_numpy(result[place].copy()) for place in range(len(compiled.outputs))]

    return run
