# SPDX-License-Identifier: Apache-2.0
"""A random lumbar spine and the back around it: which labelled part, and which signal, lies at any point.

Sagittal sections are sampled one by one. Within a section every point has straightened coordinates (`spine_curve`), so
bodies, discs and arches of all levels are one formula each, in which the level is an index.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from custom_nets.phantoms.geometry import Array, RandomWaves, coverage
from custom_nets.phantoms.spine_arches import arches
from custom_nets.phantoms.spine_curve import FIELD, Section, draw_curve
from custom_nets.phantoms.spine_levels import SACRUM, draw_levels

SIGNAL: Mapping[str, float] = {
    "air": 0.0, "skin": 0.5, "subcutaneous fat": 0.64, "fat": 0.66, "muscle": 0.15, "ligament": 0.07, "cortex": 0.05,
    "marrow": 0.36, "arch marrow": 0.38, "annulus": 0.09, "nucleus": 0.72, "degenerated": 0.14, "csf": 1.0,
    "roots": 0.62, "root": 0.22, "cord": 0.46, "blood": 0.04, "organ": 0.22, "interspinous": 0.17,
}  # fmt: skip
"""Signal on a T2-weighted turbo spin echo, relative to cerebrospinal fluid."""

# sizes of the sacrum along s: where, depth front to back, half width of its bodies
_SACRUM_TABLE = np.array([(-SACRUM, 6, 10), (-80, 12, 14), (-55, 18, 18), (-30, 25, 22), (0, 33, 25)], np.float32)
_SACRAL_DISCS = ((-30.0, 2.0), (-53.0, 1.3))
_SQUARENESS = 2.7
_ENDPLATE = 1.0
_CANAL_MIDDLE, _CANAL_HALF_DEPTH, _CANAL_HALF_WIDTH = -9.0, 7.6, 11.0


class LumbarSpine:
    """A random patient; positions are the scanner's, in mm (x right, y front, z up)."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw the spine, the thickness of the fat, the end of the cord, and the clouds of fat, bowel and vessels."""
        self.levels = draw_levels(rng)
        self.curve = draw_curve(rng, self.levels)
        self._fat = float(rng.uniform(8, 26))
        self._conus = float(self.levels.middle[4] + rng.uniform(-14, 12))
        self._streaked = float(rng.uniform(0.9, 1.9))
        self._streaks = RandomWaves(rng, (9, 30), count=12)
        self._bowel = RandomWaves(rng, (28, 70), count=10)
        self._aorta = float(rng.uniform(-14, -4))

    def section(self, y: Array, z: Array) -> Section:
        """Return what all sections through points at ``y`` and ``z`` (N,) have in common."""
        along, forward = self.curve.straightened(y, z)
        knots = np.concatenate([_SACRUM_TABLE[:, 0], self.levels.middle])
        depth = np.interp(along, knots, np.concatenate([_SACRUM_TABLE[:, 1], self.levels.depth]))
        width = np.interp(along, knots, np.concatenate([_SACRUM_TABLE[:, 2], self.levels.half_width]))
        fascia = self._fascia(z)
        skin = fascia - np.float32(self._fat) * np.interp(z, (-FIELD[2] / 2, -40, FIELD[2] / 2), (1.7, 1.3, 0.75))
        sway, lean = self.curve.lateral(along)
        return Section(
            along, forward, np.float32(depth), np.float32(width), sway, lean, np.float32(y - skin), y - fascia
        )

    def clouds(self, points: Array) -> tuple[Array, Array]:
        """Return the smooth fields (N,) of fat among muscles and of the abdomen at ``points`` (3, N)."""
        return self._streaks(points * np.array([[1], [1], [0.35]], np.float32)), self._bowel(points)

    def sample(self, section: Section, x: float, clouds: tuple[Array, Array]) -> tuple[Array, NDArray[np.uint8]]:
        """Return signal and part at the section's points, ``x`` mm to the right.

        Args:
            section: of `section`.
            x: in the scanner.
            clouds: of `clouds`, at those points or near them.

        Returns:
            Signal relative to fluid, and part, each (N,): 0 nothing, 1 sacrum, 1 + i the body of vertebra i (L5 is 1),
            101 + i its arch, 201 + i the disc below it. Levels without a label have a number too.
        """
        lateral = (np.float32(x) - section.sway) / np.float32(self.curve.scale)
        along = section.along + section.lean * lateral
        signal = self._surroundings(section, along, lateral, clouds)
        self._canal(signal, section.forward, along, lateral, clouds[0])
        part = np.zeros(len(signal), np.uint8)
        owner, inside = arches(self.levels, section, along, lateral)
        found = np.flatnonzero(inside > 0)
        part[found] = np.where(owner[found] > 0, 101 + owner[found], 1)
        tone = self.levels.tone[owner[found]] * np.float32(SIGNAL["arch marrow"])
        signal[found] = _rind(tone, inside[found], 1.3)
        self._column(signal, part, section, along, lateral)
        return signal, part

    def _fascia(self, z: Array) -> Array:
        """Where along y the fascia behind the muscles lies at heights ``z``: smooth, just behind the processes."""
        middle = self.levels.middle
        tips = [24, 30, 44, *(np.median(self.levels.process) + 19 + 0 * middle)]
        y, height = self.curve.behind(np.interp(self.curve.along, [-SACRUM, -50, -5, *(middle - 12)], tips))
        order = np.argsort(height)
        line = np.interp(np.arange(-400.0, 400.0), height[order], y[order])
        smooth = gaussian_filter1d(line, 14.0)
        return np.interp(z, np.arange(-400.0, 400.0), smooth - 3).astype(np.float32)

    def _surroundings(self, section: Section, along: Array, lateral: Array, clouds: tuple[Array, Array]) -> Array:
        """Signal of everything but spine and canal."""
        streaks, bowel = clouds
        forward, ax = section.forward, np.abs(lateral)
        more = np.interp(along, (-60, 0, 120), (1.1, 0.7, 0)) - self._streaked
        signal = _mixed("muscle", "fat", coverage(streaks + np.float32(more), 0.5))
        midline = (ax < 4.5) & (forward < -16)
        signal[midline] = _mixed("interspinous", "fat", 0.8 * coverage(streaks - 0.4, 2))[midline]
        ahead = forward - section.depth
        walls = 0.15 * np.exp(-((bowel / 0.2) ** 2))  # between a loop and the next lies fat
        loops = SIGNAL["organ"] * (1 + 0.6 * np.tanh(2 * bowel) + 0.25 * np.tanh(streaks)) + walls
        signal = np.where(ahead > 2, loops, signal).astype(np.float32)
        signal[(forward > -17) & (forward < 3) & (ax < section.half_width - 1)] = SIGNAL["fat"]
        root = np.hypot(forward + 6, np.float32(0.8) * (along - self._nearest_root(along))) < 3.6
        signal[root & (ax > 10) & (ax < 24)] = SIGNAL["root"]
        above = along > self.levels.high[1]  # the great vessels divide in front of L4
        for centre, radius in ((self._aorta, 8.5), (self._aorta + 21, 9.5)):
            vessel = np.hypot(lateral - centre, ahead - radius - 4) < radius
            signal[vessel & above] = SIGNAL["blood"]
        signal[(ahead >= 0) & (ahead < 2.2) & (ax < section.half_width)] = SIGNAL["ligament"]
        signal[section.below_fascia < 1.7] = SIGNAL["ligament"]
        signal[section.below_fascia < 0] = SIGNAL["subcutaneous fat"]
        signal[section.below_skin < 2] = SIGNAL["skin"]
        signal[section.below_skin < 0] = SIGNAL["air"]
        return signal

    def _nearest_root(self, along: Array) -> Array:
        """Where along s the nerve root lies that leaves above the nearest disc."""
        roots = self.levels.low + np.float32(5)
        return roots[np.clip(np.searchsorted(self.levels.borders, along - 8), 0, len(roots) - 1)]

    def _canal(self, signal: Array, forward: Array, along: Array, lateral: Array, streaks: Array) -> None:
        """Paint ligaments, the dural sac, the roots in it and the cord, in place."""
        taper = np.interp(along, (-62, -45, 0, 60), (0.05, 0.5, 0.85, 1)).astype(np.float32)
        across = np.hypot(lateral / _CANAL_HALF_WIDTH, (forward - _CANAL_MIDDLE) / _CANAL_HALF_DEPTH) / taper
        sac = np.flatnonzero((across < 1) & (along > -60))
        # roots float at the back of the sac below the cord's end
        hollow = (_CANAL_MIDDLE - 1 - forward[sac]) / 5 + 0.35 * streaks[sac]
        below = coverage(self._conus + 8 - along[sac], 16) * coverage(along[sac] + 30, 60)
        signal[sac] = _mixed("csf", "roots", np.clip(hollow, 0, 1) * below)
        thick = np.interp(along[sac], (self._conus - 14, self._conus, self._conus + 30), (0, 0.75, 1))
        cord = np.hypot(lateral[sac] / 5.2, (forward[sac] - _CANAL_MIDDLE + 0.6) / 4.0) < thick
        signal[sac[cord]] = SIGNAL["cord"]
        signal[(forward > -1.4) & (forward < 1) & (np.abs(lateral) < 9) & (along > -50)] = SIGNAL["ligament"]

    def _column(self, signal: Array, part: NDArray[np.uint8], section: Section, along: Array, lateral: Array) -> None:
        """Paint bodies, discs and the sacrum's body, in place."""
        levels = self.levels
        half = section.depth / 2
        near = np.flatnonzero((section.forward > -4) & (section.forward < section.depth + 4) & (along > -SACRUM))
        near = near[np.abs(lateral[near]) < section.half_width[near] * 1.1]
        x, s = np.abs(lateral[near] / section.half_width[near]), along[near]
        y = np.abs(section.forward[near] / half[near] - 1)
        reach = (x**_SQUARENESS + y**_SQUARENESS) ** np.float32(1 / _SQUARENESS)
        ends = np.concatenate([[np.float32(0)], np.stack([levels.low, levels.high], axis=1).ravel()])
        place = np.searchsorted(ends, s)  # 0 sacrum, odd a disc, even a body
        dome = np.float32(1.7) * np.clip(1 - reach**2, 0, 1)
        upper, lower = _padded(ends, place) - s, s - _padded(ends, place - 1)
        bone = place % 2 == 0
        place = place + np.where(bone & (upper < dome), 1, np.where(bone & (lower < dome), -1, 0))
        bone = place % 2 == 0
        level = np.clip((place + 1) // 2, 0, len(levels.low))
        between = np.clip(np.minimum(upper, lower), 0, None)
        waist = 1 - np.where(bone & (place > 0), 0.05 * np.clip(between / 11, 0, 1), 0) + np.where(bone, 0, 0.03)
        wall = (waist - reach) * np.minimum(half, section.half_width)[near]
        inside = (wall > 0) & (place < len(ends))
        depth = np.where(bone, np.minimum(wall, between - dome), wall)
        marrow = levels.tone[level] * np.float32(SIGNAL["marrow"]) * self._vein(bone, between, reach, x, y)
        value = np.where(bone, _rind(marrow, depth, _ENDPLATE), self._disc(s, level, reach))
        sacral = place == 0
        for middle, thick in _SACRAL_DISCS:
            value[sacral & (np.abs(s - middle) < thick) & (reach < 0.9)] = SIGNAL["degenerated"]
        chosen = near[inside]
        signal[chosen] = value[inside]
        part[chosen] = np.where(bone, np.where(sacral, 1, 1 + level), 201 + level)[inside]

    def _disc(self, along: Array, level: NDArray[np.intp], reach: Array) -> Array:
        """Signal within a disc: a nucleus, bright while it holds water, in a dark annulus."""
        levels = self.levels
        index = np.clip(level - 1, 0, None)
        middle = levels.borders[index]
        half = levels.low[index] - middle + 1.5
        core = coverage(1 - np.hypot(reach / 0.86, (along - middle) / half * 0.95), 0.5)
        cleft = 1 - 0.25 * np.exp(-(((along - middle) / 0.9) ** 2))  # the dark cleft of an adult's nucleus
        wet = SIGNAL["degenerated"] + (SIGNAL["nucleus"] - SIGNAL["degenerated"]) * levels.water[index] * cleft
        return np.float32(SIGNAL["annulus"] + core * (wet - SIGNAL["annulus"]))

    def _vein(self, bone: NDArray[np.bool_], between: Array, reach: Array, x: Array, y: Array) -> Array:
        """Factor on the marrow: the basivertebral vein is bright, from the middle of the posterior wall inwards."""
        close = bone & (x < 0.25) & (reach > 0.45) & (reach == np.maximum(reach, y)) & (between > 9.5)
        return np.where(close, 1.25, 1).astype(np.float32)


def _padded(ends: Array, place: NDArray[np.intp]) -> Array:
    """The ``place``-th end, far away where there is none."""
    outside = (place < 0) | (place >= len(ends))
    far = np.where(place < 0, np.float32(-1e3), np.float32(1e3))
    return np.where(outside, far, ends[np.clip(place, 0, len(ends) - 1)])


def _rind(marrow: Array, depth: Array, thickness: float) -> Array:
    """Marrow below a dark cortex of ``thickness`` mm, at ``depth`` (N,) below the bone's surface."""
    share = coverage(depth - np.float32(thickness), 0.8)
    return (SIGNAL["cortex"] + share * (marrow - SIGNAL["cortex"])).astype(np.float32)


def _mixed(one: str, other: str, share: Array) -> Array:
    """Signal of two tissues, ``share`` (N,) of the other."""
    return np.float32(SIGNAL[one]) + share.astype(np.float32) * np.float32(SIGNAL[other] - SIGNAL[one])
