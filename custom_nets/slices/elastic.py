# SPDX-License-Identifier: Apache-2.0
"""The elastic deformation of S2aNet's training slices, drawn anew each time in place of 20 copies on disk.

Two nearest-neighbour samplings, one after the other: an affine map that moves three points of the slice, and a field of
smoothed noise. All slices of a window and its label map are deformed alike. Lengths here are pixels.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

#: How a slice goes on beyond its border: with the edge pixel repeated (dcba|abcd) or not (dcb|abcd).
Border = Literal["symmetric", "reflect"]

Floats = NDArray[np.floating[Any]]


def affine_points(
    size: tuple[int, int], jitter: float, random: np.random.RandomState
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw where three points of a slice go.

    With c = floor(centre) and q = floor(shorter side / 3): c + (q, q), c + (q, -q), c - (q, q), each coordinate moved
    by uniform(-jitter, jitter). As published, c is (row, column) but used as (x, y), which matters only for slices that
    are not square.

    Args:
        size: H, W.
        jitter: the largest shift along either axis.
        random: six numbers are drawn.

    Returns:
        The points before and after, 3 x 2 each, (x, y).
    """
    centre = np.array(size, np.float32) // 2
    q = min(size) // 3
    before = centre + np.array([[q, q], [q, -q], [-q, -q]], np.float32)
    return before, before + random.uniform(-jitter, jitter, before.shape).astype(np.float32)


def affine_matrix(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Return the 2 x 3 matrix M with M (x, y, 1) = (x', y') for three points (3 x 2 each)."""
    return np.linalg.solve(np.column_stack([before, np.ones(3)]).astype(np.float64), after.astype(np.float64)).T


def displacement_field(
    size: tuple[int, int],
    channels: int,
    alpha: float,
    sigma: float,
    random: np.random.RandomState,
    channel_smoothing: bool = False,
) -> NDArray[np.float32]:
    """Draw one component of the displacement: uniform noise in (-1, 1), smoothed by a Gaussian, times alpha.

    The published script smooths the noise over the channels too. With a sigma far above their number (41 pixels and 4
    channels for 512 x 512) this is their mean to 4e-5 pixels, so that one field does for all; the deformation is weaker
    the more channels there are.

    Args:
        size: H, W.
        channels: C, of all that is deformed together: the window's slices and the label map.
        alpha: factor of the smoothed noise.
        sigma: of the Gaussian, above 0; it ends at 4 sigma, and repeats the edge beyond the border.
        random: H x W x C numbers are drawn.
        channel_smoothing: smooth along the channels to the letter.

    Returns:
        1 x H x W, or C x H x W with ``channel_smoothing``, float32.
    """
    noise = random.uniform(-1, 1, (*size, channels))
    over_channels = _smoothing(channels, sigma) if channel_smoothing else np.full((1, channels), 1 / channels)
    mixed = torch.from_numpy((noise @ over_channels.T).astype(np.float32)).permute(2, 0, 1)
    rows, columns = (torch.from_numpy(_smoothing(n, sigma)) for n in size)
    return (alpha * (rows @ mixed @ columns.T)).numpy()  # by PyTorch, which in a loader process keeps to one thread


def affine_index(size: tuple[int, int], matrix: Floats) -> NDArray[np.int64]:
    """Return which pixel of a slice each pixel takes when ``matrix`` (2 x 3, (x, y)) moves the slice.

    Args:
        size: H, W.
        matrix: from a point of the slice to its place in the result.

    Returns:
        H x W indices into the flattened slice; beyond the border the slice is mirrored without repeating its edge.
    """
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
    y, x = np.ogrid[: size[0], : size[1]]
    columns, rows = (inverse[k, 0] * x + inverse[k, 1] * y + inverse[k, 2] for k in (0, 1))
    return _flat_index(size, rows, columns, "reflect")


def elastic_index(size: tuple[int, int], dx: Floats, dy: Floats) -> NDArray[np.int64]:
    """Return which pixel of a slice each pixel takes: that at (row + dy, column + dx).

    Args:
        size: H, W.
        dx: ... x H x W, along the columns.
        dy: ... x H x W, along the rows.

    Returns:
        ... x H x W indices into the flattened slice; beyond the border the slice is mirrored with its edge repeated.
    """
    y, x = np.ogrid[: size[0], : size[1]]
    return _flat_index(size, y + dy, x + dx, "symmetric")


def elastic_deformation(
    size: tuple[int, int],
    channels: int,
    alpha: float,
    sigma: float,
    jitter: float,
    random: np.random.RandomState,
    channel_smoothing: bool = False,
) -> NDArray[np.int64]:
    """Draw a deformation: the affine map's points, then the field along the columns, then that along the rows.

    Arguments are those of :func:`affine_points` and :func:`displacement_field`.

    Returns:
        1 x H x W (or C x H x W with ``channel_smoothing``) indices into the flattened slice, for :func:`sampled`.
    """
    affine = affine_index(size, affine_matrix(*affine_points(size, jitter, random)))
    dx, dy = (displacement_field(size, channels, alpha, sigma, random, channel_smoothing) for _ in range(2))
    return affine.ravel()[elastic_index(size, dx, dy)]


def sampled(images: Tensor, index: NDArray[np.int64]) -> Tensor:
    """Take pixels of images.

    Args:
        images: C x H x W.
        index: 1 x H x W, the same for all, or C x H x W; into the flattened image.

    Returns:
        C x H x W, type and metadata kept.
    """
    flat, indices = images.flatten(1), torch.from_numpy(index).flatten(1).to(images.device)
    taken = flat.index_select(1, indices[0]) if len(indices) == 1 else flat.gather(1, indices)
    return taken.reshape(images.shape)


@cache
def _smoothing(n: int, sigma: float) -> NDArray[np.float32]:
    """SciPy's Gaussian filter along n pixels as an n x n matrix: far quicker than filtering where sigma is large."""
    return gaussian_filter1d(np.eye(n), sigma, axis=0, mode="reflect").astype(np.float32)


def _flat_index(size: tuple[int, int], rows: Floats, columns: Floats, border: Border) -> NDArray[np.int64]:
    return _nearest(rows, size[0], border) * size[1] + _nearest(columns, size[1], border)


def _nearest(position: Floats, n: int, border: Border) -> NDArray[np.int64]:
    """Round positions along an axis of n pixels, half up, and fold what lies beyond into it."""
    nearest = np.floor(position + 0.5).astype(np.int64)
    margin = max(0, -int(nearest.min()), int(nearest.max()) - n + 1)
    return np.pad(np.arange(n), margin, mode=border)[nearest + margin]
