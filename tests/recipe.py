# SPDX-License-Identifier: Apache-2.0
"""Golden files and the weights they were made with: loading, filling a module, measuring the difference."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests import golden

GOLDENS = Path(__file__).parent / "goldens"
SOFT_BETAS = (0.3, -0.7, 1.1)
REGIMES = ("hard", "soft", "beta0")


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """All golden arrays of one paper; read only."""
    with np.load(GOLDENS / name / "public.npz") as archive:
        return {key: archive[key] for key in archive.files}


@cache
def document(name: str) -> dict[str, Any]:
    """The rules, shapes and scalar goldens of one paper."""
    return json.loads((GOLDENS / name / "public.json").read_text(encoding="utf-8"))


@cache
def _weight(key: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.asarray(golden.weight(key, shape)))


def slice_attention_weight(key: str, shape: tuple[int, ...], regime: str = "hard") -> Tensor:
    """Value of one entry in a regime of the RSA block's goldens.

    The plain recipe ("hard") makes the attention almost one-hot and gives all betas 0.5, which would hide wrong betas:
    "soft" multiplies the weights of theta and phi by 0.25 and sets the betas apart, "beta0" makes the betas 0.
    """
    value = _weight(key, shape)
    if "betas." in key and regime != "hard":
        return torch.tensor(0.0 if regime == "beta0" else SOFT_BETAS[int(key.rsplit(".", 1)[-1])])
    if regime == "soft" and key.endswith(("theta_conv.weight", "phi_conv.weight")):
        return value * 0.25
    return value


def recipe_state(module: nn.Module, regime: str = "hard") -> dict[str, Tensor]:
    """A state dict for `module` with the values of the recipe, keyed by the names inside `module`."""
    return {key: slice_attention_weight(key, tuple(value.shape), regime) for key, value in module.state_dict().items()}


def filled(module: nn.Module, regime: str = "hard") -> nn.Module:
    """`module` in eval mode with the recipe's weights."""
    module.load_state_dict(recipe_state(module, regime))
    return module.eval()


def image(shape: tuple[int, ...] | list[int], name: str = "input") -> Tensor:
    """A standard-normal float32 tensor that depends on `name` and `shape` alone."""
    return torch.from_numpy(golden.draw(name, tuple(shape)).astype(np.float32))


def relative_l2(value: Tensor, expected: Tensor | np.ndarray) -> float:
    """||value - expected|| / ||expected||."""
    expected = torch.as_tensor(expected)
    return float((value - expected).norm() / expected.norm())
