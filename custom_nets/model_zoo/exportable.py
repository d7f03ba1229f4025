# SPDX-License-Identifier: Apache-2.0
"""Which other forms a network can take: TorchScript by scripting or tracing, ONNX with open sizes or of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.export import Dim

from custom_nets.errors import InputError


@dataclass(frozen=True)
class Exportable:
    """What holds for the forms of one network.

    Attributes:
        multiple: `torch.export` and ONNX can leave D, H, W open as multiples of this; 0: they are of one size.
        least: voxels along each axis that an open form needs; smaller ones may work, but nothing says so.
        batch: the number of samples can be left open.
        scriptable: `torch.jit.script` takes the network.
        any_size: a traced form holds for all sizes that the network takes, and `torch.compile` makes one graph.
        reason: why not more of that holds, a sentence; empty where nothing is missing.
    """

    multiple: int = 0
    least: int = 0
    batch: bool = True
    scriptable: bool = True
    any_size: bool = True
    reason: str = ""

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether an exported form of open sizes takes an image N x C x (D x) H x W."""
        return self.multiple > 0 and all(length >= self.least and length % self.multiple == 0 for length in shape[2:])

    def open_axes(self, shape: Sequence[int]) -> dict[int, Any]:
        """The axes of an image N x C x (D x) H x W that `torch.export` is to leave open."""
        axes: dict[int, Any] = {0: Dim("batch")} if self.batch else {}
        if self.multiple:
            axes |= {axis: self._length(f"length{axis}") for axis in range(2, len(shape))}
        return axes

    def _length(self, name: str) -> Any:
        if self.multiple == 1:
            return Dim(name, min=self.least)
        return self.multiple * Dim(name, min=-(-self.least // self.multiple))


def exportable(network: nn.Module) -> Exportable:
    """Return what holds for the forms of a network.

    Raises:
        InputError: for one of a class that is not in the collection.
    """
    name = type(network).__name__
    if name not in _FACTS:
        raise InputError(f"network_def is a {name}: forms are known of {', '.join(_FACTS)}; export one of these.")
    return _FACTS[name](network)


def _levels(network: Any) -> Exportable:
    """Of a U-Net that takes multiples of a number."""
    return Exportable(network.multiple, 2 * network.multiple)


#: Class -> what holds for a network of it; `tests/test_networks.py` tries each fact.
_FACTS: dict[str, Callable[[Any], Exportable]] = {
    "GCSN": lambda _: Exportable(1, 17),
    "RSANet": lambda _: Exportable(
        16, 32, reason="An odd level of the decoder is cut, which a graph cannot decide: ONNX takes multiples of 16."
    ),
    "ResUNet2d": _levels,
    "S2CANet": lambda network: Exportable(
        reason=f"The planes of the local-global mixers are as large as the map: the network takes patches of "
        f"{network.patch_size} voxels an axis, and so do its forms."
    ),
    "S2aNet": _levels,
    "SpineParseNet": lambda _: Exportable(
        batch=False,
        scriptable=False,
        any_size=False,
        reason="scikit-image makes the matrices of the resizing in Python for the volume at hand: TorchScript cannot "
        "script the whole, and a traced or exported form holds for one size of volume.",
    ),
    "ZoomResUNet": lambda _: Exportable(1, 16),
}
