# SPDX-License-Identifier: Apache-2.0
"""Weights for comparisons of a network's forms where none are trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from custom_nets.checkpoints import save_weights
from custom_nets.model_zoo.form_parts import built, parts_of


def write_random_weights(folder: Path, seed: int) -> Path:
    """Write models/model.pt of a bundle's folder: the network as it is built, then stirred, see `stir`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = built(folder)
    for part in parts_of(network, folder):
        stir(part.network, seed)
        largest = max(part.shapes, key=lambda one: int(np.prod(one[0])))
        settle_norms(part.network, part.examples([(2, *shape[1:]) for shape in largest]))
    path = folder / "models" / "model.pt"
    save_weights(network.state_dict(), path)
    return path


def stir(network: nn.Module, seed: int, amount: float = 0.1) -> None:
    """Add noise to every parameter whose values are all equal, such as a factor that starts at 0 and idles its part."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() and (parameter == parameter.flatten()[0]).all():
                noise = rng.normal(0.0, amount, parameter.shape).astype(np.float32)
                parameter.add_(torch.from_numpy(np.asarray(noise)))


def settle_norms(network: nn.Module, inputs: list[torch.Tensor]) -> None:
    """Give batch norms the statistics of these inputs; with those that they start with, deep maps vanish or explode."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(*inputs)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval()
        norm.momentum = momentum
