# SPDX-License-Identifier: Apache-2.0
"""MR volumes of a female pelvis in thick axial slices, with 54 organs, muscles and bones.

The patients differ in size, tilt, place in the scanner, fat, filling of the bladder, and in size, place and brightness
of every structure, left and right apart. `pelvis_scanner` tells what of a real scan is simulated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.geometry import Grid
from custom_nets.phantoms.pelvis_anatomy import CENTRE, EXTENT, TISSUES, Pelvis
from custom_nets.phantoms.pelvis_scanner import SIGNAL, acquire
from custom_nets.registry import bundle

MODALITY = "MR"
_SUB_SLICES = 3
"""Odd, so that one lies in the middle of the slice."""


def make_pelvis(rng: np.random.Generator, grid: Grid) -> PhantomCase:
    """Make one case.

    Args:
        rng: source of randomness; the anatomy does not depend on the grid.
        grid: the voxels, slices along the last axis.

    Returns:
        The image ``MR`` and the label map of the bundle ``s2anet``: what lies at the middle of each voxel, while the
        image shows the mean through the thickness of the slice.
    """
    anatomy, scanner = rng.spawn(2)
    pelvis = Pelvis(anatomy)
    fine = Grid(
        (*grid.shape[:2], grid.shape[2] * _SUB_SLICES), (*grid.spacing[:2], grid.spacing[2] / _SUB_SLICES), grid.centre
    )
    found = pelvis.sample(fine.points())
    by_tissue = np.array([SIGNAL[tissue] for tissue in TISSUES], np.float32)
    signal = by_tissue[found.tissue] * pelvis.tones()[found.part]
    signal = signal.reshape(*grid.shape, _SUB_SLICES).mean(axis=-1)
    label = _values(pelvis)[found.part].reshape(*grid.shape, _SUB_SLICES)[..., _SUB_SLICES // 2]
    return PhantomCase({MODALITY: acquire(signal, grid, scanner)}, np.ascontiguousarray(label), grid.affine)


def _values(pelvis: Pelvis) -> NDArray[np.uint8]:
    """Label of every part, and 0 for what is no part (the index -1): (parts + 1,)."""
    value_of = {name: value for value, name in bundle("s2anet").labels.items()}
    return np.array([*(value_of[part.name] if part.labelled else 0 for part in pelvis.parts), 0], np.uint8)


# 96 x 64 voxels and 24 slices: a network for a CPU sees whole slices, and the least structure is still some voxels
PELVIS = Generator(make_pelvis, extent=EXTENT, centre=CENTRE, spacing=(4.0, 4.0, 8.0))
