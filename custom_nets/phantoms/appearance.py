# SPDX-License-Identifier: Apache-2.0
"""From shares of tissues to what a scanner shows: contrast, blur, shading, Rician noise, arbitrary integer scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.phantoms.geometry import Array, Grid, RandomWaves

Shares = dict[str, Array]


def paint(shares: Shares, tissue: str, opacity: Array) -> None:
    """Lay ``tissue`` over what is there, in place; the shares of a point keep their sum.

    Args:
        shares: tissue name to its share (0 to 1) at N points, each of shape (N,).
        tissue: what to lay on top.
        opacity: 0 (nothing) to 1 (covers all) at each point, shape (N,).
    """
    touched = np.flatnonzero(opacity)
    alpha = opacity[touched]
    for share in shares.values():
        share[touched] *= 1 - alpha
    shares.setdefault(tissue, np.zeros_like(opacity))[touched] += alpha


def scan(
    shares: Shares,
    inside: NDArray[np.bool_],
    grid: Grid,
    means: Mapping[str, float],
    rng: np.random.Generator,
    *,
    noise: float,
    brightest: tuple[float, float] | None = None,
) -> NDArray[np.int16]:
    """Return the image of one sequence: contrast, blur, shading, noise and scale.

    Args:
        shares: tissue name to its share at the points inside, each of shape (N,).
        inside: which voxels those N points are, of the grid's shape. Outside the image is exactly 0.
        grid: the voxels.
        means: signal of every tissue, relative to the one that counts as 1.
        rng: source of randomness.
        noise: standard deviation of the noise in each of the two receiver channels, relative to signal 1.
        brightest: bounds of the 99.9th percentile of the voxels inside; left out, signal 1 is shown as 200 to 900.

    Returns:
        The image, of the grid's shape; every voxel inside is at least 1.
    """
    signal = np.zeros(grid.shape, np.float32)
    signal[inside] = sum(share * np.float32(means[tissue] * rng.normal(1, 0.025)) for tissue, share in shares.items())
    signal = _blurred(signal, inside, grid, fwhm=rng.uniform(1.0, 1.6))[inside]
    points = grid.points()[:, inside.ravel()]
    signal *= 1 + 0.02 * RandomWaves(rng, (6, 25), count=10)(points)  # tissue is never quite uniform
    signal *= np.exp(rng.uniform(0.03, 0.09) * RandomWaves(rng, (180, 400), count=5)(points))
    noisy = rician(signal, noise, rng)
    scale = np.exp(rng.uniform(*np.log(brightest or (200, 900))))
    if brightest is not None:
        scale /= np.percentile(noisy, 99.9)
    image = np.zeros(grid.shape, np.int16)
    image[inside] = np.clip(np.rint(noisy * scale), 1, 32767)
    return image


def rician(signal: Array, noise: float, rng: np.random.Generator) -> Array:
    """Return the magnitude (N,) of ``signal`` (N,) received in two channels with noise of that standard deviation."""
    real = signal + noise * rng.standard_normal(len(signal), np.float32)
    return np.hypot(real, noise * rng.standard_normal(len(signal), np.float32))


def _blurred(signal: Array, inside: NDArray[np.bool_], grid: Grid, fwhm: float) -> Array:
    """Blur by a Gaussian of ``fwhm`` mm; the empty outside does not darken the rim."""
    sigma = [fwhm / 2.355 / size for size in grid.spacing]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=3)
    return ndimage.gaussian_filter(signal, sigma, truncate=3) / np.maximum(weight, 1e-3)
