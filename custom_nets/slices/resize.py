# SPDX-License-Identifier: Apache-2.0
"""Resizing slices by nearest neighbour with the two index rules of S2aNet's published preparation.

Neither PyTorch's nor MONAI's nearest modes take the same pixels for all pairs of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from custom_nets.errors import InputError

#: ``accumulated``: pixel centres, Pillow's rule (2D and three slices); ``endpoints``: SciPy's zoom (other numbers).
INDEX_RULES = ("accumulated", "endpoints")


@cache
def nearest_indices(n_in: int, n_out: int, rule: str = "accumulated") -> Tensor:
    """Which source pixel each pixel of a resized row takes.

    ``accumulated`` takes ⌊t_k⌋ with t_0 = n_in / (2 n_out) and t_{k+1} = t_k + n_in / n_out added up in double
    precision, which is Pillow's nearest filter to the last rounding. ``endpoints`` takes round(k (n_in - 1) /
    (n_out - 1)), half up, which is `scipy.ndimage.zoom` of order 0: first and last pixel stay first and last.

    Args:
        n_in: pixels there are, at least 1.
        n_out: pixels wanted, at least 1.
        rule: ``accumulated`` or ``endpoints``.

    Returns:
        n_out indices, int64, 0 to n_in - 1. Shared between calls: not to be changed.

    Raises:
        InputError: for another rule or a size below 1.
    """
    check_index_rule(rule)
    if min(n_in, n_out) < 1:
        raise InputError(f"cannot resize {n_in} pixels to {n_out}: both must be at least 1")
    if rule == "accumulated":
        step = n_in / n_out
        steps = np.full(n_out, step)
        steps[0] = 0.5 * step
        indices = np.floor(np.cumsum(steps))  # cumsum adds one after the other, as the rule asks
    else:
        indices = np.floor(np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1)) + 0.5)
    return torch.from_numpy(indices.astype(np.int64).clip(0, n_in - 1))


def resize_nearest(x: Tensor, size: Sequence[int], rule: str = "accumulated") -> Tensor:
    """Resize images or label maps; no value is made up.

    Args:
        x: ... x H x W.
        size: rows and columns wanted.
        rule: of :func:`nearest_indices`.

    Returns:
        ... x size[0] x size[1], same type; ``x`` itself if it has that size.

    Raises:
        InputError: see :func:`nearest_indices`.
    """
    for axis, n_out in ((-2, size[0]), (-1, size[1])):
        if x.shape[axis] != n_out:
            x = x.index_select(axis, nearest_indices(x.shape[axis], n_out, rule).to(x.device))
    return x


def source_position(n_in: int, n_out: int, rule: str = "accumulated") -> tuple[float, float]:
    """Where the centre of pixel k of a resized row lies, as (a, b): at a k + b in source pixels."""
    if rule == "endpoints":
        return (n_in - 1) / max(n_out - 1, 1), 0.0
    return n_in / n_out, 0.5 * n_in / n_out - 0.5


def check_index_rule(rule: str) -> None:
    """Refuse a rule that :func:`nearest_indices` does not know.

    Raises:
        InputError: naming the rules.
    """
    if rule not in INDEX_RULES:
        raise InputError(f"index_rule is {rule!r}: choose one of {', '.join(INDEX_RULES)}")
