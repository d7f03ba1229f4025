# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the 3D-ResU-Net's code, which pickles whole modules; the names of the entries are ours too."""

from __future__ import annotations

from typing import Any

import torch

from custom_nets.checkpoints import StateDict, require_same
from custom_nets.errors import InputError
from custom_nets.nets.zoom_resunet import ZoomResUNet

#: Classes of the published program whose names its files hold.
CLASSES = ("model.UNet3D", "model.Encoder")


def convert(state_dict: StateDict, **options: Any) -> StateDict:
    """Check a state dict of the published network against ours; ``options`` need to tell the number of groups only."""
    options = _told_by_shapes(state_dict) | options
    try:
        with torch.device("meta"):
            network = ZoomResUNet(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the options {options} make no ZoomResUNet: {error}") from error
    require_same(state_dict, network.state_dict(), "the published state dict", "ZoomResUNet")
    return state_dict


def _told_by_shapes(state_dict: StateDict) -> dict[str, Any]:
    """Constructor arguments that the first and the last convolution tell."""
    first, last = state_dict.get("ec0.conv1.weight"), state_dict.get("dc0b.0.weight")
    if first is None or last is None or first.ndim != 5 or last.ndim != 5:
        return {}
    return {
        "in_channels": first.shape[1],
        "out_channels": last.shape[1],
        "base_width": first.shape[0] // 2,
        "use_bias": "ec0.conv1.bias" in state_dict,
    }
