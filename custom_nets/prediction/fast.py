# SPDX-License-Identifier: Apache-2.0
"""The fastest way to compute on this machine, chosen by timing the first two windows of a scan.

A way counts only if it gives the labels of float32 in nearly all voxels of both windows; how many agreed is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.inferers import Ensemble, members_of
from custom_nets.nets.s2anet import S2aNet
from custom_nets.nets.spineparsenet import SpineParseNet
from custom_nets.precision import MixedPrecisionInferer
from custom_nets.prediction.agreement import AGREEMENT, equal_labels, equal_regions
from custom_nets.prediction.fast_slices import FastSlices
from custom_nets.prediction.opened import OpenedBundle
from custom_nets.prediction.ways import FLOAT32, Forward, now, plain, ways
from custom_nets.tumours.transforms import RegionsFromLogitsd

_logger = logging.getLogger(__name__)

_WINDOWS = 2
#: Seconds that a compilation may take; windows that take longer together pay for it.
_COMPILATION = 300.0


class FastForward(nn.Module):
    """Stands in a network's place and computes as it does, in the fastest way that agrees with it.

    The first two calls of a size are also made in every other way that the machine has, timed, and compared; what
    follows is computed in the fastest one.

    Args:
        network: in eval mode.
        device: where it lies.
        calls: how many calls are to be expected, for what pays only in the long run.
        same: share of equal labels of two outputs; None takes :func:`equal_labels`.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        calls: int = 0,
        same: Callable[[Tensor, Tensor], float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.calls = calls
        self.same = same or equal_labels
        self.way = ""
        self.agreement = 1.0
        self._forward: Forward | None = None
        self._windows: list[tuple[Sequence[Tensor], Tensor, float]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute as the network does; float32."""
        if self._forward is not None:
            return self._forward(*inputs)
        start = now(self.device)
        output = plain(self.network)(*inputs)
        self._windows.append((inputs, output, now(self.device) - start))
        if len(self._windows) == _WINDOWS:
            self._choose()
        return output

    def __getattr__(self, name: str) -> Any:
        """What a network is asked besides, such as how many channels it takes, is answered by the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def _choose(self) -> None:
        last = self._windows[-1]
        best, seconds, agreement = plain(self.network), last[2], 1.0
        self.way = FLOAT32
        there = ways(self.network, self.device, last[0], self.calls * seconds > 2 * _COMPILATION)
        for name, make in there.items():
            try:
                forward = make()
                found = [self._tried(forward, *window) for window in self._windows]
            except Exception as error:  # a back end that cannot take this network is no reason to stop
                _logger.info("%s: does not run here (%s)", name, str(error).splitlines()[0] if str(error) else error)
                continue
            share, taken = min(share for share, _ in found), median(taken for _, taken in found[1:])
            _logger.info("%s: %.2f s a window, %.4f of the labels as in float32", name, taken, share)
            if share >= AGREEMENT and taken < seconds:
                best, seconds, agreement, self.way = forward, taken, share, name
        self.agreement = agreement
        self._forward = best
        self._windows = []

    def _tried(self, forward: Forward, inputs: Sequence[Tensor], wanted: Tensor, _: float) -> tuple[float, float]:
        """Share of equal labels and seconds of a window; the first one warms up."""
        start = now(self.device)
        found = forward(*inputs)
        taken = now(self.device) - start
        return self.same(found, wanted), taken


def made_fast(model: OpenedBundle, calls: int = 0) -> OpenedBundle:
    """Return the model with its network, or of a network of stages the one that sees most, computed the fastest way.

    Args:
        model: as it was opened; its own mixed precision is switched off.
        calls: how many windows are to be expected.
    """
    regions = any(isinstance(step, RegionsFromLogitsd) for step in model.postprocessing)
    same = equal_regions if regions else equal_labels

    def fast(network: nn.Module) -> nn.Module:
        if isinstance(network, SpineParseNet):
            if network.refinement is not None:
                network.refinement = FastForward(network.refinement, model.device, calls, same)  # type: ignore[assignment]
            return network
        if isinstance(network, S2aNet):
            return FastSlices(network, model.device)
        return FastForward(network, model.device, calls, same)

    if isinstance(model.inferer, MixedPrecisionInferer):
        model.inferer.enabled = False
    networks = [fast(one) for one in members_of(model.network)]
    return replace(model, network=networks[0] if len(networks) == 1 else Ensemble(networks))


def told(network: Any) -> dict[str, Any]:
    """How the networks that were made fast are computed: way and agreement of each that was called."""
    fast = [one for one in network.modules() if isinstance(one, FastForward | FastSlices) and one.way]
    return {
        "ways": sorted({one.way for one in fast}) or ["exact"],
        "agreement": round(min((one.agreement for one in fast), default=1.0), 5),
    }
