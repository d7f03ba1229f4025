# SPDX-License-Identifier: Apache-2.0
"""Multiple-sclerosis lesions: how many, how large, where, and painted into a brain.

Numbers, sizes and places resemble those of 30 patients with lesions drawn by three persons (Lesjak et al. 2017,
doi:10.1007/s12021-017-9348-7: 0.3 to 52 ml, median 14 ml a patient; half of the pieces of at least 10 mm3 are below
32 mm3; the largest one holds a quarter of the volume). Dots of one or two cubic millimetres are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.appearance import Shares, paint
from custom_nets.phantoms.brain import CENTRE, EXTENT, Brain
from custom_nets.phantoms.geometry import Array, RandomWaves, column, coverage, ellipsoid, length

LOAD_ML = (1.0, 14.0, 50.0)
"""Least, median and greatest volume of all lesions of a case, before overlap and loss outside white matter."""
NUMBER = (8, 50, 110)
"""Least, median (at the median load) and greatest number of lesions of a case, dots included."""
SIZE_MM3 = (4.0, 8000.0)
"""Least and greatest volume of one lesion; those side by side may flow together."""

_PIECE_MM3 = 500.0  # larger lesions are several ellipsoids side by side
_LARGE_MM3 = 300.0
_SITES = ("periventricular", "juxtacortical", "deep", "infratentorial")
_SITE_ODDS = {False: (0.30, 0.28, 0.36, 0.06), True: (0.80, 0.06, 0.13, 0.01)}  # by "is large"
_YIELD = {
    "white": 1.0,
    "rim": 1.0,
    "stem": 1.0,
    "cerebellar_white": 1.0,
    "grey": 0.45,
    "thalamus": 0.6,
    "deep_grey": 0.5,
}


@dataclass(frozen=True)
class Ellipsoid:
    """One lesion, or a piece of a large one.

    Attributes:
        centre: in mm, (3,).
        axes: its own x, y, z as the columns of a rotation, (3, 3).
        semi_axes: half lengths in mm, (3,).
        strength: how far the signal has gone from healthy to lesion, 0 to 1.
        hole: the core is a chronic black hole.
    """

    centre: Array
    axes: Array
    semi_axes: Array
    strength: float
    hole: bool


def draw_lesions(rng: np.random.Generator, brain: Brain) -> list[Ellipsoid]:
    """Draw the lesions of one case.

    Args:
        rng: source of randomness.
        brain: where they will lie.

    Returns:
        Ellipsoids, the pieces of a large lesion one after another.
    """
    sites = _candidate_sites(rng, brain)
    pieces: list[Ellipsoid] = []
    for volume in _volumes(rng):
        large = bool(volume > _LARGE_MM3)
        site = rng.choice(_SITES, p=_SITE_ODDS[large])
        strength, hole = rng.uniform(0.7, 1.0), bool(volume > 120 and rng.uniform() < 0.3)
        count = int(np.ceil(volume / _PIECE_MM3))
        centres = _neighbours(rng, sites[site], count)
        for centre in centres.T:
            axes, semi_axes = _shape(rng, brain, centre, volume / count, site == "periventricular")
            pieces.append(Ellipsoid(centre, axes, semi_axes, strength, hole))
    return pieces


def paint_lesions(
    shares: Shares, points: Array, lesions: list[Ellipsoid], width: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Paint lesions over the tissues, in place; return which points are lesion.

    Args:
        shares: tissue name to its share at N points; gains ``lesion`` and ``black_hole``.
        points: positions of those points in mm, (3, N).
        lesions: what to paint.
        width: voxel size in mm.
        rng: source of randomness for the outlines.

    Returns:
        Shape (N,): at least half of the point is lesion.
    """
    ragged = RandomWaves(rng, (5, 18), count=12)
    extent, signal, holes = np.zeros((3, points.shape[1]), np.float32)
    for lesion in lesions:
        reach = lesion.semi_axes.max() * 1.3 + width
        near = np.flatnonzero(np.all(np.abs(points - column(lesion.centre)) < reach, axis=0))
        offset = lesion.axes.T @ (points[:, near] - column(lesion.centre))
        inner = ellipsoid(offset, (0, 0, 0), lesion.semi_axes)
        inner += 0.22 * lesion.semi_axes.mean() * ragged(points[:, near])
        opacity = coverage(inner, max(width, 1.3))
        extent[near] = np.maximum(extent[near], opacity)
        signal[near] = np.maximum(signal[near], opacity * np.float32(lesion.strength))
        if lesion.hole:
            core = coverage(inner - 0.45 * lesion.semi_axes.min(), max(width, 2.0))
            holes[near] = np.maximum(holes[near], 0.8 * core)
    may = sum(shares[tissue] * np.float32(share) for tissue, share in _YIELD.items())
    paint(shares, "lesion", signal * may)
    paint(shares, "black_hole", holes * may)
    return extent * may >= 0.5


def _volumes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Volumes in mm3, log-normal, that add up to a log-normal load."""
    load = np.clip(LOAD_ML[1] * np.exp(1.2 * rng.standard_normal()), LOAD_ML[0], LOAD_ML[2])
    number = NUMBER[1] * (load / LOAD_ML[1]) ** 0.4 * np.exp(0.35 * rng.standard_normal())
    sizes = np.exp(1.9 * rng.standard_normal(int(np.clip(number, NUMBER[0], NUMBER[2]))))
    return np.clip(sizes * (1000 * load / sizes.sum()), *SIZE_MM3)


def _candidate_sites(rng: np.random.Generator, brain: Brain, count: int = 40000) -> dict[str, Array]:
    """Random positions (3, n) in white matter for each kind of lesion."""
    points = np.float32(column(CENTRE) + column(EXTENT) * rng.uniform(-0.5, 0.5, (3, count)))
    points = points[:, brain.outline(points) > 2]
    found = brain.sample(points, 1.0)
    white = found.shares["white"] + found.shares["rim"] > 0.9
    white &= (np.abs(points[0]) > 10) | (points[2] > 18)  # not in the septum or beside the third ventricle
    wall = white & (found.ventricle < 6)
    return {
        "periventricular": points[:, wall],
        "juxtacortical": points[:, white & ~wall & (found.cortex < 1.5)],
        "deep": points[:, white & ~wall & (found.cortex >= 1.5)],
        "infratentorial": points[:, found.shares["stem"] + found.shares["cerebellar_white"] > 0.9],
    }


def _neighbours(rng: np.random.Generator, sites: Array, count: int) -> Array:
    """Pick ``count`` of the sites (3, n), each beside one that is picked already: (3, count)."""
    chosen = [int(rng.integers(sites.shape[1]))]
    while len(chosen) < count:
        distance = length(sites - sites[:, chosen[int(rng.integers(len(chosen)))], None])
        odds = np.exp(-(((distance - 6.0) / 2.5) ** 2)).astype(np.float64) + 1e-9
        odds[chosen] = 1e-12
        chosen.append(int(rng.choice(len(odds), p=odds / odds.sum())))
    return sites[:, chosen]


def _shape(
    rng: np.random.Generator, brain: Brain, centre: Array, volume: float, beside_ventricle: bool
) -> tuple[Array, Array]:
    """Axes and half lengths; beside the ventricle the longest axis stands on its wall (Dawson's finger)."""
    long = rng.standard_normal(3)
    if beside_ventricle:
        step = np.eye(3, dtype=np.float32)
        slope = brain.ventricle(column(centre) + step) - brain.ventricle(column(centre) - step)
        long = slope / max(float(np.linalg.norm(slope)), 1e-3) + 0.25 * long
    axes = np.linalg.qr(np.column_stack([long, rng.standard_normal((3, 2))]))[0]
    ratio = np.array([rng.uniform(1.3, 2.4) if beside_ventricle else rng.uniform(1, 1.7), rng.uniform(0.8, 1.2), 1.0])
    semi_axes = ratio * (volume / (4 / 3 * np.pi * ratio.prod())) ** (1 / 3)
    return axes.astype(np.float32), semi_axes.astype(np.float32)
