# SPDX-License-Identifier: Apache-2.0
"""Ways to compute a network's forward pass on this machine: plain, mixed precision, compiled, OpenVINO."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.precision import amp_pays

#: Networks with operations that OpenVINO does not have; finding that out takes minutes and gigabytes.
_NOT_FOR_OPENVINO = (S2CANet,)
#: Takes the network's inputs to its output.
Forward = Callable[..., Tensor]
FLOAT32, BFLOAT16, COMPILED = "float32", "bfloat16", "compiled bfloat16"
OPENVINO, OPENVINO_BFLOAT16 = "OpenVINO float32", "OpenVINO bfloat16"


def now(device: torch.device) -> float:
    """Seconds by a clock, when all is done that a GPU was given: its calls return before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def plain(network: nn.Module) -> Forward:
    """PyTorch as it is, in float32: what the other ways are held to."""

    def forward(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return network(*(one.float() for one in inputs)).float()

    return forward


def mixed(network: Callable[..., Tensor]) -> Forward:
    """PyTorch under autocast to bfloat16."""

    def forward(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16):
            return network(*inputs).float()

    return forward


def ways(network: nn.Module, device: torch.device, example: Sequence[Tensor], compile_pays: bool) -> dict[str, Any]:
    """What may be faster than `plain` here: name -> makes the forward pass, which may take a while or fail.

    Args:
        network: in eval mode.
        device: where it lies.
        example: inputs, of the size that is to come.
        compile_pays: whether enough is to be computed for a compilation of minutes.
    """
    found: dict[str, Callable[[], Forward]] = {}
    if amp_pays(device):
        found[BFLOAT16] = lambda: mixed(network)
        if compile_pays:
            found[COMPILED] = lambda: mixed(torch.compile(network, dynamic=False))
    if device.type == "cpu" and find_spec("openvino") is not None and not isinstance(network, _NOT_FOR_OPENVINO):
        found[OPENVINO] = lambda: _openvino(network, example, "f32")
        if amp_pays(device):
            found[OPENVINO_BFLOAT16] = lambda: _openvino(network, example, "bf16")
    return found


def _openvino(network: nn.Module, example: Sequence[Tensor], precision: str) -> Forward:
    """The network traced at the size of the example and compiled by OpenVINO."""
    import openvino  # an extra

    with torch.inference_mode(False), torch.no_grad():
        inputs = tuple(one.clone().float() for one in example)
        traced = torch.jit.trace(network, inputs, check_trace=False)
        model = openvino.convert_model(traced, example_input=inputs, input=[tuple(one.shape) for one in inputs])
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    sizes = [one.shape for one in example]

    def forward(*inputs: Tensor) -> Tensor:
        if [one.shape for one in inputs] != sizes:  # a last batch that is smaller
            return plain(network)(*inputs)
        result = compiled([one.float().contiguous().numpy() for one in inputs])
        return torch.from_numpy(result[0].copy())

    return forward
