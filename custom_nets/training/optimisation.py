# SPDX-License-Identifier: Apache-2.0
"""Optimisers by name, which parameters decay, and gradients that are cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn

from custom_nets.errors import InputError


def optimizer_named(
    name: str, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.99
) -> torch.optim.Optimizer:
    """Return one of the two optimisers that papers here use, with L2 weight decay in the gradient.

    Args:
        name: "adam", or "sgd" with Nesterov's momentum.
        params: what it trains.
        lr: learning rate.
        weight_decay: of all parameters.
        momentum: of "sgd"; 0 is plain gradient descent.

    Raises:
        InputError: for another name.
    """
    if name == "adam":
        return torch.optim.Adam(params, lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    raise InputError(f"optimizer_name is {name!r}: choose adam or sgd")


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Give ``weight_decay`` to the kernels alone: norms, biases and scalars such as RSANet's β stay free of it.

    Args:
        network: its trainable parameters are taken.
        weight_decay: for every parameter of two or more dimensions.

    Returns:
        Two groups for a `torch.optim` optimiser.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


class ClipGradients:
    """Handler: scale the gradients down to a norm of at most ``max_norm`` before every step.

    Almost one-hot rows of an attention give rare, large gradients.

    Args:
        max_norm: L2 norm over all parameters; 0 = off.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a `SupervisedTrainer`."""
        if self.max_norm > 0:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip, in true size where a gradient scaler is at work."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)
