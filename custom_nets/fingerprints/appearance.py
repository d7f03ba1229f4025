# SPDX-License-Identifier: Apache-2.0
"""How a scan looks, in numbers that do not depend on the scanner's gain, and where its intensities lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_nets.fingerprints.quantities import axes
from custom_nets.fingerprints.skull import skull_gap

Samples = NDArray[np.float32]

_AIR = 0.1  # of the way from the 0.5th to the 99.5th percentile: above the noise of air, below every tissue
_LINE_SHARE = 0.01  # of a plane that has to be foreground for the body to reach there: noise and vessels do not
_COARSE = 60_000  # voxels are enough for a percentile


def appearance(samples: Samples, spacing: Sequence[float]) -> dict[str, float]:
    """The quantities of a scan that are of its voxels.

    Args:
        samples: the scan, or every so many of its voxels: finite, D x H x W along R, A, S.
        spacing: distance of the samples along the three axes, mm.

    Returns:
        Name in `QUANTITIES` to number. Without "skull_gap" where no head can be told: the foreground reaches other
        faces of the volume than the lower one, or is not of a head's size. Of a scan of one value "zero_share" alone.
    """
    coarse = coarser(samples)
    low, middle, high = (float(value) for value in np.percentile(coarse, [0.5, 50, 99.5]))
    found = {"zero_share": float((coarse == 0).mean())}
    if not high > low:
        return found
    foreground = samples > low + _AIR * (high - low)
    extents = extents_of(foreground, spacing)
    found |= dict(zip(axes("extent"), (length for _, length in extents), strict=True))
    found["border_level"] = (float(np.median(_border(samples))) - low) / (high - low)
    found["median_level"] = (middle - low) / (high - low)
    found |= _intensities(coarse[coarse > low + _AIR * (high - low)])
    gap = skull_gap(samples, foreground, spacing, extents)
    return found if gap is None else {**found, "skull_gap": gap}


def coarser(samples: Samples) -> Samples:
    """Every second sample along each axis where there are many."""
    return samples[::2, ::2, ::2] if samples.size > _COARSE else samples


def foreground_of(samples: Samples) -> NDArray[np.bool_]:
    """Where there is tissue and not air."""
    low, high = np.percentile(samples, [0.5, 99.5])
    return samples > low + _AIR * (high - low)


def extents_of(foreground: NDArray[np.bool_], spacing: Sequence[float]) -> list[tuple[float, float]]:
    """Along each axis the middle of the foreground, in samples, and its length in mm."""
    found = []
    for axis, size in enumerate(spacing):
        counts = np.count_nonzero(foreground, axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(counts * foreground.shape[axis] > _LINE_SHARE * foreground.size)
        first, last = (planes[0], planes[-1]) if planes.size else (0, foreground.shape[axis] - 1)
        found.append(((first + last) / 2, float((last - first + 1) * size)))
    return found


def _intensities(foreground: Samples) -> dict[str, float]:
    if not foreground.size:
        return {}
    lowest, first, middle, last, highest = (float(v) for v in np.percentile(foreground, [0.5, 1, 50, 99, 99.5]))
    found = {"p0_5": lowest, "p50": middle, "p99_5": highest}
    if last > first:
        scaled = np.clip((foreground - first) / (last - first), 0, 1)
        spread = float(scaled.std())
        found["contrast_middle"] = (middle - first) / (last - first)
        found["contrast_skewness"] = float(((scaled - scaled.mean()) ** 3).mean()) / spread**3 if spread else 0.0
    return found


def _border(samples: Samples) -> Samples:
    """The outermost samples of all six faces; of a thin stack of slices those around each slice."""
    faces = [
        np.take(samples, place, axis=axis).ravel()
        for axis in range(3)
        if samples.shape[axis] * 3 >= max(samples.shape)  # the first and last slice of a slab are inside the body
        for place in (0, -1)
    ]
    return np.concatenate(faces)
