# SPDX-License-Identifier: Apache-2.0
"""How much the exported forms of a network differ from the network itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.marked_text import markdown_table

#: Where a bundle keeps the numbers.
REPORT = "docs/parity.json"
#: Greatest difference of a form, as a share of the network's largest output.
TOLERANCE = 1e-4
#: The same, as a multiple of what the network itself loses in float32. Two computations that are equally good differ by
#: up to twice that; of weights with which float32 loses much, all forms do.
ROUNDING = 4


@dataclass(frozen=True)
class Comparison:
    """A form and the network on one input.

    Attributes:
        shape: of the input; of the first one, where there are several.
        difference: greatest absolute difference of the outputs.
        largest: greatest absolute value of the network's output.
        same_labels: share of voxels that get the same label: the channel of the largest output, or the sign of one.
        same_shape: whether the outputs have the same shape; all else is 0 where they have not.
        rounding: greatest absolute difference of the network's output from its output in float64, measured where the
            form differs by more than `TOLERANCE`; else 0.
    """

    shape: tuple[int, ...]
    difference: float
    largest: float
    same_labels: float
    same_shape: bool = True
    rounding: float = 0.0

    @property
    def allowed(self) -> float:
        """Greatest difference that is allowed."""
        return max(TOLERANCE * self.largest, ROUNDING * self.rounding)

    @property
    def agrees(self) -> bool:
        """Whether the difference is allowed; never where an output is not finite, or nothing but 0."""
        return self.same_shape and self.largest > 0 and self.difference <= self.allowed < float("inf")


@dataclass(frozen=True)
class Form:
    """A written form.

    Attributes:
        file: path in the bundle.
        kind: "TorchScript" or "ONNX".
        made_by: "scripting", "tracing" or "torch.export".
        sizes: which it takes, in words.
        comparisons: with the network.
    """

    file: str
    kind: str
    made_by: str
    sizes: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class LeftOut:
    """A form that was not written, and why, in a sentence."""

    file: str
    reason: str


@dataclass(frozen=True)
class Parity:
    """All forms of a bundle's network.

    Attributes:
        network: its class.
        weights: what it was compared with, in words.
        digest: of these weights, see :func:`~custom_nets.checkpoints.state_digest`.
        versions: of torch, onnx and onnxruntime, as far as they took part.
        opset: of the ONNX files; None where there are none.
        forms: what was written.
        left_out: what was not.
        notes: sentences about limits of the forms.
        tolerance: see `TOLERANCE`.
    """

    network: str
    weights: str
    versions: dict[str, str]
    opset: int | None
    forms: tuple[Form, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """The content of docs/parity.json."""
        return asdict(self)


def compare(form: Callable[..., Any], network: nn.Module, inputs: Sequence[Tensor]) -> Comparison:
    """Run a form and the network on the same inputs.

    Args:
        form: takes and returns what the network does; the output may be an array.
        network: in eval mode.
        inputs: of both.
    """
    with torch.no_grad():
        expected = network(*inputs)
        found = torch.as_tensor(np.asarray(form(*inputs)))
    shape = tuple(inputs[0].shape)
    if found.shape != expected.shape:
        return Comparison(shape, 0.0, 0.0, 0.0, same_shape=False)
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    same_labels = float((_labels(found) == _labels(expected)).float().mean())
    rounding = 0.0 if difference <= TOLERANCE * largest else _rounding(network, inputs, expected)
    return Comparison(shape, difference, largest, same_labels, rounding=rounding)


def _rounding(network: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> float:
    """Greatest difference of the network's float32 output from that of the same weights in float64."""
    with torch.no_grad():
        exact = deepcopy(network).double()(*(one.double() for one in inputs))
    return float((exact - output).abs().max())


def require_agreement(form: Form) -> None:
    """Refuse a form that differs from the network.

    Raises:
        InputError: naming the form, the size and the difference.
    """
    for one in form.comparisons:
        if not one.agrees:
            size = _product(one.shape)
            what = (
                f"{one.difference:.3g} where {one.allowed:.3g} is allowed; the network's largest output is "
                f"{one.largest:.3g}, of which float32 itself loses {one.rounding:.3g}"
                if one.same_shape
                else "the shape of the output"
            )
            raise InputError(
                f"{form.file}: on an input of {size} it differs from the network by {what}; nothing is written. "
                "Check that the weights are finite, and export with the versions of torch and onnxruntime that "
                "docs/README.md names."
            )


def parity_table(parity: Parity) -> str:
    """Return the numbers and the reasons in Markdown."""
    header = ("File", "Made by", "Takes", "Compared at", "Greatest difference", "Largest output", "Same labels")
    rows = [
        (
            f"`{form.file}`",
            form.made_by,
            form.sizes,
            _product(one.shape),
            f"{one.difference:.1e}",
            f"{one.largest:.3g}",
            _percent(one.same_labels),
        )
        for form in parity.forms
        for one in form.comparisons
    ]
    versions = ", ".join(f"{name} {version}" for name, version in parity.versions.items())
    opset = f", opset {parity.opset}" if parity.opset else ""
    told = [
        markdown_table(header, rows),
        f"{parity.network}, {parity.weights}; on a CPU in float32, {versions}{opset}. Allowed is a difference of "
        f"{parity.tolerance:g} of the largest output{_rounded(parity)}.",
        "\n".join(f"- not written, {files}: {reason}" for reason, files in _by_reason(parity.left_out).items()),
        "\n".join(f"- {note}" for note in parity.notes),
    ]
    return "\n\n".join(part for part in told if part)


def _rounded(parity: Parity) -> str:
    """What else is allowed, where it was needed."""
    losses = [one.rounding for form in parity.forms for one in form.comparisons if one.rounding]
    if not losses:
        return ""
    return f", or {ROUNDING} times what the network itself loses in float32, up to {max(losses):.1e} with these weights"


def _by_reason(left_out: Sequence[LeftOut]) -> dict[str, str]:
    """Reason -> the files that it holds for."""
    files: dict[str, list[str]] = {}
    for one in left_out:
        files.setdefault(one.reason, []).append(f"`{one.file}`")
    return {reason: ", ".join(names) for reason, names in files.items()}


def _labels(output: Tensor) -> Tensor:
    return output > 0 if output.shape[1] == 1 else output.argmax(dim=1)


def _product(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _percent(share: float) -> str:
    """Never rounded up to all voxels."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.9999):.4f} %"
