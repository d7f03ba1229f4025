# SPDX-License-Identifier: Apache-2.0
"""The fastest way to compute on this machine, chosen by timing the first two windows of a scan.

Another way than the bundle's own counts only if it gives the labels of float32 in nearly all voxels of both windows;
how many agreed is recorded. Where too little is left to compute for a trial to pay, the bundle's own way is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.inferers import Ensemble, members_of
from custom_nets.nets.s2anet import S2aNet
from custom_nets.nets.spineparsenet import SpineParseNet
from custom_nets.prediction.agreement import equal_labels, equal_regions
from custom_nets.prediction.choosing import Choice, chosen
from custom_nets.prediction.fast_slices import FastSlices
from custom_nets.prediction.opened import OpenedBundle
from custom_nets.prediction.ways import Forward, is_mixed, now, own, own_name, plain, ways
from custom_nets.tumours.transforms import RegionsFromLogitsd

_WINDOWS = 2


class FastForward(nn.Module):
    """Stands in a network's place and computes as it does, in the fastest way that agrees with it.

    The first two windows are computed as the bundle does. If enough is left, they are computed in every other way that
    the machine has, too, timed, and compared; what follows is computed in the fastest one.

    Args:
        network: in eval mode.
        device: where it lies.
        same: share of equal labels of two outputs; None takes :func:`equal_labels`.

    Attributes:
        calls: how many are to be expected, set from outside as it becomes known.
        choice: None before anything was chosen.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, same: Callable[[Tensor, Tensor], float] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.calls = 0
        self.same = same or equal_labels
        self.choice: Choice[Forward] | None = None
        self._windows: list[tuple[Sequence[Tensor], Tensor, float]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute as the network does; float32."""
        if self.choice is not None:
            return self.choice.way(*inputs)
        start = now(self.device)
        output = own(self.network)(*inputs)
        self._windows.append((inputs, output, now(self.device) - start))
        left = (self.calls - len(self._windows)) * self._windows[-1][2]
        there = ways(self.network, self.device, inputs, left)
        if not there:
            self.choice = Choice(own_name(self.device), own(self.network))
        elif len(self._windows) == _WINDOWS:
            self.choice = self._chosen(there)
        if self.choice is not None:
            self._windows = []
        return output

    def __getattr__(self, name: str) -> Any:
        """What a network is asked besides, such as how many channels it takes, is answered by the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def _chosen(self, there: dict[str, Callable[[], Forward]]) -> Choice[Forward]:
        outputs = [output for _, output, _ in self._windows]
        wanted = self._trial(plain(self.network))[0] if is_mixed(self.device) else outputs

        def share(found: list[Tensor]) -> float:
            return min(self.same(*pair) for pair in zip(found, wanted, strict=True))

        choice = Choice(own_name(self.device), own(self.network))
        return chosen(choice, (outputs, self._windows[-1][2]), there, self._trial, share)

    def _trial(self, forward: Forward) -> tuple[list[Tensor], float]:
        """Outputs of the windows and seconds of the last one; those before warm up."""
        found = [forward(*inputs) for inputs, _, _ in self._windows[:-1]]
        start = now(self.device)
        found.append(forward(*self._windows[-1][0]))
        return found, now(self.device) - start


def made_fast(model: OpenedBundle) -> OpenedBundle:
    """Return the model with its network, or of a network of stages the one that sees most, computed the fastest way."""
    regions = any(isinstance(step, RegionsFromLogitsd) for step in model.postprocessing)
    same = equal_regions if regions else equal_labels

    def fast(network: nn.Module) -> nn.Module:
        if isinstance(network, S2aNet):
            return FastSlices(network, model.device)
        if isinstance(network, SpineParseNet):
            if network.refinement is not None:
                network.refinement = FastForward(network.refinement, model.device, same)  # type: ignore[assignment]
            return network
        return FastForward(network, model.device, same)

    networks = [fast(one) for one in members_of(model.network)]
    return replace(model, network=networks[0] if len(networks) == 1 else Ensemble(networks))


def expect(network: nn.Module, calls: int) -> None:
    """Tell networks that choose how to compute how many windows, or slices, there are to compute."""
    for part in network.modules():
        if isinstance(part, FastForward | FastSlices):
            part.calls = calls


def told(network: nn.Module) -> dict[str, Any]:
    """How the networks that were made fast are computed: ways, and their least agreement (None: not compared)."""
    choices = [one.choice for one in network.modules() if isinstance(one, FastForward | FastSlices) and one.choice]
    compared = [choice.agreement for choice in choices if choice.agreement is not None]
    return {
        "ways": sorted({choice.name for choice in choices}) or ["exact"],
        "agreement": round(min(compared), 5) if compared else None,
    }
