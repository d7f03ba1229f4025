# SPDX-License-Identifier: Apache-2.0
"""Gliomas: how large, where, what they are made of, and painted into a brain.

A high-grade one is a necrosis in an irregular enhancing rim, in places with non-enhancing tumour around it; a low-grade
one does not enhance. Oedema spreads from the core through white matter and spares cortex and deep grey matter, which
gives it fingers. The core pushes the brain aside. Volumes are those of usual gliomas before surgery, without the
largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.appearance import Shares, paint
from custom_nets.phantoms.brain import Brain, BrainSample, cerebellum
from custom_nets.phantoms.geometry import Array, RandomWaves, column, coverage, length
from custom_nets.tumours.regions import CORE, ENHANCING, OEDEMA, values_of

WHOLE_ML = (10.0, 45.0, 110.0)
"""Least, median and greatest volume of core and oedema together, in the average body."""
CORE_SHARE = (0.2, 0.6)
"""Bounds of the core's share of that volume; a low-grade tumour's lies in the upper third of them."""
ENHANCING_SHARE = (0.25, 0.7)
"""Bounds of the enhancing share of a high-grade core."""
LOW_GRADE_ODDS, SATELLITE_ODDS = 1 / 6, 1 / 6

_TRIALS = 40000
_INTO_CORTEX = np.float32(0.3)  # mm that oedema goes beyond white matter
_SPARED = {"csf": 1.0, "stem": 1.0, "thalamus": 0.8, "deep_grey": 0.8, "pallidum": 0.8, "plexus": 1.0}
"""Tissue to the share of it that oedema leaves out; what it does to the cortex depends on the place."""


@dataclass(frozen=True)
class Core:
    """The solid part of a tumour; positions are in the average body, in mm.

    Attributes:
        centre: (3,).
        shape: from an offset from the centre to that in a ball, (3, 3), of determinant 1.
        radius: the core ends where the length of that offset reaches this value, mm.
        size: radius of a ball of its volume, mm.
        ragged: coarse and fine irregularities of its outline.
        patches: where non-enhancing tumour lies around the rim, and what the necrosis looks like.
        rim: thickness of the enhancing rim in mm; None is a low-grade core, without one.
    """

    centre: Array
    shape: Array
    radius: float
    size: float
    ragged: tuple[RandomWaves, RandomWaves]
    patches: RandomWaves
    rim: float | None

    def depth(self, points: Array) -> Array:
        """About the distance (N,) of points (3, N) to the core's outline, mm, positive inside."""
        coarse, fine = (waves(points) for waves in self.ragged)
        bumps = np.float32(min(0.2 * self.size, 4.5)) * coarse + np.float32(min(0.07 * self.size, 1.2)) * fine
        return np.float32(self.radius) - length(self.shape @ (points - column(self.centre))) + bumps

    def layers(self, points: Array, depth: Array) -> tuple[Array, Array]:
        """Depths (N,) below the outer face of the enhancing rim, and below its inner face were the rim 0 mm thick.

        Args:
            points: positions, (3, N).
            depth: of those points in the core, mm, (N,).
        """
        patches = self.patches(points)
        shell = depth - np.float32(0.3 * self.size) * np.clip(patches - 0.4, 0, 1)
        return shell, shell + np.float32(0.12 * self.size) * self.ragged[0](points[[1, 2, 0]])


@dataclass(frozen=True)
class Glioma:
    """One tumour; positions are in the average body, in mm.

    Attributes:
        cores: the tumour's own, and those of satellites.
        side: 1 in the right hemisphere, -1 in the left.
        push: how far the core's edge has moved, mm.
        reach: how far oedema reaches from a core, on average, mm.
        lobes: where it reaches further.
    """

    cores: tuple[Core, ...]
    side: int
    push: float
    reach: float
    lobes: RandomWaves

    def displaced(self, points: Array, outline: Array) -> Array:
        """Return where the tissue at ``points`` (3, N) was before the tumour grew: (3, N).

        Args:
            points: positions, (3, N).
            outline: depth of those points below the brain's surface, which the skull holds, mm, (N,).
        """
        core = self.cores[0]
        offset = points - column(core.centre)
        away = length(offset) / np.float32(1.1 * core.size)
        share = np.exp(0.5 - 0.5 * away**2) * np.clip(outline / 12, 0, 1) / np.float32(1.1 * core.size)
        return points - np.float32(self.push) * share * offset

    def core_domain(self, before: Array, found: BrainSample) -> Array:
        """Distance (N,) to the border of where a core may lie, mm, positive inside: one hemisphere, no ventricle.

        Args:
            before: positions before the displacement, (3, N).
            found: the brain there.
        """
        midline = self.side * before[0] - 1
        return np.minimum.reduce([found.inside - 1, found.ventricle - 0.5, midline, -1 - cerebellum(before)])

    def oedema_depth(self, points: Array, depths: list[Array]) -> Array:
        """About the distance (N,) to the border of the oedema, were all tissue alike, mm, positive inside.

        Args:
            points: positions, (3, N).
            depths: of those points in each core, mm, (N,) each.
        """
        near = depths[0]
        for core, depth in zip(self.cores[1:], depths[1:], strict=True):
            # a small core has little oedema
            near = np.maximum(near, depth - np.float32(max(self.reach - 0.7 * core.size, 0)))
        return np.float32(self.reach) + near + np.float32(0.3 * max(self.reach, 8)) * self.lobes(points)


def draw_glioma(rng: np.random.Generator, brain: Brain) -> Glioma:
    """Draw the tumour of one case.

    Args:
        rng: source of randomness.
        brain: where it will lie.
    """
    least, median, greatest = WHOLE_ML
    whole = 1000 * float(np.clip(median * np.exp(0.65 * rng.standard_normal()), least, greatest))
    low_grade, has_satellite = rng.uniform() < LOW_GRADE_ODDS, rng.uniform() < SATELLITE_ODDS
    lowest, highest = CORE_SHARE
    share = rng.uniform(highest - (highest - lowest) / 3 if low_grade else lowest, highest)
    enhancing = None if low_grade else rng.uniform(*ENHANCING_SHARE)
    size = _ball(share * whole)
    side = int(rng.choice((-1, 1)))
    core = _seeded(rng, _place(rng, brain, side, size), size, rim=None if low_grade else 0.0)
    push = size * rng.uniform(0.05, 0.15) if low_grade else size * rng.uniform(0.1, 0.35)
    seed = Glioma((core,), side, push, 0.0, RandomWaves(rng, (25, 80), count=12))
    return _grown(seed, rng, brain, (share * whole, whole), enhancing, has_satellite)


def paint_glioma(found: BrainSample, points: Array, before: Array, glioma: Glioma, width: float) -> NDArray[np.uint8]:
    """Paint a tumour over the tissues, in place; return the label of each point in the BraTS convention.

    Args:
        found: the brain at ``before``; its shares gain ``oedema``, ``tumour`` (what does not enhance), ``enhancing``
            and ``necrosis``.
        points: N positions in mm, (3, N).
        before: where the tissue at those positions was before the tumour grew, (3, N).
        glioma: what to paint.
        width: voxel size in mm.

    Returns:
        Shape (N,): what at least half of the point is made of.
    """
    shares = found.shares
    values = values_of("brats")
    label = np.zeros(points.shape[1], np.uint8)
    near = np.flatnonzero(length(points - column(glioma.cores[0].centre)) < 120)
    place, domain = points[:, near], glioma.core_domain(before, found)[near]
    depths = [core.depth(place) for core in glioma.cores]
    domain = coverage(domain, width) * (1 - shares["stem"][near])

    extent = np.zeros_like(label, np.float32)
    depth = np.minimum(glioma.oedema_depth(place, depths), found.cortex[near] + _INTO_CORTEX)
    extent[near] = domain * coverage(depth, max(width, 1.5)) * (1 - _spared(shares)[near])
    label[extent >= 0.5] = values[OEDEMA]
    uneven = np.float32(0.85) + np.float32(0.1) * glioma.lobes(3 * place)
    extent[near] *= np.clip(uneven, 0.5, 1)
    paint(shares, "oedema", extent)

    for core, depth in zip(glioma.cores, depths, strict=True):
        inside = np.flatnonzero((depth > -width) & (domain > 0))
        _paint_core(shares, label, near[inside], place[:, inside], core, depth[inside], domain[inside], width)
    return label


def _paint_core(
    shares: Shares,
    label: NDArray[np.uint8],
    index: NDArray[np.intp],
    points: Array,
    core: Core,
    depth: Array,
    domain: Array,
    width: float,
) -> None:
    """Paint a core and write its labels, both in place, at ``index`` (n,), whose points have that depth and domain."""
    values, opacity = values_of("brats"), np.zeros(len(label), np.float32)
    extent = domain * coverage(depth, width)
    label[index[extent >= 0.5]] = values[CORE]
    opacity[index] = extent
    paint(shares, "tumour", opacity)
    texture = core.ragged[1](points[[2, 0, 1]])
    if core.rim is None:
        opacity[index] = extent * np.clip(0.3 * core.patches(points) - 0.1, 0, 0.6)  # myxoid parts
        paint(shares, "necrosis", opacity)
        return
    shell, inner = core.layers(points, depth)
    outer, inner = extent * coverage(shell, width), coverage(inner - np.float32(core.rim), width)
    enhances = np.flatnonzero((extent >= 0.5) & (outer * (1 - inner) >= 0.5))
    label[index[enhances]] = values[ENHANCING]
    opacity[index] = outer * np.clip(0.85 + 0.15 * texture, 0.5, 1)
    paint(shares, "enhancing", opacity)
    opacity[index] = outer * inner * np.clip(0.9 + 0.1 * texture, 0.6, 1)
    paint(shares, "necrosis", opacity)


def _spared(shares: Shares) -> Array:
    """Share (N,) of each point that oedema leaves out for its tissue."""
    return np.sum([shares[tissue] * np.float32(share) for tissue, share in _SPARED.items()], axis=0)


def _ball(volume: float) -> float:
    """Radius in mm of a ball of ``volume`` mm3."""
    return float((volume / (4 / 3 * np.pi)) ** (1 / 3))


def _seeded(rng: np.random.Generator, centre: Array, size: float, rim: float | None) -> Core:
    """A core of random shape whose radius is that of a ball, ``size`` mm."""
    stretch = rng.uniform(0.75, 1.3, 3)
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    shape = axes @ np.diag(np.cbrt(stretch.prod()) / stretch) @ axes.T
    ragged = RandomWaves(rng, (1.4 * size, 3.5 * size), count=12), RandomWaves(rng, (6, 12), count=12)
    patches = RandomWaves(rng, (1.2 * size, 3 * size), count=10)
    return Core(centre, shape.astype(np.float32), size, size, ragged, patches, rim)


def _place(rng: np.random.Generator, brain: Brain, side: int, size: float) -> Array:
    """A random place (3,) in the white matter of one hemisphere, deep enough for most of a core of ``size`` mm."""
    points = np.float32(rng.uniform(column((8, -95, -22)), column((60, 58, 62)), (3, 6000))) * column((side, 1, 1))
    found = brain.sample(points, 1.0)
    deep = np.minimum(found.inside, np.abs(points[0])) > min(0.8 * size, 20)
    fitting = deep & (found.ventricle > min(0.4 * size, 8)) & (cerebellum(points) < -0.6 * size)
    return points[:, rng.choice(np.flatnonzero(fitting & (found.shares["white"] > 0.9)))]


def _grown(
    glioma: Glioma,
    rng: np.random.Generator,
    brain: Brain,
    volumes: tuple[float, float],
    enhancing: float | None,
    has_satellite: bool,
) -> Glioma:
    """Find radius, rim and reach at which the tumour has the volumes wanted, with random points.

    Args:
        glioma: with a core of about the right size, and no oedema.
        rng: source of randomness.
        brain: where it lies.
        volumes: of the core and of the whole, mm3.
        enhancing: share of the core that enhances, or None.
        has_satellite: whether to add a small core nearby.
    """
    core, half = glioma.cores[0], 1.1 * volumes[1] ** (1 / 3) + 18
    points = column(core.centre) + np.float32(rng.uniform(-half, half, (3, _TRIALS)))
    outline = brain.outline(points)
    points = points[:, outline > 0]
    before = glioma.displaced(points, outline[outline > 0])
    found = brain.sample(before, 1.0)
    domain = glioma.core_domain(before, found)
    counts = [round(volume / (2 * half) ** 3 * _TRIALS) for volume in volumes]

    depth = core.depth(points)
    core = replace(core, radius=core.radius + _level(-depth[domain > 0], counts[0]))
    depth = core.depth(points)
    solid = (depth > 0) & (domain > 0)
    if enhancing is not None:
        shell, inner = core.layers(points[:, solid], depth[solid])
        core = replace(core, rim=_level(inner[shell > 0], round(enhancing * counts[0])))
    open_to_oedema = (np.minimum(domain, found.cortex + _INTO_CORTEX) > 0) & (_spared(found.shares) < 0.5)
    cores = [core]
    if has_satellite:
        around = points[:, open_to_oedema & (depth < -8) & (depth > -25)]
        size = min(_ball(rng.uniform(800, 2500)), 0.6 * core.size)
        centre = around[:, rng.integers(around.shape[1])]
        cores.append(_seeded(rng, centre, size, None if enhancing is None else 0.45 * size))
    glioma = replace(glioma, cores=tuple(cores))
    free = open_to_oedema & ~solid
    needed = -glioma.oedema_depth(points[:, free], [each.depth(points[:, free]) for each in cores])
    return replace(glioma, reach=_level(needed, counts[1] - int(solid.sum())))


def _level(values: Array, count: int) -> float:
    """The level below which ``count`` of the values lie."""
    return float(np.sort(values)[min(count, len(values) - 1)])
