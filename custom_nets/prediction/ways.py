# SPDX-License-Identifier: Apache-2.0
"""Ways to compute a network's forward pass on this machine: the bundle's own, compiled, OpenVINO."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from custom_nets.nets.s2ca_net import S2CANet

#: Networks with operations that OpenVINO does not have; finding that out takes minutes and gigabytes.
_NOT_FOR_OPENVINO = (S2CANet,)
#: Seconds of work below which a trial of a conversion, of a compilation, costs more than it can bring.
CONVERSION, COMPILATION = 60.0, 600.0
#: Takes the network's inputs to its output, float32.
Forward = Callable[..., Tensor]


def now(device: torch.device) -> float:
    """Seconds by a clock, when all is done that a GPU was given: its calls return before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def is_mixed(device: torch.device) -> bool:
    """Whether the bundle computes in mixed precision here."""
    return torch.is_autocast_enabled(device.type)


def own_name(device: torch.device) -> str:
    """The precision that the bundle computes in here."""
    dtype = torch.get_autocast_dtype(device.type) if is_mixed(device) else torch.float32
    return str(dtype).removeprefix("torch.")


def own(network: Callable[..., Tensor]) -> Forward:
    """PyTorch in the bundle's own precision."""
    return lambda *inputs: network(*inputs).float()


def plain(network: Callable[..., Tensor]) -> Forward:
    """PyTorch in float32: what other ways are held to."""

    def forward(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return network(*(one.float() for one in inputs)).float()

    return forward


def ways(
    network: nn.Module, device: torch.device, example: Sequence[Tensor], left: float
) -> dict[str, Callable[[], Forward]]:
    """What may be faster here than the bundle's own way: name -> makes the forward pass; may take a while or fail.

    Reduced precision is taken only where the bundle takes it, which knows where it pays.

    Args:
        network: in eval mode.
        device: where it lies.
        example: inputs, of the size that is to come.
        left: seconds that the bundle's own way would still take: what has to pay for a trial.
    """
    found: dict[str, Callable[[], Forward]] = {}
    if is_mixed(device) and left > COMPILATION:
        found[f"compiled {own_name(device)}"] = lambda: own(torch.compile(network, dynamic=False))
    if may_convert(network, device) and left > CONVERSION:
        found[openvino_name(device)] = lambda: _openvino(network, example)
    return found


def may_convert(network: nn.Module, device: torch.device) -> bool:
    """Whether OpenVINO is here and could take the network."""
    return device.type == "cpu" and find_spec("openvino") is not None and not isinstance(network, _NOT_FOR_OPENVINO)


def openvino_name(device: torch.device) -> str:
    """OpenVINO in the bundle's own precision."""
    return f"OpenVINO {own_name(device)}"


def compiled_by_openvino(module: nn.Module, example: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Trace a module at the size of the example and compile it with OpenVINO, in the bundle's own precision."""
    import openvino  # an extra

    precision = "bf16" if is_mixed(torch.device("cpu")) else "f32"
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        inputs = tuple(one.clone().float().contiguous() for one in example)
        traced = torch.jit.trace(module, inputs, check_trace=False)
        model = openvino.convert_model(traced, example_input=inputs, input=[tuple(one.shape) for one in inputs])
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        result = compiled([one.float().contiguous().numpy() for one in given])
        return [torch.from_numpy(result[place].copy()) for place in range(len(compiled.outputs))]

    return run


def _openvino(network: nn.Module, example: Sequence[Tensor]) -> Forward:
    compiled, sizes = compiled_by_openvino(network, example), [one.shape for one in example]

    def forward(*inputs: Tensor) -> Tensor:
        if [one.shape for one in inputs] != sizes:  # a last batch that is smaller
            return own(network)(*inputs)
        return compiled(inputs)[0]

    return forward
