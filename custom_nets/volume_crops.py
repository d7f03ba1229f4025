# SPDX-License-Identifier: Apache-2.0
"""Where a crop of a volume begins, by the rules of zoom-in&out training, and a crop's way back.

N is the length of the volume and s that of the crop, one of each an axis; a start is a voxel index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Index = tuple[Any, ...]


def centre_start(shape: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Start of the centred crop, floor((N - s) / 2); negative where the crop is larger than the volume."""
    return tuple((n - s) // 2 for n, s in zip(shape, size, strict=True))


def lesion_start(label: ArrayLike, size: Sequence[int], last_start: bool = True) -> tuple[int, ...]:
    """Start of the crop around the lesions: int(median) - floor(s / 2), kept inside the volume.

    The median is taken over the coordinates of all lesion voxels, axis by axis. Without lesion it is the centred crop.

    Args:
        label: D x H x W, lesion where it is above 0.
        size: of the crop, not larger than the volume.
        last_start: False never takes the last start N - s, so that the volume's last plane is not seen, as in the
            published code.
    """
    label = np.asarray(label)
    places = np.nonzero(label > 0)
    if not len(places[0]):
        return centre_start(label.shape, size)
    wanted = (int(np.median(places[axis])) - size[axis] // 2 for axis in range(label.ndim))
    highest = (n - s - (not last_start) for n, s in zip(label.shape, size, strict=True))
    return tuple(max(0, min(start, most)) for start, most in zip(wanted, highest, strict=True))


def random_start(
    shape: Sequence[int], size: Sequence[int], random: np.random.RandomState, last_start: bool = True
) -> tuple[int, ...]:
    """Start of a random crop, uniform over 0 ... N - s; without ``last_start`` over 0 ... N - s - 1, as published."""
    return tuple(int(random.randint(0, max(n - s + last_start, 1))) for n, s in zip(shape, size, strict=True))


def random_start_around(
    voxel: Sequence[int], shape: Sequence[int], size: Sequence[int], random: np.random.RandomState
) -> tuple[int, ...]:
    """Start of a random crop that holds ``voxel``, uniform over all such starts."""
    return tuple(
        int(random.randint(max(0, v - s + 1), min(v, n - s) + 1)) for v, n, s in zip(voxel, shape, size, strict=True)
    )


def region(start: Sequence[int], size: Sequence[int]) -> Index:
    """Index of an array whose last axes are the volume's: it cuts the crop out, or puts it back."""
    return (..., *(slice(first, first + length) for first, length in zip(start, size, strict=True)))


def resized(volume: ArrayLike, size: Sequence[int], order: int) -> NDArray[Any]:
    """Resample a whole volume to ``size`` by splines, 3 = cubic (images), 0 = nearest (labels).

    The published code offers this in place of crops and does not use it; it also resamples masks by cubic splines and
    takes what is above 0, which rings: 15 lesion voxels become 671 in its golden case. Use order 0 for labels.

    Args:
        volume: D x H x W.
        size: the new D, H, W.
        order: of the spline.
    """
    volume = np.asarray(volume)
    factors = [s / n for s, n in zip(size, volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=order)
