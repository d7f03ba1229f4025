# SPDX-License-Identifier: Apache-2.0
"""The bent line of a synthetic spine and the map that straightens it.

Anatomy is written for a straight spine, in coordinates along and across the line of the vertebrae's posterior walls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from custom_nets.phantoms.geometry import Array
from custom_nets.phantoms.spine_levels import LABELLED, SACRUM, Levels

FIELD = (52.0, 230.0, 307.0)
"""What a scan shows in mm: left to right, front to back, height."""
ROOM = 111.0
"""Labelled bone and discs keep within this many mm from front to back: the central half of the field, less a margin."""

_STEP = 0.5
_SACRAL_SHOWN = (44.0, 105.0)
_TOP = {5: 0.24, 6: 0.42, 7: 0.27, 8: 0.07}
"""How often the uppermost vertebra shown is T12, T11, T10, T9."""
_SACRAL_BACK = 25.0


@dataclass(frozen=True)
class Curve:
    """The line of the posterior walls in the scanner, n points from below upwards.

    Attributes:
        along: s of each point in the average adult's mm, (n,).
        points: front-back and height of each in the scanner's mm, (n, 2).
        angle: tilt against the vertical in radians, positive where the upper end lies further forward, (n,).
        scale: the patient's size relative to the average.
        sway: shift to the right at each point in the scanner's mm: scoliosis, (n,).
    """

    along: NDArray[np.float64]
    points: NDArray[np.float64]
    angle: NDArray[np.float64]
    scale: float
    sway: NDArray[np.float64]

    def straightened(self, y: Array, z: Array) -> tuple[Array, Array]:
        """Return s and d (N,) in the average adult's mm of points at ``y`` and ``z`` (N,) in the scanner's mm."""
        places = np.stack([y, z], axis=1).astype(np.float64)
        nearest = cKDTree(self.points).query(places)[1]
        offset = (places - self.points[nearest]) / self.scale
        sine, cosine = np.sin(self.angle[nearest]), np.cos(self.angle[nearest])
        along = self.along[nearest] + offset[:, 0] * sine + offset[:, 1] * cosine
        return np.float32(along), np.float32(offset[:, 0] * cosine - offset[:, 1] * sine)

    def lateral(self, along: Array) -> tuple[Array, Array]:
        """Return the shift to the right in the scanner's mm at ``along`` (N,), and how much it grows per mm."""
        slope = np.gradient(self.sway, self.along * self.scale)
        return (
            np.interp(along, self.along, self.sway).astype(np.float32),
            np.interp(along, self.along, slope).astype(np.float32),
        )

    def behind(self, distance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return y and z (n,) of the points that lie ``distance`` (n,) of the average adult's mm behind the line."""
        reach = distance * self.scale
        return self.points[:, 0] - reach * np.cos(self.angle), self.points[:, 1] + reach * np.sin(self.angle)


@dataclass(frozen=True)
class Section:
    """The points of one sagittal section that all sections share: N of them.

    Attributes:
        along: s in mm, (N,).
        forward: d in mm, (N,).
        depth: of the body at that level, front to back, (N,).
        half_width: of it, (N,).
        sway: shift of the spine to the right in the scanner's mm, (N,).
        lean: growth of that shift per mm, (N,).
        below_skin: depth below the skin of the back in mm, (N,).
        below_fascia: depth below the fascia that covers the muscles, (N,).
    """

    along: Array
    forward: Array
    depth: Array
    half_width: Array
    sway: Array
    lean: Array
    below_skin: Array
    below_fascia: Array


def draw_curve(rng: np.random.Generator, levels: Levels) -> Curve:
    """Draw lordosis, scoliosis, size, and which levels the field of view shows; the spine fits into `ROOM`."""
    along = np.arange(-SACRUM - 15, float(levels.high[-1]), _STEP)
    top = int(rng.choice(list(_TOP), p=list(_TOP.values())))
    # the cut goes through the vertebra well away from both its discs, so that every disc shown lies between two bones
    upper = float(levels.low[top] + rng.uniform(0.3, 0.75) * (levels.high[top] - levels.low[top]))
    size, amplitude = float(rng.normal(0.92, 0.035)), min(7.0, abs(rng.normal(0, 2.5)))
    phase, wavelength = rng.uniform(0, 2 * np.pi), rng.uniform(220, 400)
    sway = amplitude * np.sin(2 * np.pi * along / wavelength + phase) + rng.uniform(-2, 2)
    share = 1.0
    while True:
        curve = _placed(along, share * _angles(along, levels), upper, size, sway)
        front, back = _reach(curve, levels)
        if front - back < ROOM or share < 0.3:
            break
        share *= 0.96
    middle = (front + back) / 2
    room = max(0.0, ROOM - (front - back)) / 2
    curve.points[:, 0] += rng.uniform(-0.8, 0.8) * room - middle
    return curve


def _angles(along: NDArray[np.float64], levels: Levels) -> NDArray[np.float64]:
    """Tilt of the line in radians: lordosis above the promontory, the sacrum hollow in front below it."""
    slope = levels.slope
    sacral = {-SACRUM - 16: slope - 55, -78.0: slope - 12, -42.0: slope + 6, -12.0: slope + 5, 0.0: 0.97 * slope}
    knots = [*sacral, *levels.middle.tolist()]
    tilts = PchipInterpolator(knots, [*sacral.values(), *levels.tilt], extrapolate=True)(along)
    return np.deg2rad(gaussian_filter1d(tilts, 7 / _STEP, mode="nearest"))


def _placed(
    along: NDArray[np.float64], angle: NDArray[np.float64], upper: float, size: float, sway: NDArray[np.float64]
) -> Curve:
    """Put the point ``upper`` at the upper edge of the field and the sacrum's endplate well above the lower one."""
    points = _STEP * np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1), axis=0)
    rise = float(np.interp(upper, along, points[:, 1]) - np.interp(0, along, points[:, 1]))
    scale = (FIELD[2] - float(np.clip(FIELD[2] - size * rise, *_SACRAL_SHOWN))) / rise
    points *= scale
    points[:, 1] += FIELD[2] / 2 - np.interp(upper, along, points[:, 1])
    return Curve(along, points, angle, scale, sway)


def _reach(curve: Curve, levels: Levels) -> tuple[float, float]:
    """Foremost and hindmost y in mm of what has a label within the field."""
    labelled = (curve.along > -SACRUM) & (curve.along < levels.high[LABELLED - 1])
    middle = levels.middle
    depths = np.interp(curve.along, [-SACRUM, 0, *middle], [6, 34, *(levels.depth + 1)])
    tips = np.interp(curve.along, [-SACRUM, 0, *(middle - 12)], [8, _SACRAL_BACK, *(levels.process + 18)])
    (front, front_height), (back, back_height) = curve.behind(-depths), curve.behind(tips)
    ahead = front[labelled & (np.abs(front_height) < FIELD[2] / 2)]
    return float(ahead.max()), float(back[labelled & (np.abs(back_height) < FIELD[2] / 2)].min())
