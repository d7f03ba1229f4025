# SPDX-License-Identifier: Apache-2.0
"""What a network is run for: a step of training, inference, or the making of another form of it."""

from __future__ import annotations

import torch
from torch import Tensor


def recorded(x: Tensor, weight: Tensor) -> bool:
    """True in a training step, as opposed to inference and to the making of another form of the network."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return False
    return torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)


def captured() -> bool:
    """True while another form of the network is made, which keeps to the plain operations."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()
