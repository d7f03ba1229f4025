# SPDX-License-Identifier: Apache-2.0
"""Whether the skull is on a scan of a head: bone gives no signal, between a bright scalp and a bright brain."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: Shares of rays above which there is a skull, and below which there is none.
PRESENT, ABSENT = 0.65, 0.5

_RAYS = 200
_HEAD_MM = (80.0, 340.0)  # length of a brain's or a head's foreground along any axis
_REACHED = 0.1  # share of a face of the volume; a head is surrounded by air but for the neck
_STEP_MM = 1.5
_LAYERS_MM = 22  # scalp and bone together, below a surface
_INSIDE_MM = 25  # from here on inwards it is brain
_DARK, _DEPTH = 0.35, 0.35  # of the brain's median: how dark bone is, and how much brighter what lies on both sides


def skull_gap(
    samples: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    spacing: Sequence[float],
    extents: Sequence[tuple[float, float]],
) -> float | None:
    """Share of rays from the middle of a head that cross a dark layer within 22 mm under its surface.

    Of rays to the face and the neck there are few: those that lead downwards are left out. A brain without its skull
    has such layers where a dark fluid lies in furrows, on up to 0.35 of the rays; a head on more than 0.85.

    Args:
        samples: the scan along R, A, S.
        foreground: where it is not air.
        spacing: distance of the samples, mm.
        extents: along each axis the middle of the foreground, in samples, and its length in mm.

    Returns:
        0 to 1, or None where this is no scan of a head that is surrounded by air.
    """
    lengths = [length for _, length in extents]
    if not all(_HEAD_MM[0] <= length <= _HEAD_MM[1] for length in lengths) or _reaches_faces(foreground):
        return None
    steps = int(0.8 * max(lengths) / _STEP_MM)
    profiles, bright = _profiles(samples, foreground, [middle for middle, _ in extents], spacing, steps)
    thick = bright[:, :-1] & bright[:, 1:]  # a single bright voxel of air is noise
    profiles, thick = profiles[thick.any(axis=1)], thick[thick.any(axis=1)]
    if not len(profiles):
        return None
    surface = thick.shape[1] - np.argmax(thick[:, ::-1], axis=1)
    deep = surface[:, None] - np.arange(steps)[None] > _INSIDE_MM / _STEP_MM
    brain = float(np.median(profiles[deep])) if deep.any() else 0.0
    if brain <= 0:
        return None
    inwards = np.maximum(surface[:, None] - np.arange(int(_LAYERS_MM / _STEP_MM) + 1)[None], 0)
    layers = np.take_along_axis(profiles, inwards, axis=1) / brain
    outer, inner = (np.maximum.accumulate(one, axis=1) for one in (layers, layers[:, ::-1]))
    rims = np.minimum(np.minimum(outer, inner[:, ::-1]), 1)
    return float(((layers < _DARK) & (rims - layers > _DEPTH)).any(axis=1).mean())


def _reaches_faces(foreground: NDArray[np.bool_]) -> bool:
    faces = [foreground[0], foreground[-1], foreground[:, 0], foreground[:, -1], foreground[:, :, -1]]
    return any(float(face.mean()) > _REACHED for face in faces)


def _profiles(
    samples: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    middle: Sequence[float],
    spacing: Sequence[float],
    steps: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values, and which of them are foreground, along rays from ``middle``: rays x steps, 0 outside of the volume."""
    places = np.arange(steps, dtype=np.float32) * _STEP_MM
    inside = np.ones((_RAYS, steps), bool)
    index = np.zeros((_RAYS, steps), np.intp)  # of the voxel in memory
    flat = np.ascontiguousarray(samples)
    for axis, (direction, size) in enumerate(zip(_directions().T, samples.shape, strict=True)):
        place = np.rint(middle[axis] + np.outer(direction / spacing[axis], places)).astype(np.intp)
        inside &= (place >= 0) & (place < size)
        index = index * size + np.clip(place, 0, size - 1)
    return np.where(inside, flat.ravel()[index], 0), inside & np.ascontiguousarray(foreground).ravel()[index]


@cache
def _directions() -> NDArray[np.float64]:
    """Unit vectors, evenly over the sphere from a little below the horizon upwards (a Fibonacci lattice)."""
    number = np.arange(_RAYS) + 0.5
    height = 1 - 1.1 * number / _RAYS
    angle = np.pi * (1 + 5**0.5) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
