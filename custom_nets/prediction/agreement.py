# SPDX-License-Identifier: Apache-2.0
"""How far two ways to compute a network agree about labels."""

from __future__ import annotations

from torch import Tensor

#: Least share of voxels that have float32's labels, on what a way is tried on.
AGREEMENT = 0.99


def equal_labels(one: Tensor, other: Tensor) -> float:
    """Share of voxels whose largest class, of one channel whose sign, is the same; N x K x spatial each."""
    labels = [logits > 0 if logits.shape[1] == 1 else logits.argmax(dim=1) for logits in (one, other)]
    return float((labels[0] == labels[1]).float().mean())


def equal_regions(one: Tensor, other: Tensor) -> float:
    """Share of voxels in which every channel has the same sign."""
    return float(((one > 0) == (other > 0)).all(dim=1).float().mean())
