# SPDX-License-Identifier: Apache-2.0
"""A quick two-dimensional multi-slice scan of the synthetic pelvis: thick slices, each with faults of its own.

What is simulated, in this order:

* contrast like a T2-weighted turbo spin echo: fat and fluid bright, muscles dark and alike, cortex and blood black;
* partial volume through the thickness of a slice (mean over sub-slices) and a point spread within it;
* texture of the tissues and the shading of the receiving coil, both smooth in space;
* per slice, drawn independently of its neighbours: overall gain; smooth shading; ghosts of motion along the phase axis
  (y) in some slices; a band of pulsation beside the femoral vessels in some; patches of lost signal in some;
* Rician noise of magnitude images, in the air too, and an arbitrary integer scale.

Muscles differ so little that one is told from the next by where it lies and by its edges. Where a patch has swallowed
the signal, or noise and ghosts have drowned the edges, the neighbouring slices still show the structure: a real reason
for a network to look at them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.phantoms.appearance import rician
from custom_nets.phantoms.geometry import Array, Grid, RandomWaves

SIGNAL: Mapping[str, float] = {
    "air": 0.0, "skin": 0.45, "fat": 1.0, "muscle": 0.30, "cortex": 0.06, "marrow": 0.72, "bowel wall": 0.38,
    "bowel content": 0.80, "blood": 0.08, "nerve": 0.5, "cartilage": 0.42, "uterine muscle": 0.58,
    "junctional zone": 0.36, "endometrium": 1.05, "cervix": 0.48, "vagina": 0.62, "urethra": 0.66,
    "bladder wall": 0.34, "urine": 1.35, "ovary": 0.70, "follicle": 1.2,
}  # fmt: skip
"""Signal of every tissue relative to fat."""
_NOISE = 0.06
_POINT_SPREAD_MM = 4.0
_BRIGHTEST = (600.0, 1800.0)


def acquire(signal: Array, grid: Grid, rng: np.random.Generator) -> NDArray[np.int16]:
    """Scan a pelvis.

    Args:
        signal: undisturbed signal relative to fat, averaged through each slice's thickness, of the grid's shape.
        grid: the voxels; the slices lie along its last axis.
        rng: source of randomness.

    Returns:
        The magnitude image, of the grid's shape.
    """
    sigma = [_POINT_SPREAD_MM / 2.355 / size for size in grid.spacing[:2]]
    image = ndimage.gaussian_filter(signal, [*sigma, 0], truncate=3)
    points = grid.points()
    image *= _volume_shading(points, rng).reshape(grid.shape)
    image *= _slice_shading(grid, points, rng)
    for number in range(grid.shape[2]):
        _spoil(image[:, :, number], grid, rng)
    noisy = rician(image.ravel(), _NOISE * float(rng.uniform(0.8, 1.4)), rng).reshape(grid.shape)
    scale = rng.uniform(*_BRIGHTEST) / np.percentile(noisy, 99.9)
    return np.clip(np.rint(noisy * scale), 0, 32767).astype(np.int16)


def _volume_shading(points: Array, rng: np.random.Generator) -> Array:
    """Tissue texture, and the coil that hears the surface better than the depth: factor (N,)."""
    texture = 1 + 0.05 * RandomWaves(rng, (14, 40), count=10)(points)
    depth = np.hypot(points[0] / 180, (points[1] + 9) / 120)
    coil = np.exp(rng.uniform(0.05, 0.25) * (depth - 0.6))
    return texture * coil * np.exp(0.08 * RandomWaves(rng, (250, 500), count=5)(points))


def _slice_shading(grid: Grid, points: Array, rng: np.random.Generator) -> Array:
    """Gain and smooth shading of every slice, unlike its neighbours': factors of the grid's shape."""
    apart = points.copy()
    apart[2] *= np.float32(1e4 / grid.spacing[2])  # so far apart that the waves of two slices have nothing in common
    shading = np.exp(0.12 * RandomWaves(rng, (180, 400), count=6)(apart)).reshape(grid.shape)
    return shading * np.exp(rng.normal(0, 0.10, grid.shape[2])).astype(np.float32)


def _spoil(image: Array, grid: Grid, rng: np.random.Generator) -> None:
    """Put artefacts into one slice (X, Y), in place; most slices have one or none."""
    ghosted, pulsing, patches = rng.uniform() < 0.25, rng.uniform() < 0.2, rng.choice(3, p=(0.45, 0.35, 0.2))
    if ghosted:
        image += rng.uniform(0.08, 0.25) * np.roll(image, round(image.shape[1] * rng.uniform(0.25, 0.75)), axis=1)
    x, y = (grid.centre[axis] + grid.spacing[axis] * _steps(grid.shape[axis]) for axis in (0, 1))
    if pulsing:
        for side in (-70, 70):
            band = np.exp(-(((x - side - rng.uniform(-6, 6)) / 7) ** 2))
            image += rng.uniform(0.1, 0.3) * np.outer(band, np.abs(rng.standard_normal(len(y)))).astype(np.float32)
    for _ in range(patches):
        centre, radii = rng.uniform((-120, -80), (120, 60)), rng.uniform(22, 60, 2)
        reach = ((x[:, None] - centre[0]) / radii[0]) ** 2 + ((y[None] - centre[1]) / radii[1]) ** 2
        image *= (1 - rng.uniform(0.6, 0.95) * np.exp(-(reach**2))).astype(np.float32)


def _steps(count: int) -> Array:
    """Positions of ``count`` voxels relative to the middle, in voxels."""
    return np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)
