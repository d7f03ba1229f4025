# SPDX-License-Identifier: Apache-2.0
"""What a crop size costs in the 3D-ResU-Net: multiply-accumulates and memory of a training step with batch size 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Of one forward pass, convolutions only; exact when all sizes divide by 8, otherwise up to about 2 % too many.
MACS_PER_VOXEL = 317_248

#: Activations that the backward pass needs, float32, counted on the network in train mode.
BYTES_PER_VOXEL = 2_859

#: Weights, gradients and the two moments of Adam.
FIXED_GIB = 0.28

#: Least voxels along an axis: three poolings leave one.
SMALLEST_AXIS = 8

#: Share of the float32 activations that mixed precision keeps.
PRECISIONS = {"float32": 1.0, "AMP": 0.5}


def macs(size: Sequence[int]) -> int:
    """Multiply-accumulates of a forward pass over a crop of ``size`` voxels."""
    return MACS_PER_VOXEL * math.prod(size)


def training_gib(size: Sequence[int], precision: str = "float32") -> float:
    """Memory of a training step in GiB: a lower bound, as libraries and the CUDA context come on top.

    Args:
        size: voxels of the crop along its axes.
        precision: ``"float32"`` or ``"AMP"`` (mixed precision).
    """
    return PRECISIONS[precision] * BYTES_PER_VOXEL * math.prod(size) / 2**30 + FIXED_GIB


def fitting(size: Sequence[int], gpu_gib: Sequence[float], precision: str) -> list[float]:
    """Those of the GPUs, given by their memory in GiB, that hold a training step."""
    return [gib for gib in gpu_gib if training_gib(size, precision) <= gib]
