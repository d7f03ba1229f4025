# SPDX-License-Identifier: Apache-2.0
"""Skull-stripped T1 volumes of a brain with chronic infarcts."""

from __future__ import annotations

import numpy as np

from custom_nets.phantoms.appearance import Shares, scan
from custom_nets.phantoms.brain import CENTRE, EXTENT, Brain, trimmed
from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.geometry import Grid, RandomPose
from custom_nets.phantoms.infarcts import draw_infarcts, paint_infarcts
from custom_nets.phantoms.ms_brain import SIGNAL as HEALTHY

# The cavity is about as dark as the fluid of sulci and ventricles: only its place and its rim tell it from them.
SIGNAL = {**HEALTHY["T1"], "gliosis": 0.55, "cavity": 0.25}
BRIGHTEST = (215.0, 300.0)
"""Bounds of the 99.9th percentile inside the brain: files of 8 bits, which the published network divides by 255."""
_NOISE = 0.03


def make_stroke_brain(rng: np.random.Generator, grid: Grid) -> PhantomCase:
    """Make one case.

    Args:
        rng: source of randomness; anatomy and infarcts do not depend on the grid.
        grid: the voxels.

    Returns:
        The image ``T1`` (background exactly 0) and a label with 1 = infarct, rim and cavity.
    """
    anatomy, pathology, scanner = rng.spawn(3)
    pose, brain = RandomPose(anatomy), Brain(anatomy)
    width = float(np.cbrt(np.prod(grid.spacing)))
    infarcts = draw_infarcts(pathology, brain)

    points = pose(grid.points())
    inside = np.flatnonzero(brain.outline(points) > 0)
    points = points[:, inside]
    found = brain.sample(points, width)
    lesion = paint_infarcts(found.shares, points, infarcts, found.inside, found.ventricle, width)

    kept = trimmed(found) | lesion
    mask, label = np.zeros(grid.shape, bool), np.zeros(grid.shape, np.uint8)
    mask.flat[inside[kept]] = True
    label.flat[inside[lesion]] = 1
    shares: Shares = {tissue: share[kept] for tissue, share in found.shares.items()}
    image = scan(shares, mask, grid, SIGNAL, scanner, noise=_NOISE, brightest=BRIGHTEST)
    return PhantomCase({"T1": image}, label, grid.affine)


# 2 mm: a whole head is small enough for a demo without a GPU, and the least infarct is still a hundred voxels
STROKE_BRAIN = Generator(make_stroke_brain, extent=EXTENT, centre=CENTRE, spacing=(2.0, 2.0, 2.0))
