# SPDX-License-Identifier: Apache-2.0
"""The arches of the synthetic vertebrae: pedicles, laminae, articular pillars, transverse and spinous processes.

Every piece is one formula for all levels: it belongs to the vertebra whose territory along the spine it lies in, where
the territories slant downwards behind the canal, as the processes do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.geometry import Array
from custom_nets.phantoms.spine_curve import Section
from custom_nets.phantoms.spine_levels import SACRUM, Levels

_LUMBAR = 5
"""Vertebrae, from L5 upwards, whose spinous processes stand level."""


def arches(levels: Levels, section: Section, along: Array, lateral: Array) -> tuple[NDArray[np.intp], Array]:
    """Return vertebra and depth below the bone's surface of the arches.

    Args:
        levels: of the patient.
        section: the points, N.
        along: s of each in mm, (N,).
        lateral: distance from the midline in mm, signed, (N,).

    Returns:
        The vertebra (0 sacrum, 1 L5, ...) and the depth in mm, negative outside, each (N,).
    """
    owner = np.zeros(len(along), np.intp)
    depth = np.full(len(along), -np.inf, np.float32)
    near = np.flatnonzero((section.forward < 4) & (section.forward > -56) & (along > -SACRUM))
    s, behind = along[near], -section.forward[near]
    ax = np.float32(24) * np.abs(lateral[near]) / section.half_width[near]
    best, vertebra = _sacral(s, behind, np.abs(lateral[near]), section.depth[near]), np.zeros(len(near), np.intp)
    for piece in (_pedicle, _pillar, _lamina, _process):
        level, inside = piece(levels, s, behind, ax)
        inside = np.where(level > 0, inside, np.float32(-np.inf)).astype(np.float32)
        vertebra = np.where(inside > best, level, vertebra)
        best = np.maximum(best, inside)
    owner[near], depth[near] = vertebra, best
    return owner, depth


def _territory(levels: Levels, s: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """Vertebra (0 is the sacrum) whose territory holds ``s``, its middle, and half its height."""
    level = np.searchsorted(levels.borders, s)
    index = np.clip(level - 1, 0, None)
    half = np.diff(levels.borders, append=levels.high[-1:]) / 2
    return level, levels.middle[index], half[index].astype(np.float32)


def _pedicle(levels: Levels, s: Array, behind: Array, ax: Array) -> tuple[NDArray[np.intp], Array]:
    """Pedicles join the upper half of the body with the pillars; transverse processes go on outwards."""
    level, middle, half = _territory(levels, s)
    height = (s - middle - 0.27 * half) / (0.46 * half)
    stem = (1 - np.hypot(height, (ax - 14.5) / 4.6)) * 4.6
    stem = np.minimum(stem, 20 - behind)
    wing = (1 - np.hypot(height * 1.5, (behind - 15) / 5.5)) * 5
    return level, np.maximum(stem, np.minimum(wing, ax - 17))


def _pillar(levels: Levels, s: Array, behind: Array, ax: Array) -> tuple[NDArray[np.intp], Array]:
    """Articular pillars: slanting, so that the upper end lies in front of the next pillar's lower end."""
    level, middle, half = _territory(levels, s + np.float32(1.3) * (behind - 20) + 5)
    height = (s + 1.3 * (behind - 20) + 5 - middle) / (0.84 * half)
    reach = (height**4 + ((ax - 16.5) / 6) ** 4 + ((behind - 21) / 9.5) ** 4) ** np.float32(0.25)
    return level, (1 - reach) * 6


def _lamina(levels: Levels, s: Array, behind: Array, ax: Array) -> tuple[NDArray[np.intp], Array]:
    """Laminae close the canal behind, from the pillars to the spinous process."""
    shifted = s + np.float32(0.5) * (behind - 19) + 8
    level, middle, half = _territory(levels, shifted)
    thick = 3.2 - np.abs(behind - 20.5 + 0.02 * ax**2)
    return level, np.minimum(np.minimum(thick, 0.58 * half - np.abs(shifted - middle)), 15 - ax)


def _process(levels: Levels, s: Array, behind: Array, ax: Array) -> tuple[NDArray[np.intp], Array]:
    """Spinous processes: hatchets in the lumbar spine, slanting spines above."""
    thoracic = np.clip((s - levels.low[_LUMBAR - 1]) / 60, 0, 1)
    shifted = s + (0.2 + 0.45 * thoracic) * (behind - 19) + 9
    level, middle, half = _territory(levels, shifted)
    index = np.clip(level - 1, 0, None)
    length, height = levels.process[index], levels.process_height[index]
    out = (behind - 17 - length / 2) / (length / 2)
    tall = half * height * (0.68 - 0.2 * thoracic) * (1 + 0.2 * np.clip(out, -1, 1))
    reach = (((shifted - middle) / tall) ** 4 + out**4) ** np.float32(0.25)
    blade = (1 - reach) * 7
    return level, np.minimum(blade, 5 + 1.2 * np.clip(out, -1, 1) - ax)


def _sacral(s: Array, behind: Array, ax: Array, depth: Array) -> Array:
    """Depth within the sacrum's wings and the bone behind its canal, negative outside."""
    taper = np.clip(1 + s / np.float32(SACRUM), 0.05, 1)
    roof = np.minimum(5 * taper - np.abs(behind - 6 - 13 * taper), np.minimum(-9 - s, s + SACRUM - 6))
    wing = np.minimum(np.minimum(0.7 * depth + behind, 6 + 14 * taper - behind), np.minimum(-5 - s, s + 88))
    return np.maximum(roof, np.minimum(wing, ax - (13 + 6 * taper))).astype(np.float32)
