# SPDX-License-Identifier: Apache-2.0
"""A random female pelvis: which structure and which tissue lie at any point.

Coordinates are millimetres from the middle between the hip joints (x right, y front, z up). The scanner's field of view
cuts the body above the iliac crests and below the sit bones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.geometry import Array, RandomPose, RandomWaves, column, ellipsoid
from custom_nets.phantoms.pelvis_shapes import MUSCLE, Structure
from custom_nets.phantoms.pelvis_structures import PAIRED, PAIRED_UNLABELLED, SINGLE, SINGLE_UNLABELLED

EXTENT = (384.0, 256.0, 192.0)
"""A box in mm that holds the body's width and depth in every pose; its height is the field of view."""
CENTRE = (0.0, -9.0, 12.0)
"""The middle of that box."""

TISSUES = (
    "air", "skin", "fat", "muscle", "cortex", "marrow", "bowel wall", "bowel content", "blood", "nerve", "cartilage",
    "uterine muscle", "junctional zone", "endometrium", "cervix", "vagina", "urethra", "bladder wall", "urine", "ovary",
    "follicle",
)  # fmt: skip
"""Every tissue; its place here is its number."""
_NUMBER = {tissue: number for number, tissue in enumerate(TISSUES)}

_BLADDER = "Urinary bladder"

# outline of the trunk: height, half width, front, back in mm
_OUTLINE = np.array(
    [
        (-110, 158, 76, -98),
        (-70, 162, 80, -104),
        (-30, 164, 84, -107),
        (10, 161, 88, -106),
        (50, 154, 92, -103),
        (80, 149, 93, -100),
        (130, 144, 93, -98),
    ],
    np.float32,
)
_SQUARENESS = 2.6
"""Exponent of the outline: 2 is an ellipse."""
_SKIN = 2.5
_SUBCUTANEOUS = 7.0
"""Structures keep at least this far from the skin, mm."""


@dataclass(frozen=True)
class Part:
    """One structure of one patient.

    Attributes:
        name: of the structure; with the side where it is paired.
        labelled: whether it belongs to the 54.
        structure: its average form.
        side: 1, or -1 for the mirror image (the patient's left).
        size: relative to the average.
        shift: where it lies relative to the average, mm, before mirroring: (3, 1).
        tone: its brightness relative to its tissue's.
    """

    name: str
    labelled: bool
    structure: Structure
    side: int
    size: float
    shift: Array
    tone: float


@dataclass(frozen=True)
class PelvisSample:
    """What lies at N points.

    Attributes:
        part: index into `Pelvis.parts`, -1 where there is none, (N,).
        tissue: index into `TISSUES`, (N,).
    """

    part: NDArray[np.int16]
    tissue: NDArray[np.uint8]


class Pelvis:
    """A random patient; every method takes positions in the scanner, in mm."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw place, pose, fat, filling of the bladder, and size, shift and brightness of every structure."""
        self._pose = RandomPose(rng, degrees=3, scale=0.04, bend=2.5, wavelength=140)
        self._place = column(rng.uniform((-8, -3, -9), (8, 3, 9)))
        self._fat = np.float32(rng.uniform(-4, 7))
        self._wall = np.float32(rng.uniform(16, 26))
        self._bowel = RandomWaves(rng, (38, 60), count=16)
        build, muscle = rng.normal(1, 0.02), rng.normal(1, 0.03)
        filling = float(np.clip(rng.normal(0, SINGLE[_BLADDER].size), -0.35, 0.25))
        self._lift = 60 * (np.exp(filling) - 1)  # how far the dome, some 60 mm above the neck, rises
        self.parts: list[Part] = []
        for table, labelled in (((PAIRED, SINGLE), True), ((PAIRED_UNLABELLED, SINGLE_UNLABELLED), False)):
            for paired, structures in zip((True, False), table, strict=True):
                for name, structure in structures.items():
                    size = build * (muscle if structure.tissues is MUSCLE else 1)
                    size *= np.exp(filling if name == _BLADDER else _clipped(rng, structure.size))
                    self._add(rng, name, structure, size, labelled=labelled, paired=paired)

    def _add(
        self, rng: np.random.Generator, name: str, structure: Structure, size: float, *, labelled: bool, paired: bool
    ) -> None:
        """Append one part, or one for each side, each a little off the common size and place."""
        shift, tone = rng.uniform(-2.5, 2.5, 3), rng.normal(1, 0.03)
        shift[2] += structure.lift * self._lift
        for side, suffix in ((1, ", right"), (-1, ", left")) if paired else ((1, ""),):
            own = float(size * np.exp(_clipped(rng, 0.02)))
            place = column(shift + rng.uniform(-1.5, 1.5, 3))
            self.parts.append(Part(name + suffix, labelled, structure, side, own, place, tone * rng.normal(1, 0.015)))

    def sample(self, points: Array) -> PelvisSample:
        """Return structure and tissue at ``points`` (3, N)."""
        points = self._pose(points + self._place)
        depth = self._below_skin(points)
        tissue = self._background(points, depth)
        part = np.full(points.shape[1], -1, np.int16)
        rank = np.full(points.shape[1], -99, np.int8)
        deepest = np.zeros(points.shape[1], np.float32)
        allowed = np.flatnonzero(depth > _SUBCUTANEOUS)
        points = points[:, allowed]
        for index, one in enumerate(self.parts):
            near, distance = _inside(one, points)
            near = allowed[near]
            wins = (one.structure.rank > rank[near]) | ((one.structure.rank == rank[near]) & (distance > deepest[near]))
            near, distance = near[wins], distance[wins]
            part[near], rank[near], deepest[near] = index, one.structure.rank, distance
            for start, name in one.structure.tissues:
                tissue[near[distance > start]] = _NUMBER[name]
        return PelvisSample(part, tissue)

    def tones(self) -> Array:
        """Brightness of every part relative to its tissue's, and 1 for what is no part (the index -1): (parts + 1,)."""
        return np.array([*(part.tone for part in self.parts), 1], np.float32)

    def _below_skin(self, points: Array) -> Array:
        """Depth below the skin, mm, negative in the air: (N,)."""
        height, table = points[2], _OUTLINE
        half_width, front, back = (np.interp(height, table[:, 0], table[:, k]).astype(np.float32) for k in (1, 2, 3))
        across = np.abs(points[0]) / (half_width + self._fat)
        half_depth = (front - back) / 2 + self._fat
        along = np.abs(points[1] - (front + back) / 2) / half_depth
        reach = (across**_SQUARENESS + along**_SQUARENESS) ** np.float32(1 / _SQUARENESS)
        trunk = (1 - reach) * half_depth
        cleft = ellipsoid(points, (0, -112, -50), (9, 34, 85))
        crotch = ellipsoid(points, (0, 74, -114), (20, 62, 46))
        return np.minimum(trunk, -np.maximum(cleft, crotch))

    def _background(self, points: Array, depth: Array) -> NDArray[np.uint8]:
        """Tissue where no structure lies: skin, fat, the wall of the belly, small bowel."""
        tissue = np.full(points.shape[1], _NUMBER["fat"], np.uint8)
        x, y, z = points
        flank = (np.abs(x) > 70) & (y > -58) & (z > 62 + 0.25 * y)
        tissue[flank & (np.abs(depth - self._wall - 7) < 7)] = _NUMBER["muscle"]
        belly = ellipsoid(points, (0, 38, 108), (92, 44, 72)) > 0
        loops = np.abs(self._bowel(points))
        tissue[belly & (loops < 1.1)] = _NUMBER["bowel content"]
        tissue[belly & (loops < 0.35)] = _NUMBER["bowel wall"]
        tissue[depth < _SKIN] = _NUMBER["skin"]
        tissue[depth < 0] = _NUMBER["air"]
        return tissue


def _clipped(rng: np.random.Generator, deviation: float) -> float:
    """A normal number without the tails that would let a structure vanish or burst."""
    return float(deviation * np.clip(rng.normal(), -2, 2))


def _inside(part: Part, points: Array) -> tuple[NDArray[np.intp], Array]:
    """Indices of the ``points`` (3, N) within a part, and their depth below its surface in mm."""
    fixed = column(part.structure.fixed_point())
    box = (part.structure.box().T - fixed) * part.size + fixed + part.shift  # (3, 2)
    low, high = box[:, 0], box[:, 1]
    if part.side < 0:
        low, high = np.array([-high[0], *low[1:]]), np.array([-low[0], *high[1:]])
    near = np.flatnonzero(np.all([(row > a) & (row < b) for row, a, b in zip(points, low, high, strict=True)], axis=0))
    place = points[:, near] * column((part.side, 1, 1)) - part.shift
    distance = np.float32(part.size) * part.structure.distance((place - fixed) / np.float32(part.size) + fixed)
    inside = distance > 0
    return near[inside], distance[inside]
