# SPDX-License-Identifier: Apache-2.0
"""Skull-stripped T1, T2, T1CE and FLAIR volumes of a brain with a glioma."""

from __future__ import annotations

import numpy as np

from custom_nets.phantoms.appearance import Shares, paint, scan
from custom_nets.phantoms.brain import CENTRE, EXTENT, Brain, BrainSample, trimmed
from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.geometry import Array, Grid, RandomPose, RandomWaves, coverage, length
from custom_nets.phantoms.gliomas import draw_glioma, paint_glioma
from custom_nets.phantoms.ms_brain import SIGNAL as HEALTHY

# No threshold of one image finds a part: on T1CE vessels and choroid plexus are as bright as the enhancing rim, on T2
# fluid is brighter than the tumour, on FLAIR the parts overlap and the ventricles' caps resemble oedema.
SIGNAL: dict[str, dict[str, float]] = {
    "T1": {
        **HEALTHY["T1"], "vessel": 0.5, "oedema": 0.78, "tumour": 0.62, "enhancing": 0.71, "necrosis": 0.42,
    },
    "T2": {
        **HEALTHY["T2"], "vessel": 0.6, "oedema": 2.0, "tumour": 2.1, "enhancing": 1.7, "necrosis": 2.8,
    },
    "T1CE": {
        **HEALTHY["T1"], "grey": 0.76, "plexus": 1.5, "vessel": 2.0, "oedema": 0.78, "tumour": 0.62,
        "enhancing": 1.45, "necrosis": 0.4,
    },
    "FLAIR": {
        **HEALTHY["FLAIR"], "vessel": 0.5, "oedema": 1.65, "tumour": 1.4, "enhancing": 1.45, "necrosis": 0.75,
    },
}  # fmt: skip
_NOISE = {"T1": 0.03, "T2": 0.06, "T1CE": 0.035, "FLAIR": 0.05}


def make_tumour_brain(rng: np.random.Generator, grid: Grid) -> PhantomCase:
    """Make one case.

    Args:
        rng: source of randomness; anatomy and tumour do not depend on the grid.
        grid: the voxels.

    Returns:
        Images ``T1``, ``T2``, ``T1CE``, ``FLAIR`` (background exactly 0) and a label in the BraTS convention: 1 =
        necrotic and non-enhancing core, 2 = oedema, 4 = enhancing tumour, which one case in six lacks.
    """
    anatomy, pathology, scanner = rng.spawn(3)
    pose, brain = RandomPose(anatomy), Brain(anatomy)
    vessels = RandomWaves(anatomy, (25, 50)), RandomWaves(anatomy, (25, 50))
    width = float(np.cbrt(np.prod(grid.spacing)))
    glioma = draw_glioma(pathology, brain)

    points = pose(grid.points())
    outline = brain.outline(points)
    inside = np.flatnonzero(outline > 0)
    points = points[:, inside]
    before = glioma.displaced(points, outline[inside])
    found = brain.sample(before, width)
    _paint_vessels(found, before, vessels, width)
    part = paint_glioma(found, points, before, glioma, width)

    kept = trimmed(found) | (part > 0)
    mask, label = np.zeros(grid.shape, bool), np.zeros(grid.shape, np.uint8)
    mask.flat[inside[kept]] = True
    label.flat[inside] = part
    shares: Shares = {tissue: share[kept] for tissue, share in found.shares.items()}
    images = {name: scan(shares, mask, grid, signal, scanner, noise=_NOISE[name]) for name, signal in SIGNAL.items()}
    return PhantomCase(images, label, grid.affine)


def _paint_vessels(found: BrainSample, points: Array, fields: tuple[RandomWaves, RandomWaves], width: float) -> None:
    """Paint vessels in place: lines along which two fields are zero, in cortex and fluid."""
    room = found.shares["csf"] + found.shares["grey"]
    near = np.flatnonzero((found.cortex < 0) & (room > 0))
    values = (field.with_gradient(points[:, near]) for field in fields)
    first, second = (value / np.maximum(length(gradient), np.float32(0.02)) for value, gradient in values)
    opacity = np.zeros(points.shape[1], np.float32)
    opacity[near] = room[near] * coverage(1.2 - np.sqrt(first**2 + second**2), max(width, 1.5))
    paint(found.shares, "vessel", opacity)


# 2 mm: a whole head is small enough for a demo without a GPU, and an enhancing rim is still two voxels thick
TUMOUR_BRAIN = Generator(make_tumour_brain, extent=EXTENT, centre=CENTRE, spacing=(2.0, 2.0, 2.0))
