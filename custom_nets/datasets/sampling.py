# SPDX-License-Identifier: Apache-2.0
"""Every so many voxels of a volume: enough to tell how it looks, at a small part of its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Spacing = Sequence[float] | NDArray[np.float64]

STEP_MM = 3.0  # about half the thickness of the skull, the thinnest that is looked for
_LEAST_SAMPLES = 64  # along an axis, if there are as many voxels: a header may state any voxel size
_MOST_VOXELS = 250_000


def strides(shape: Sequence[int], spacing: Spacing) -> tuple[int, int, int]:
    """Along each axis, every how many voxels one is taken: about `STEP_MM` apart, 250 000 in all at most.

    Args:
        shape: voxels along three axes.
        spacing: their size in mm.
    """
    most = [max(1, size // _LEAST_SAMPLES) for size in shape[:3]]
    steps = [
        limit if size <= 0 else int(np.clip(round(STEP_MM / size), 1, limit))
        for size, limit in zip(spacing, most, strict=True)
    ]
    while np.prod(kept := [-(-size // step) for size, step in zip(shape[:3], steps, strict=True)]) > _MOST_VOXELS:
        steps[int(np.argmax(kept))] += 1
    return steps[0], steps[1], steps[2]


def sampled(voxels: NDArray[Any], spacing: Spacing) -> NDArray[np.float32]:
    """The samples of a volume of three axes, with 0 for what is not finite; a copy."""
    first, second, third = strides(voxels.shape, spacing)
    samples = voxels[::first, ::second, ::third].astype(np.float32)
    return np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
