# SPDX-License-Identifier: Apache-2.0
"""A brain without a skull: what tissue lies at any point, for a random subject.

Coordinates are millimetres from about the anterior commissure (x right, y front, z up), sizes are textbook ones. The
cortex follows sulci that are drawn as sheets: zero sets of a field of waves on the hemisphere's surface, carried
inwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.appearance import Shares, paint
from custom_nets.phantoms.geometry import (
    Array,
    RandomWaves,
    column,
    coverage,
    ellipsoid,
    length,
    mirrored,
    smooth_union,
    tube,
)

EXTENT = (150.0, 186.0, 150.0)
"""A box in mm that holds every brain, whatever the pose."""
CENTRE = (0.0, -16.0, 4.0)
"""The middle of that box."""

_LATERAL_VENTRICLE = (
    (
        (15, 34, -1, 2.2),
        (10, 24, 5, 4.6),
        (6.5, 5, 13, 5.4),
        (9.5, -14, 19, 5.4),
        (17, -32, 16, 5.8),
        (25, -42, 9, 6.5),
    ),
    ((25, -42, 8, 6), (27, -56, 5, 4), (27, -72, 4, 1)),
    ((25, -42, 8, 5.5), (33, -30, -8, 3), (32, -10, -18, 2)),
)
_CAUDATE = ((13, 22, 1, 5.5), (15, 14, 8, 5.5), (16, 2, 16, 3.8), (19, -16, 20, 2.2))
_HIPPOCAMPUS = ((27, -36, -5, 3.5), (29, -22, -15, 5), (24, -8, -20, 6))
_STEM = ((0, -17, -8, 12), (0, -22, -18, 11.5), (0, -26, -32, 14.5), (0, -35, -47, 8), (0, -38, -54, 6.5))
_PEDUNCLE = ((8, -30, -32, 7), (18, -46, -34, 6))


@dataclass(frozen=True)
class BrainSample:
    """The brain at N points.

    Attributes:
        shares: tissue name to its share of each point, (N,); they sum to 1.
        inside: signed distance to the outline in mm, positive inside, (N,).
        ventricle: distance to the wall of the lateral ventricle in mm, positive outside it, (N,).
        cortex: depth below the inner face of the cortex in mm, negative in the cortex, (N,).
    """

    shares: Shares
    inside: Array
    ventricle: Array
    cortex: Array


class Brain:
    """A random subject's brain; every method takes positions in the average body, in mm."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw folds, width of sulci and ventricles, thickness of the cortex."""
        self._folds = RandomWaves(rng, (19, 24))
        self._fold_depth = RandomWaves(rng, (30, 60), count=8)
        self._bends = [RandomWaves(rng, (25, 50), count=6) for _ in range(3)]
        self._folia = RandomWaves(rng, (15, 40), count=8)
        age = rng.uniform()  # old brains have wide sulci and ventricles
        self._sulcus = np.float32(0.25 + 0.6 * age + rng.uniform(0, 0.2))
        self._ventricle = np.float32(-0.8 + 2.8 * age + rng.uniform(-0.4, 0.8))
        self._thickness = np.float32(rng.uniform(2.2, 2.7))
        self._rim = np.float32(rng.uniform(0.6, 2.0))

    def outline(self, points: Array) -> Array:
        """Signed distance to the outline of the whole brain, mm, positive inside: (N,)."""
        return smooth_union(
            smooth_union(_cerebrum(points), cerebellum(points), 5), tube(points, _STEM, (1.1, 0.95, 1)), 5
        )

    def ventricle(self, points: Array) -> Array:
        """Distance to the wall of the lateral ventricles, mm, positive outside them: (N,)."""
        folded = mirrored(points)
        body, occipital, temporal = (tube(folded, nodes, (0.85, 1, 1.15)) for nodes in _LATERAL_VENTRICLE)
        body = np.minimum(body + self._ventricle, (folded[0] - 0.8))  # the septum parts left and right
        horns = np.maximum(occipital, temporal) + 0.5 * self._ventricle
        return -smooth_union(body, horns, 3)

    def sample(self, points: Array, width: float) -> BrainSample:
        """Return tissues and distances at ``points`` (3, N), averaged over voxels of ``width`` mm."""
        ventricle = self.ventricle(points)
        pial = self._below_pia(points, ventricle)
        inner = pial - self._cortical_thickness(points)
        shares: Shares = {"csf": np.ones(points.shape[1], np.float32)}
        paint(shares, "grey", coverage(pial, width))
        paint(shares, "white", coverage(inner, width))
        self._paint_deep_grey(shares, points, width)
        self._paint_ventricles(shares, points, ventricle, width)
        self._paint_cerebellum(shares, points, width)
        self._paint_stem(shares, points, width)
        return BrainSample(shares, self.outline(points), ventricle, inner)

    def _below_pia(self, points: Array, ventricle: Array) -> Array:
        """Signed distance to the surface of the cortex, in the depth of the sulci too; positive in the tissue."""
        folded = mirrored(points)
        bent: Array = folded + 3 * np.stack([bend(points) for bend in self._bends])
        core = ellipsoid(points, (0, -6, 6), (500, 33, 22))  # callosum and below: the hemispheres are joined
        fissure = np.hypot(folded[0], np.maximum(core, 0)) - 0.4 - self._sulcus
        depth = np.minimum(_cerebrum(points), fissure)
        sulci = np.minimum(self._sulci(points, bent, depth), _sylvian(bent) - self._sulcus)
        # no sulcus reaches the middle of the brain or the ventricles
        sulci = np.maximum(sulci, np.maximum(ellipsoid(folded, (0, -10, 8), (29, 46, 17)), 6 - ventricle))
        return np.minimum(depth, sulci)

    def _sulci(self, points: Array, bent: Array, depth: Array) -> Array:
        """Distance to the nearest sulcus, mm; ``bent`` are the folded points after a shift that makes sulci wind."""
        distance = np.full(points.shape[1], 20, np.float32)
        near = np.flatnonzero((depth > -3) & (depth < 34))
        points, depth = points[:, near], depth[near]
        ray = bent[:, near] - column((24, -17, 10))
        reach = np.maximum(length(ray / column((42, 82, 55))), np.float32(0.15))
        surface = ray / reach
        surface[0] += 300 * np.sign(points[0], dtype=np.float32)  # left and right have their own folds
        value, gradient = self._folds.with_gradient(surface)
        ray /= length(ray) + np.float32(1e-6)
        gradient -= np.sum(gradient * ray, axis=0) * ray
        across = np.abs(value) / np.maximum(length(gradient), 0.2) * np.minimum(reach, 1)
        floor = np.clip(18 + 6 * self._fold_depth(points), 6, 30)
        width = self._sulcus + 1.2 * np.exp(-np.maximum(depth, 0) / 2)  # sulci open towards the surface
        distance[near] = np.hypot(across, np.maximum(depth - floor, 0)) - width
        return distance

    def _cortical_thickness(self, points: Array) -> Array:
        """Thickness in mm; the corpus callosum has no cortex."""
        core = ellipsoid(points, (0, -6, 6), (500, 33, 22))
        callosum = np.exp(-((core / 4) ** 2)) * (np.abs(points[0]) < 7)
        return self._thickness * (1 - callosum)

    def _paint_deep_grey(self, shares: Shares, points: Array, width: float) -> None:
        folded = mirrored(points)
        paint(shares, "thalamus", coverage(ellipsoid(folded, (11, -18, 6), (9.5, 15, 9.5), (0, 0, -18)), width))
        paint(shares, "deep_grey", coverage(tube(folded, _CAUDATE), width))
        paint(shares, "deep_grey", coverage(ellipsoid(folded, (26, 2, 1), (5.5, 17, 11), (0, -8, -10)), width))
        paint(shares, "pallidum", coverage(ellipsoid(folded, (19.5, -4, 0), (4, 9, 6.5), (0, -8, -14)), width))
        paint(shares, "grey", coverage(tube(folded, _HIPPOCAMPUS), width))

    def _paint_ventricles(self, shares: Shares, points: Array, ventricle: Array, width: float) -> None:
        folded = mirrored(points)
        caps = 3.5 * np.exp(-(((folded[1] - 35) / 7) ** 2)) + 3 * np.exp(-(((folded[1] + 62) / 12) ** 2))
        rim = coverage(self._rim + caps - ventricle, 2.5) * (ventricle > -2)
        paint(shares, "rim", rim * shares["white"])
        paint(shares, "csf", coverage(-ventricle, width))
        third = ellipsoid(points, (0, -10, 0), (2.2 + 0.5 * self._ventricle, 15, 12))
        paint(shares, "csf", coverage(third, width))
        paint(shares, "plexus", coverage(ellipsoid(folded, (24, -42, 8), (2.5, 5, 3.5)), width))

    def _paint_cerebellum(self, shares: Shares, points: Array, width: float) -> None:
        depth = np.full(points.shape[1], -9, np.float32)
        near = np.flatnonzero((points[2] < 2) & (points[1] < -20))
        points = points[:, near]
        depth[near] = outline = cerebellum(points)
        paint(shares, "csf", coverage(depth + 1.2, width))
        arm, height = -(points[1] + 46), points[2] + 32
        radius = np.hypot(arm, height)
        phase = np.arctan2(height, arm) * 15 + 0.5 * self._folia(points)
        across = np.abs(np.sin(phase)) / 15 * np.maximum(radius, 8)
        floor = 13 + 2 * self._folia(mirrored(points)[[1, 2, 0]])
        fissures = np.hypot(across, np.maximum(outline - floor, 0)) - 0.25
        surface = np.minimum(outline, fissures)
        for tissue, distance in (("grey", surface), ("cerebellar_white", surface - 1.8)):
            depth[near] = distance
            paint(shares, tissue, coverage(depth, width))

    def _paint_stem(self, shares: Shares, points: Array, width: float) -> None:
        stem = tube(points, _STEM, (1.1, 0.95, 1))
        below = points[2] < -10
        paint(shares, "csf", coverage(stem + 1.5, width) * (below & (cerebellum(points) < 0)))
        stem = np.maximum(stem, tube(mirrored(points), _PEDUNCLE))
        paint(shares, "stem", coverage(stem, width) * coverage(-4 - points[2], 8))
        paint(shares, "csf", coverage(ellipsoid(points, (0, -43, -33), (7.5, 5, 10)), width))


def trimmed(brain: BrainSample) -> NDArray[np.bool_]:
    """Which points (N,) a brain extraction keeps: it follows the surface and eats most of the fluid outside."""
    return (brain.inside > 0) & ((brain.inside > 3.5) | (brain.shares["csf"] < 0.55))


def _cerebrum(points: Array) -> Array:
    """Signed distance to the hull of both hemispheres, mm."""
    folded = mirrored(points)
    offset = folded - column((0, -17, 14))
    height = np.where(offset[2] > 0, offset[2] / 54, offset[2] / -37)
    reach = np.hypot(np.hypot(offset[0] / 64, offset[1] / 82), height)
    body = length(offset) * (1 / np.maximum(reach, 0.05) - 1) * 0.9
    notch = ellipsoid(points, (0, -15, -28), (22, 27, 20))  # room for the brain stem
    temporal = ellipsoid(folded, (42, -14, -19), (20, 43, 19), (-16, 0, -6))
    return smooth_union(-smooth_union(-body, notch, 6), temporal, 5)


def cerebellum(points: Array) -> Array:
    """Signed distance to the hull of the cerebellum, mm."""
    hull = ellipsoid(points, (0, -63, -34), (50, 32, 22))
    behind = np.clip(-(points[1] + 76) / 8, 0, 1)
    return hull - 6 * behind * np.exp(-((points[0] / 5) ** 2))  # the notch between its hemispheres


def _sylvian(folded: Array) -> Array:
    """Distance to the middle of the lateral fissure: a slope above the temporal lobe that forks around the insula."""
    x, y, z = folded
    slope = 0.93 * (z + 5 + 0.36 * (y - 20))
    along = np.maximum(np.abs(y + 12) - 34, 0)
    fissure = np.sqrt(slope**2 + np.maximum(39 - x, 0) ** 2 + along**2)
    fork = np.sqrt((x - 40) ** 2 + np.maximum(np.abs(slope) - 9, 0) ** 2 + np.maximum(np.abs(y) - 20, 0) ** 2)
    return np.minimum(fissure, fork)
