# SPDX-License-Identifier: Apache-2.0
"""A cubic map as planes across one of its axes, and back. Views; what needs it is copied by who takes them."""

from __future__ import annotations

from torch import Tensor


def across(x: Tensor, axis: int) -> Tensor:
    """N x C x H x W x D -> N x C x (the axis) x (the other two, in their order); axis 0, 1 or 2."""
    return x.movedim(2 + axis, 2)


def back(x: Tensor, axis: int) -> Tensor:
    """The inverse of `across`."""
    return x.movedim(2, 2 + axis)
