# SPDX-License-Identifier: Apache-2.0
"""Chronic infarcts: how many, how large, in which artery's territory, and painted into a brain.

A chronic infarct on T1 is a cavity as dark as cerebrospinal fluid with strands of tissue in it, inside a grey rim of
gliosis. Cortical ones are wedges with the base on the surface. The spread of sizes resembles ATLAS R1.1 (Liew et al.
2018, doi:10.1038/sdata.2018.11), where the middle of the volumes is smaller; tiny lesions are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.appearance import Shares, paint
from custom_nets.phantoms.brain import Brain, cerebellum
from custom_nets.phantoms.geometry import Array, RandomWaves, column, coverage, length

LOAD_ML = (1.5, 20.0, 300.0)
"""Least, median and greatest volume of all infarcts of a case, in the average body and before overlap."""
LEAST_ML = 1.0
"""Least volume of one infarct."""
NUMBER_ODDS = (0.6, 0.25, 0.15)
"""Odds of one, two and three infarcts."""

_SAME_SIDE = 0.8  # odds that a further infarct lies in the hemisphere of the first
_TRIALS = 20000


@dataclass(frozen=True)
class Territory:
    """Where infarcts of an artery lie.

    Attributes:
        odds: relative to the other territories.
        largest_ml: no infarct there is larger.
        low: lower corner of the box that holds the middles, folded to the right, mm.
        high: its upper corner.
        pivot: a wedge whose base lies on the brain's surface points to here, folded mm; None is a lump.
        cerebellar: in the cerebellum, and never beyond it; else never in it.
    """

    odds: float
    largest_ml: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    pivot: tuple[float, float, float] | None = (24.0, -17.0, 10.0)
    cerebellar: bool = False


TERRITORIES: dict[str, Territory] = {
    "middle cerebral": Territory(0.5, 300, (34, -62, -22), (80, 34, 52)),
    "perforating": Territory(0.2, 20, (14, -24, -4), (30, 20, 24), pivot=None),
    "anterior cerebral": Territory(0.07, 50, (2, -10, 25), (16, 60, 75)),
    "posterior cerebral": Territory(0.13, 80, (4, -100, -14), (34, -72, 24)),
    "cerebellar": Territory(0.1, 35, (8, -90, -60), (46, -45, -26), pivot=(14, -55, -32), cerebellar=True),
}


@dataclass(frozen=True)
class Infarct:
    """One infarct; positions are in the average body, in mm.

    Attributes:
        territory: where it lies.
        side: 1 on the right, -1 on the left.
        middle: of the base of a wedge, or of a lump, (3,), folded to the right.
        stretch: along x, y, z for a lump, (3,); for a wedge the last one shortens its depth.
        radius: the infarct ends where the distance from its middle reaches this value, mm.
        rim: thickness of the gliosis, mm.
        loss: share of the tissue that is lost in the cavity, 0 to 1.
        bumps: height of the coarse and the fine irregularities of its outline, mm.
        ragged: those irregularities.
        strands: what is left of the tissue in the cavity.
    """

    territory: Territory
    side: int
    middle: Array
    stretch: Array
    radius: float
    rim: float
    loss: float
    bumps: tuple[float, float]
    ragged: tuple[RandomWaves, RandomWaves]
    strands: RandomWaves

    def depth(self, points: Array, outline: Array) -> Array:
        """About the distance (N,) to the infarct's edge within the tissue, mm, positive inside.

        Args:
            points: positions, (3, N).
            outline: depth of those points below the brain's surface, mm, (N,).
        """
        folded = points * column((self.side, 1, 1))
        if self.territory.pivot is None:
            distance = length((folded - column(self.middle)) / column(self.stretch))
        else:
            pivot = column(self.territory.pivot)
            ray, axis = folded - pivot, column(self.middle) - pivot
            cosine = np.sum(ray * axis, axis=0) / np.maximum(length(ray) * length(axis), 1e-3)
            across = length(axis) * np.arccos(np.clip(cosine, -1, 1))
            distance = np.hypot(across, np.maximum(outline, 0) / self.stretch[2])
        ragged = sum(np.float32(bump) * waves(points) for bump, waves in zip(self.bumps, self.ragged, strict=True))
        return np.float32(self.radius) - distance + ragged

    def domain(self, points: Array, outline: Array, ventricle: Array) -> Array:
        """Distance (N,) to the border of where this infarct may lie, mm, positive inside.

        Args:
            points: positions, (3, N).
            outline: depth of those points below the brain's surface, mm, (N,).
            ventricle: their distance to the lateral ventricle, mm, (N,).
        """
        below_tentorium = cerebellum(points)
        compartment = below_tentorium if self.territory.cerebellar else -1 - below_tentorium
        return np.minimum.reduce([outline, ventricle, self.side * points[0] - 1, compartment])


def draw_infarcts(rng: np.random.Generator, brain: Brain) -> list[Infarct]:
    """Draw the infarcts of one case.

    Args:
        rng: source of randomness.
        brain: where they will lie.

    Returns:
        One to three infarcts, mostly in one hemisphere.
    """
    first = int(rng.choice((-1, 1)))
    infarcts: list[Infarct] = []
    for volume in _volumes(rng):
        side = first if not infarcts or rng.uniform() < _SAME_SIDE else -first
        fitting = [territory for territory in TERRITORIES.values() if territory.largest_ml >= volume / 1000]
        odds = np.array([territory.odds for territory in fitting])
        territory = fitting[int(rng.choice(len(fitting), p=odds / odds.sum()))]
        infarcts.append(_grown(_seeded(rng, brain, territory, side, volume), rng, brain, volume))
    return infarcts


def paint_infarcts(
    shares: Shares, points: Array, infarcts: list[Infarct], outline: Array, ventricle: Array, width: float
) -> NDArray[np.bool_]:
    """Paint infarcts over the tissues, in place; return which points are lesion.

    Args:
        shares: tissue name to its share at N points; gains ``gliosis`` and ``cavity``.
        points: positions of those points in mm, (3, N).
        infarcts: what to paint.
        outline: depth of those points below the brain's surface, mm, (N,).
        ventricle: their distance to the lateral ventricle, mm, (N,).
        width: voxel size in mm.

    Returns:
        Shape (N,): at least half of the point is lesion, rim or cavity.
    """
    extent, lost = np.zeros((2, points.shape[1]), np.float32)
    for infarct in infarcts:
        depth = infarct.depth(points, outline)
        near = np.flatnonzero(depth > -width)
        depth, place = depth[near], points[:, near]
        allowed = coverage(infarct.domain(place, outline[near], ventricle[near]), width)
        strands = infarct.strands(place)
        cavity = coverage(depth - infarct.rim * np.clip(1 + 0.5 * strands, 0.3, 2), max(width, 2.0))
        left = 0.7 * np.clip(1 - 2.5 * np.abs(strands), 0, 1)  # thin sheets where the waves change sign
        loss = np.float32(infarct.loss) * (1 - left)
        extent[near] = np.maximum(extent[near], allowed * coverage(depth, max(width, 1.3)))
        lost[near] = np.maximum(lost[near], allowed * cavity * loss)
    paint(shares, "gliosis", extent * (1 - shares["csf"]))  # fluid in the sulci stays dark
    paint(shares, "cavity", lost)
    return extent >= 0.5


def _volumes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Volumes in mm3 of the infarcts, largest first, that add up to a log-normal load."""
    load = np.clip(LOAD_ML[1] * np.exp(1.2 * rng.standard_normal()), LOAD_ML[0], LOAD_ML[2])
    sizes = np.exp(rng.standard_normal(1 + int(rng.choice(3, p=NUMBER_ODDS))))
    return np.sort(np.maximum(1000 * load * sizes / sizes.sum(), 1000 * LEAST_ML))[::-1]


def _seeded(rng: np.random.Generator, brain: Brain, territory: Territory, side: int, volume: float) -> Infarct:
    """An infarct of radius 0 at a random place of its territory; its irregularities suit ``volume`` (mm3)."""
    size = (volume / (4 / 3 * np.pi)) ** (1 / 3)
    rim = min(rng.uniform(2.0, 5.5), 0.4 * size)
    infarct = Infarct(
        territory,
        side,
        middle=np.zeros(3, np.float32),
        stretch=np.float32(rng.uniform((0.7, 0.8, 0.7), (1.1, 1.5, 1.3))),
        radius=0.0,
        rim=rim,
        loss=rng.uniform(0.7, 1.0),
        bumps=(min(0.16 * size, 3.5), min(0.08 * size, 0.8)),
        ragged=(RandomWaves(rng, (14, 45), count=12), RandomWaves(rng, (6, 12), count=12)),
        strands=RandomWaves(rng, (10, 35), count=12),
    )
    points = np.float32(rng.uniform(column(territory.low), column(territory.high), (3, 4000))) * column((side, 1, 1))
    outline = brain.outline(points)
    depth = (outline > 1) & (outline < 7) if territory.pivot else outline > 12
    fitting = np.flatnonzero(depth & (infarct.domain(points, outline, brain.ventricle(points)) > 1))
    return replace(infarct, middle=points[:, rng.choice(fitting)] * column((side, 1, 1))[:, 0])


def _grown(infarct: Infarct, rng: np.random.Generator, brain: Brain, volume: float) -> Infarct:
    """Give an infarct the radius at which it holds ``volume`` mm3 of its domain, found with random points."""
    reach = 1.7 * volume ** (1 / 3) + 12
    points = column(infarct.middle * (infarct.side, 1, 1)) + np.float32(rng.uniform(-reach, reach, (3, _TRIALS)))
    outline = brain.outline(points)
    inside = infarct.domain(points, outline, brain.ventricle(points)) > 0
    needed = np.sort(-infarct.depth(points[:, inside], outline[inside]))
    count = round(volume / (2 * reach) ** 3 * _TRIALS)
    return replace(infarct, radius=float(needed[min(count, len(needed) - 1)]))
