# SPDX-License-Identifier: Apache-2.0
"""Rotations and elastic displacements of sagittal volumes and slices, mirrored at the outer faces of the last voxels.

A deformation says where each voxel of the result takes its value; lengths are voxels of the image, angles degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Floats = NDArray[np.floating[Any]]


def elastic_displacement(
    size: Sequence[int], random: np.random.RandomState, sigma: float = 3.0, alpha: float = 15.0
) -> NDArray[np.float32]:
    """Draw Gaussian noise of variance 1 for each axis, smooth it by a Gaussian and multiply it by alpha (section 3.4).

    Args:
        size: of the image, two or three axes.
        random: one number a voxel and axis is drawn.
        sigma: of the smoothing along every axis, in voxels; it ends at 4 sigma, with zeros around the noise.
        alpha: factor. As published the displacement's standard deviation is 0.4 voxel in volumes, 1.4 in slices.

    Returns:
        axes x size.
    """
    noise = random.standard_normal((len(size), *size)).astype(np.float32)
    return np.stack([alpha * ndimage.gaussian_filter(component, sigma, mode="constant") for component in noise])


def rotated_volume(volume: NDArray[Any], angle: float, order: int) -> NDArray[Any]:
    """Turn every slice about its centre by splines.

    Args:
        volume: C x D x H x W.
        angle: in the H-W plane.
        order: of the spline, 0 (nearest neighbour, for labels) to 5.

    Returns:
        Same shape and type; the volume itself for an angle of 0.
    """
    if not angle:
        return volume
    return ndimage.rotate(volume, angle, axes=(-2, -1), reshape=False, order=order, mode="reflect")


def displaced_volume(volume: NDArray[Any], displacement: Floats, order: int) -> NDArray[Any]:
    """Take each voxel's value at its place plus the displacement, by splines.

    Args:
        volume: C x D x H x W.
        displacement: 3 x D x H x W.
        order: of the spline, 0 (nearest neighbour, for labels) to 5.

    Returns:
        Same shape and type.
    """
    places = displacement + np.indices(displacement.shape[1:], np.float32)
    return np.stack([ndimage.map_coordinates(channel, places, order=order, mode="reflect") for channel in volume])


def slice_grid(
    size: Sequence[int], image_size: Sequence[int], angle: float = 0.0, displacement: Floats | None = None
) -> Tensor:
    """Say where the pixels of a slice take their values when it is turned and then displaced.

    Maps of another resolution, whose pixels share the outer borders of the image's, get the same deformation in space.
    The slice turns about the pixel (floor(H / 2), floor(W / 2)), as published.

    Args:
        size: h, w of the map that is to be sampled.
        image_size: H, W, in whose pixels the deformation is given.
        angle: in the plane.
        displacement: 2 x H x W, rows and columns.

    Returns:
        h x w x 2, (column, row) from -1 to 1, as `torch.nn.functional.grid_sample` takes it.
    """
    places = np.stack(
        np.meshgrid(
            *((np.arange(m) + 0.5) * (n / m) - 0.5 for m, n in zip(size, image_size, strict=True)), indexing="ij"
        )
    )
    if displacement is not None:
        field = F.interpolate(torch.from_numpy(displacement)[None], tuple(size), mode="bilinear", align_corners=False)
        places = _mirrored(places + field[0].numpy(), image_size)
    half = np.array([n // 2 for n in image_size])[:, None, None]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    places = np.tensordot(np.array([[cos, sin], [-sin, cos]]), places - half, axes=1) + half
    scale = np.array(image_size)[:, None, None]
    return torch.from_numpy(((2 * places + 1) / scale - 1)[::-1].astype(np.float32)).permute(1, 2, 0)


def sampled_slice(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Take values of a slice.

    Args:
        image: C x h x w of any type.
        grid: of :func:`slice_grid`.
        mode: "nearest" (labels), "bilinear" or "bicubic".

    Returns:
        C x h x w, same type.
    """
    taken = F.grid_sample(image[None].float(), grid[None], mode, "reflection", align_corners=False)[0]
    return taken.to(image.dtype)


def _mirrored(places: Floats, size: Sequence[int]) -> Floats:
    """Fold places beyond the slice back into it at the outer borders of its pixels."""
    twice = 2 * np.array(size)[:, None, None]
    folded = (places + 0.5) % twice
    return np.minimum(folded, twice - folded) - 0.5
