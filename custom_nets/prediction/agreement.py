# SPDX-License-Identifier: Apache-2.0
"""How far two ways to compute a network agree about labels."""

from __future__ import annotations

from torch import Tensor

#: Least share of voxels that have float32's labels, on what a way is tried on.
AGREEMENT = 0.98


def equal_labels(one: Tensor, other: Tensor) -> float:
    """Share of voxels whose largest class, of one channel whose sign, is the same; N x K x spatial each.

    The least of two shares: of all voxels, and of those that are not background to one or the other. A lesion is too
    small a part of a window to count in the first.
    """
    labels = [logits > 0 if logits.shape[1] == 1 else logits.argmax(dim=1) for logits in (one, other)]
    return equal_maps(*labels)


def equal_maps(one: Tensor, other: Tensor) -> float:
    """As `equal_labels`, of label maps of any shape."""
    return _least_share(one == other, (one > 0) | (other > 0))


def equal_regions(one: Tensor, other: Tensor) -> float:
    """Share of voxels in which every channel has the same sign; as `equal_labels`, the first channel is background."""
    signs = [logits > 0 for logits in (one, other)]
    return _least_share((signs[0] == signs[1]).all(dim=1), (signs[0] | signs[1])[:, 1:].any(dim=1))


def _least_share(equal: Tensor, found: Tensor) -> float:
    everywhere = float(equal.float().mean())
    return min(everywhere, float(equal[found].float().mean())) if found.any() else everywhere
