# SPDX-License-Identifier: Apache-2.0
"""ONNX files, with sizes left open where the network allows it, and the sessions that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.model_zoo.accurate_norms import with_accurate_norms

#: What an export to ONNX and its comparison take besides torch; the extra `export` of this package.
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUT = "pred"


def installed_versions() -> dict[str, str]:
    """Versions of those `PACKAGES` that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def why_not() -> str:
    """Why no ONNX form can be written here, as a sentence that says what to do; empty where it can."""
    missing = [package for package in PACKAGES if package not in installed_versions()]
    return f"{', '.join(missing)} not installed; pip install {' '.join(PACKAGES)}" if missing else ""


def write_onnx(
    network: nn.Module, inputs: Mapping[str, Tensor], axes: Sequence[Mapping[int, Any]], file: Path
) -> int | None:
    """Write a network as one ONNX file whose output is called `OUTPUT`.

    Args:
        network: in eval mode.
        inputs: examples by name, in the network's order; at least two samples where their number is left open.
        axes: of each input, which axes are left open and how; see `Exportable.open_axes`.
        file: to write.

    Returns:
        The opset.
    """
    with torch.no_grad():
        exported = torch.export.export(network, tuple(inputs.values()), dynamic_shapes=tuple(map(dict, axes)))
        program = torch.onnx.export(
            with_accurate_norms(exported),
            (),
            file,
            input_names=list(inputs),
            output_names=[OUTPUT],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return program.model.opset_imports.get("") if program is not None else None


def onnx_session(file: Path) -> Callable[..., Any]:
    """Return a function of the inputs that runs the file with onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> Any:
        arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return session.run([OUTPUT], arrays)[0]

    return run
