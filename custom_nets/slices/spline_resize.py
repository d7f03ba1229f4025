# SPDX-License-Identifier: Apache-2.0
"""scikit-image's resize of slices as products with one matrix an axis, on any device and for whole batches at once.

A spline resize, anti-aliasing included, is linear and separable. The library itself gives the matrices: it resizes the
identity. SpineParseNet was trained on slices that this very resize made (order 3, constant border, Gaussian of
(factor - 1) / 2 pixels where an axis shrinks, clipped to the range of the input; section "Coarse samples").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from skimage.transform import resize
from torch import Tensor

from custom_nets.errors import InputError


def spline_resize(x: Tensor, size: Sequence[int], background: float = 0.0) -> Tensor:
    """Resize images as `skimage.transform.resize` does a volume whose slices keep their number.

    Args:
        x: ... x H x W, floating point; all but the first axis count as one volume when values are clipped.
        size: rows and columns wanted.
        background: what lies beyond the border.

    Returns:
        ... x size[0] x size[1], same type.

    Raises:
        InputError: for a size below 1.
    """
    rows, columns = (torch.from_numpy(_matrix(n, m)).to(x) for n, m in zip(x.shape[-2:], size, strict=True))
    with torch.autocast(x.device.type, enabled=False):
        out = rows @ (x - background) @ columns.T + background
    within = tuple(range(1, x.ndim)) if x.ndim > 2 else (0, 1)
    lowest, highest = x.amin(within, keepdim=True), x.amax(within, keepdim=True)
    # the library lets the background's own value pass where the result reaches it
    reached = (out.amin(within, keepdim=True) <= background) & (out.amax(within, keepdim=True) >= background)
    lowest = torch.where(reached, lowest.clamp(max=background), lowest)
    highest = torch.where(reached, highest.clamp(min=background), highest)
    return torch.minimum(torch.maximum(out, lowest), highest)


def nearest_resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize label maps as `skimage.transform.resize` of order 0 does.

    Args:
        x: ... x H x W, any type.
        size: rows and columns wanted.

    Returns:
        ... x size[0] x size[1], same type; ``x`` itself if it has that size.

    Raises:
        InputError: for a size below 1.
    """
    for axis, wanted in ((-2, size[0]), (-1, size[1])):
        if x.shape[axis] != wanted:
            x = x.index_select(axis, torch.from_numpy(_indices(x.shape[axis], wanted)).to(x.device))
    return x


def linear_resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps N x C x H x W bilinearly, first to first and last to last pixel (align_corners)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return torch.nn.functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


# Arrays are kept, not tensors: what `torch.export` makes while it runs is no tensor that serves anybody else.
@torch.compiler.disable  # SciPy is not to be traced
@lru_cache(maxsize=64)
def _matrix(n_in: int, n_out: int) -> np.ndarray:
    _check(n_in, n_out)
    shrinks = n_out < n_in
    return resize(np.eye(n_in), (n_out, n_in), order=3, mode="constant", anti_aliasing=shrinks, clip=False)


@torch.compiler.disable  # SciPy is not to be traced
@lru_cache(maxsize=64)
def _indices(n_in: int, n_out: int) -> np.ndarray:
    _check(n_in, n_out)
    row = np.arange(n_in, dtype=np.float64)
    indices = resize(row, (n_out,), order=0, mode="edge", anti_aliasing=False, preserve_range=True)
    return indices.round().astype(np.int64)


def _check(n_in: int, n_out: int) -> None:
    if min(n_in, n_out) < 1:
        raise InputError(f"cannot resize {n_in} pixels to {n_out}: both must be at least 1")
