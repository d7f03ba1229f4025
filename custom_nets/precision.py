# SPDX-License-Identifier: Apache-2.0
"""Mixed precision on any device, as an inferer around the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from custom_nets.errors import InputError

#: What ``amp_dtype`` may name.
AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def amp_pays(device: torch.device | str, on_cpu: bool = True) -> bool:
    """Tell whether mixed precision is faster on ``device``: any GPU, or a CPU with bfloat16 instructions.

    Args:
        device: where to compute.
        on_cpu: False for a network that a CPU runs faster in float32.
    """
    return str(device).startswith("cuda") or (on_cpu and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def amp_dtype_named(name: str) -> torch.dtype:
    """Return the data type of that name; `InputError` for another than "bfloat16" or "float16"."""
    if name not in AMP_DTYPES:
        raise InputError(f"amp_dtype is '{name}': choose one of {sorted(AMP_DTYPES)}, or switch amp off.")
    return AMP_DTYPES[name]


class MixedPrecisionInferer(Inferer):
    """Run another inferer under autocast, and return float32 (label maps as they are; of each output of several).

    MONAI's engines autocast on CUDA alone; this serves CPUs as well, and leaves the loss in float32. Bfloat16 needs no
    gradient scaler; for float16 on CUDA let the trainer scale (its ``amp``). The network is given plain tensors: every
    operation on a `MetaTensor` would carry the metadata along.

    Args:
        inferer: any MONAI inferer.
        enabled: False = float32 throughout.
        dtype: "bfloat16" (default; float32's range) or "float16".
    """

    def __init__(self, inferer: Inferer, enabled: bool = True, dtype: str = "bfloat16") -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = enabled
        self.dtype = amp_dtype_named(dtype)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Predict; shapes are the wrapped inferer's."""
        with torch.autocast(inputs.device.type, dtype=self.dtype, enabled=self.enabled):
            output = self.inferer(inputs, _PlainTensors(network), *args, **kwargs)
            return [_single(one) for one in output] if isinstance(output, list) else _single(output)


def _single(output: Tensor) -> Tensor:
    return output.float() if output.is_floating_point() else output


class _PlainTensors:
    """A network that is given tensors without metadata; all else of it is its own."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self._network = network

    def __call__(self, windows: Tensor, *more: Any, **named: Any) -> Tensor:
        return self._network(windows.as_tensor() if isinstance(windows, MetaTensor) else windows, *more, **named)

    def __getattr__(self, name: str) -> Any:
        if name == "members":  # of an ensemble, each of which is given plain tensors as well
            return [_PlainTensors(member) for member in self._network.members]  # type: ignore[attr-defined]
        return getattr(self._network, name)
