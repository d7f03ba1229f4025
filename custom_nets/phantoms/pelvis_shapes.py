# SPDX-License-Identifier: Apache-2.0
"""How a structure of the synthetic pelvis is written down: solids, tissues from the surface inwards, and variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.geometry import Array, ellipsoid, rotation, smooth_union, tube

Triple = tuple[float, float, float]
Node = tuple[float, float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: centre and half lengths in mm, rotation about x, y, z in degrees."""

    centre: Triple
    semi_axes: Triple
    turned: Triple = (0, 0, 0)

    def distance(self, points: Array) -> Array:
        """Signed distance (N,) of ``points`` (3, N), mm, positive inside."""
        return ellipsoid(points, self.centre, self.semi_axes, self.turned)

    def box(self) -> NDArray[np.float64]:
        """Lowest and highest x, y, z inside, mm: (2, 3)."""
        reach = np.linalg.norm(rotation(self.turned) * np.asarray(self.semi_axes), axis=1)
        return np.stack([self.centre - reach, self.centre + reach])


@dataclass(frozen=True)
class Chain:
    """Rounded cones in a row: (x, y, z, radius) of each joint in mm; thickness along x, y, z relative to the radius."""

    nodes: Sequence[Node]
    stretch: Triple = (1, 1, 1)

    def distance(self, points: Array) -> Array:
        """Signed distance (N,) of ``points`` (3, N), mm, positive inside."""
        return tube(points, self.nodes, self.stretch)

    def box(self) -> NDArray[np.float64]:
        """Lowest and highest x, y, z inside, mm: (2, 3)."""
        joints = np.asarray(self.nodes, float)
        reach = joints[:, 3:] * np.asarray(self.stretch)
        return np.stack([(joints[:, :3] - reach).min(axis=0), (joints[:, :3] + reach).max(axis=0)])


Solid = Ellipsoid | Chain

MUSCLE = ((0.0, "muscle"),)
BONE = ((0.0, "cortex"), (3.0, "marrow"))
BOWEL = ((0.0, "bowel wall"), (4.5, "bowel content"))
VESSEL = ((0.0, "blood"),)


@dataclass(frozen=True)
class Structure:
    """One organ, muscle or bone of the average body; where it is paired, the one on the patient's right (x > 0).

    Attributes:
        solids: it is their union.
        tissues: (depth below the surface in mm from which on, tissue), from the surface inwards.
        rank: covers structures of lower rank; among equals a point belongs to the one in which it lies deepest.
        size: standard deviation of the logarithm of its size among patients.
        anchor: the point in mm that stays where it is when the size changes; left out, the first solid's middle.
        lift: share of the rise of a filling bladder's dome that moves it.
    """

    solids: Sequence[Solid]
    tissues: Sequence[tuple[float, str]] = MUSCLE
    rank: int = 0
    size: float = 0.05
    anchor: Triple | None = None
    lift: float = 0.0

    def distance(self, points: Array) -> Array:
        """Signed distance (N,) of ``points`` (3, N) in the average body, mm, positive inside."""
        result = self.solids[0].distance(points)
        for solid in self.solids[1:]:
            result = smooth_union(result, solid.distance(points), 4)
        return result

    def box(self) -> NDArray[np.float64]:
        """Lowest and highest x, y, z inside, mm: (2, 3)."""
        boxes = np.stack([solid.box() for solid in self.solids])
        return np.stack([boxes[:, 0].min(axis=0) - 1, boxes[:, 1].max(axis=0) + 1])  # 1 mm for the rounded seams

    def fixed_point(self) -> NDArray[np.float64]:
        """What stays in place when the size changes, mm: (3,)."""
        return self.solids[0].box().mean(axis=0) if self.anchor is None else np.asarray(self.anchor, float)
