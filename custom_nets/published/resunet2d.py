# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SpineParseNet's second stage, ResUNet.

A file is a dictionary whose ``model_state_dict`` is the state dict, beside the optimizer's, counters and the best score
as a NumPy number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from custom_nets.checkpoints import StateDict, rename, require_same
from custom_nets.errors import InputError
from custom_nets.nets.resunet2d import ResUNet2d

_NAMES = {
    r"^(encoders\.\d+)\.basic_module\.": r"\1.",
    r"\.basic_module\.": ".unit.",
    r"\.batchnorm\.": ".norm.",
    r"^final_conv\.": "classify.",
}


def convert(state_dict: StateDict, **options: Any) -> StateDict:
    """Names of the published second stage to ours.

    Args:
        state_dict: of the ResUNet over image and coarse logits, or over the image alone.
        options: arguments of `ResUNet2d`; those left out are told by the shapes.

    Raises:
        InputError: for another network (all disagreements are listed).
    """
    options = network_options(state_dict) | options
    try:
        with torch.device("meta"):
            network = ResUNet2d(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the options {options} make no ResUNet2d: {error}") from error
    converted = rename(state_dict, _NAMES)
    require_same(converted, network.state_dict(), "the published state dict", "ResUNet2d")
    return converted


def network_options(state_dict: StateDict) -> dict[str, Any]:
    """Constructor arguments that the shapes tell: one image channel, and coarse logits for all others."""
    last = state_dict.get("final_conv.weight")
    levels: list[Tensor] = []
    while (first := state_dict.get(f"encoders.{len(levels)}.basic_module.conv1.conv.weight")) is not None:
        levels.append(first)
    if last is None or last.ndim != 4 or not levels or levels[0].ndim != 4:
        return {}
    return {
        "out_channels": last.shape[0],
        "coarse_channels": levels[0].shape[1] - 1,
        "filters": [level.shape[0] for level in levels],
    }
