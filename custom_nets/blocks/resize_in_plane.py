# SPDX-License-Identifier: Apache-2.0
"""Trilinear resize of 3D maps to the size of another one, first to first and last to last voxel (align_corners)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks.modes import captured


def resized_like(x: Tensor, other: Tensor) -> Tensor:
    """Resize N x C x D x H x W to the spatial size of ``other``; slice by slice where D stays the same.

    On a CPU maps with their channels side by side keep this layout, in which PyTorch resizes slices several times
    faster than volumes.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if x.device.type == "cpu" and not captured() and x.shape[2] == other.shape[2] and x.stride(1) == 1:
            if x.shape[3:] == other.shape[3:]:
                return x
            slices = x.transpose(1, 2).flatten(0, 1)
            size = (other.shape[3], other.shape[4])
            resized = F.interpolate(slices, size=size, mode="bilinear", align_corners=True)
            return resized.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    size3d = [other.shape[2], other.shape[3], other.shape[4]]
    return F.interpolate(x, size=size3d, mode="trilinear", align_corners=True)
