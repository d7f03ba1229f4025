# SPDX-License-Identifier: Apache-2.0
"""Skull-stripped T1, T2 and FLAIR volumes of a brain with multiple-sclerosis lesions."""

from __future__ import annotations

import numpy as np

from custom_nets.phantoms.appearance import Shares, scan
from custom_nets.phantoms.brain import CENTRE, EXTENT, Brain, trimmed
from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.geometry import Grid, RandomPose
from custom_nets.phantoms.ms_lesions import draw_lesions, paint_lesions

# Signal relative to white matter, as in 3 T scans: T1 white > grey > fluid, T2 the reverse, FLAIR with dark fluid. The
# rim and caps of the ventricles and the choroid plexus are bright on FLAIR without being lesions.
SIGNAL: dict[str, dict[str, float]] = {
    "T1": {
        "white": 1.0, "cerebellar_white": 0.98, "stem": 0.94, "rim": 0.93, "pallidum": 0.93, "thalamus": 0.86,
        "deep_grey": 0.79, "grey": 0.71, "plexus": 0.55, "csf": 0.22, "lesion": 0.74, "black_hole": 0.42,
    },
    "T2": {
        "white": 1.0, "cerebellar_white": 1.02, "stem": 1.06, "rim": 1.25, "pallidum": 0.8, "thalamus": 1.15,
        "deep_grey": 1.17, "grey": 1.36, "plexus": 2.4, "csf": 3.2, "lesion": 1.95, "black_hole": 2.5,
    },
    "FLAIR": {
        "white": 1.0, "cerebellar_white": 1.02, "stem": 1.07, "rim": 1.22, "pallidum": 0.88, "thalamus": 1.1,
        "deep_grey": 1.11, "grey": 1.2, "plexus": 1.3, "csf": 0.24, "lesion": 1.55, "black_hole": 1.15,
    },
}  # fmt: skip
_NOISE = {"T1": 0.025, "T2": 0.05, "FLAIR": 0.045}


def make_ms_brain(rng: np.random.Generator, grid: Grid) -> PhantomCase:
    """Make one case.

    Args:
        rng: source of randomness; anatomy and lesions do not depend on the grid.
        grid: the voxels.

    Returns:
        Images ``T1``, ``T2``, ``FLAIR`` (background exactly 0) and a label with 1 = lesion.
    """
    anatomy, pathology, scanner = rng.spawn(3)
    pose, brain = RandomPose(anatomy), Brain(anatomy)
    width = float(np.cbrt(np.prod(grid.spacing)))
    lesions = draw_lesions(pathology, brain)

    points = pose(grid.points())
    inside = np.flatnonzero(brain.outline(points) > 0)
    found = brain.sample(points[:, inside], width)
    label = np.zeros(grid.shape, np.uint8)
    label.flat[inside] = paint_lesions(found.shares, points[:, inside], lesions, width, pathology)

    kept = trimmed(found)  # takes no lesion: a voxel of the label is at most half fluid
    mask = np.zeros(grid.shape, bool)
    mask.flat[inside[kept]] = True
    shares: Shares = {tissue: share[kept] for tissue, share in found.shares.items()}
    images = {name: scan(shares, mask, grid, signal, scanner, noise=_NOISE[name]) for name, signal in SIGNAL.items()}
    return PhantomCase(images, label, grid.affine)


MS_BRAIN = Generator(make_ms_brain, extent=EXTENT, centre=CENTRE, spacing=(1.5, 1.5, 1.5))
