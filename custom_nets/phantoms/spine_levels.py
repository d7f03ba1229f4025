# SPDX-License-Identifier: Apache-2.0
"""Sizes of the synthetic spine, level by level from the sacrum upwards, and how they vary among patients.

Lengths are millimetres in an average adult, measured along the line of the vertebrae's posterior walls: ``s`` runs
upwards from the sacrum's upper endplate, ``d`` forwards from the wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.geometry import Array

LABELLED = 9
"""Vertebrae above the sacrum that have a label: L5 to T9."""
SACRUM = 105.0
"""Length of the sacrum."""

# L5, L4, L3, L2, L1, T12, T11, T10, T9, and T8 to T4 for whoever asks for a field of view that shows them
_BODY = (24, 26, 27, 27, 26, 24.5, 23, 22, 21, 20.5, 20, 19.5, 19, 18.5)
_DISC = (7.5, 9.5, 9.5, 9, 8, 6.5, 5.5, 5, 4.6, 4.5, 4.3, 4.2, 4, 4)
_DEPTH = (34.5, 34.5, 34, 33, 31.5, 30.5, 29.5, 29, 28, 27.5, 27, 26, 25, 24)
_HALF_WIDTH = (25.5, 24.5, 23.5, 22.5, 21.5, 20.5, 19.5, 18, 17, 16.5, 16, 15.5, 15, 14.5)
_PROCESS = (25, 30, 32, 32, 31, 29, 29, 29, 29, 29, 29, 29, 29, 29)

# tilt against the vertical (positive: the upper end lies further forward) as a share of the slope of the sacrum
_TILT = (0.58, 0.2, -0.07, -0.25, -0.35, -0.36, -0.3, -0.22, -0.14, -0.05, 0.08, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Levels:
    """One patient's vertebrae above the sacrum, n of them, in mm; the place of an array is the level, L5 first.

    Attributes:
        low: lower endplates along s at the posterior wall, (n,).
        high: upper endplates, (n,).
        depth: front to back of the bodies, (n,).
        half_width: of the bodies, (n,).
        process: length of the spinous processes behind the canal, (n,).
        process_height: relative to the average, (n,).
        tone: brightness of the marrow relative to the average: the sacrum's, then the vertebrae's, (n + 1,).
        water: of the nucleus of the disc below each vertebra, 1 healthy, 0 degenerated, (n,).
        slope: of the sacrum's upper endplate in degrees.
        tilt: of each vertebra in degrees, (n,).
    """

    low: Array
    high: Array
    depth: Array
    half_width: Array
    process: Array
    process_height: Array
    tone: Array
    water: Array
    slope: float
    tilt: NDArray[np.float64]

    @property
    def middle(self) -> Array:
        """Middles of the bodies along s, (n,)."""
        return np.asarray((self.low + self.high) / 2, np.float32)

    @property
    def borders(self) -> Array:
        """Where the territory of the vertebra below ends, in the middle of each disc along s, (n,)."""
        below = np.concatenate([np.zeros(1, np.float32), self.high[:-1]])
        return np.asarray((self.low + below) / 2, np.float32)


def draw_levels(rng: np.random.Generator) -> Levels:
    """Draw one patient: neighbours are alike, size falls upwards, some lower discs are degenerated."""
    count = len(_BODY)
    water = np.clip(rng.normal(0.85, 0.12, count), 0.45, 1)
    degenerated = rng.uniform(size=count) < np.interp(np.arange(count), (0, 1, 2, 6), (0.4, 0.35, 0.15, 0.05))
    water[degenerated] = rng.uniform(0, 0.3, degenerated.sum())
    body = np.asarray(_BODY) * rng.normal(1, 0.025, count).clip(0.94, 1.06)
    disc = np.asarray(_DISC) * rng.normal(1, 0.06, count).clip(0.88, 1.15)
    disc[:5] *= 0.7 + 0.3 * np.minimum(1, water[:5] / 0.5)  # a degenerated disc is thin; the upper ones are thin anyway
    high = np.cumsum(body + disc)
    slope = float(np.clip(rng.normal(36, 6), 24, 48))
    return Levels(
        low=np.float32(high - body),
        high=np.float32(high),
        depth=np.float32(np.asarray(_DEPTH) * rng.normal(1, 0.015, count)),
        half_width=np.float32(np.asarray(_HALF_WIDTH) * rng.normal(1, 0.015, count)),
        process=np.float32(np.asarray(_PROCESS) * rng.uniform(0.88, 1.06, count)),
        process_height=np.float32(rng.uniform(0.85, 1.1, count)),
        tone=np.float32(rng.normal(1, 0.035, count + 1)),
        water=np.float32(water),
        slope=slope,
        tilt=slope * np.asarray(_TILT) + rng.normal(0, 1.2, count),
    )
