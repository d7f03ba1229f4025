# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations
from typing import Any
import torch
from custom_nets.nets.zoom_resunet import ZoomResUNet
def small(**options: Any) -> ZoomResUNet:
    """A network of few channels."""
    torch.manual_seed(0)
    return ZoomResUNet(**{"base_width": 4, "num_groups": 4} | options).eval()
