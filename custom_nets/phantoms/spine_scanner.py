# SPDX-License-Identifier: Apache-2.0
"""A sagittal turbo spin echo with a surface coil under the back, and files as different scanners store them."""

from __future__ import annotations

import numpy as np
from nibabel.orientations import apply_orientation as reoriented
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.phantoms.appearance import rician
from custom_nets.phantoms.case import PhantomCase
from custom_nets.phantoms.geometry import Array, Grid, RandomWaves, rotation

ORIENTATIONS = ("AIL", "PSR", "PIR", "ASL", "RAS", "LPS", "PSL", "IPL")
"""Directions in which a file's axes may run; slices are most often last."""
OBLIQUE_DEGREES = (3.0, 4.0, 7.0)
"""How far the scanner's box may be turned about x, y, z."""
_MEAN, _BRIGHTEST = 466.0, 2650.0
_POINT_SPREAD_MM = 1.3
_NOISE = 0.016


def acquire(signal: Array, below_skin: Array, grid: Grid, rng: np.random.Generator) -> NDArray[np.int16]:
    """Scan a back.

    Args:
        signal: undisturbed signal, averaged through each slice's thickness, of the grid's shape.
        below_skin: depth below the skin of the back in mm, of one sagittal section.
        grid: the voxels; the slices lie along its first axis.
        rng: source of randomness.

    Returns:
        The magnitude image, of the grid's shape, 0 to 2650; its mean over the central half from front to back is
        about 466, as MRSpineSeg has it.
    """
    sigma = [0, *(_POINT_SPREAD_MM / 2.355 / size for size in grid.spacing[1:])]
    image = ndimage.gaussian_filter(signal, sigma, truncate=3)
    points = grid.points()
    texture = 1 + 0.035 * RandomWaves(rng, (5, 18), count=8)(points)
    shading = np.exp(0.07 * RandomWaves(rng, (180, 400), count=5)(points))
    image *= (texture * shading).reshape(grid.shape)
    height = grid.affine[2, 3] + grid.spacing[2] * np.arange(grid.shape[2])
    ends = 1 - rng.uniform(0.15, 0.4) * np.clip(np.abs(height) / 150, 0, 1.3) ** 4
    depth = np.clip(below_skin, 0, None)
    coil = np.exp(-(depth - 60) / rng.uniform(85, 150)) * np.clip((215 - depth) / 80, 0.1, 1)
    image *= np.float32(coil * ends)
    noisy = rician(image.ravel(), _NOISE * float(rng.uniform(0.7, 1.6)), rng).reshape(grid.shape)
    quarter = grid.shape[1] // 4
    scale = _MEAN * np.exp(rng.normal(0, 0.12)) / noisy[:, quarter : grid.shape[1] - quarter].mean()
    return np.clip(np.rint(noisy * scale), 0, _BRIGHTEST).astype(np.int16)


def stored(case: PhantomCase, rng: np.random.Generator) -> PhantomCase:
    """Turn the box of a scan a little in the scanner and let its axes run in any direction; the voxels stay."""
    turn, shift = np.eye(4), np.eye(4)
    turn[:3, :3] = rotation(rng.uniform(-1, 1, 3) * OBLIQUE_DEGREES)
    shift[:3, 3] = rng.uniform(-25, 25, 3)
    codes = ORIENTATIONS[int(rng.integers(len(ORIENTATIONS)))]
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    images = {name: np.ascontiguousarray(reoriented(image, change)) for name, image in case.images.items()}
    label = np.ascontiguousarray(reoriented(case.label, change))
    return PhantomCase(images, label, shift @ turn @ case.affine @ inv_ornt_aff(change, case.label.shape))
