# SPDX-License-Identifier: Apache-2.0
"""From tissues to images."""

from __future__ import annotations

import numpy as np
import pytest

from custom_nets.phantoms.appearance import paint, scan
from custom_nets.phantoms.geometry import Grid

GRID = Grid((16, 16, 16), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def test_painting_keeps_the_sum_and_covers_what_is_below() -> None:
    shares = {"fluid": np.ones(3, np.float32)}
    paint(shares, "grey", np.array([0, 0.5, 1], np.float32))
    paint(shares, "white", np.array([0, 0.5, 0.25], np.float32))
    assert np.allclose(sum(shares.values()), 1)
    assert np.allclose(shares["grey"], [0, 0.25, 0.75])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_scan_has_contrast_an_empty_background_and_the_noise_asked_for(noise: float) -> None:
    inside = np.zeros(GRID.shape, bool)
    inside[2:14, 2:14, 2:14] = True
    dark = np.broadcast_to(np.arange(16)[:, None, None] < 8, GRID.shape)[inside]
    shares = {"dark": dark.astype(np.float32), "bright": (~dark).astype(np.float32)}
    image = scan(shares, inside, GRID, {"dark": 0.3, "bright": 1.0}, np.random.default_rng(3), noise=noise)
    assert image.dtype == np.int16
    assert not image[~inside].any()
    assert image[inside].min() >= 1
    assert image[3:6, 3:13, 3:13].mean() < 0.45 * image[10:13, 3:13, 3:13].mean()
    bright = image[10:14, 2:14, 2:14].astype(float)
    step = np.diff(bright, axis=2).std() / np.sqrt(2) / bright.mean()  # next-door voxels differ by noise, hardly else
    assert step == pytest.approx(noise, abs=0.015)


def test_the_brightest_voxels_are_put_where_asked() -> None:
    inside = np.ones(GRID.shape, bool)
    shares = {"bright": np.ones(inside.sum(), np.float32)}
    made = [
        scan(shares, inside, GRID, {"bright": 1.0}, np.random.default_rng(3), noise=0.05, brightest=bounds)
        for bounds in (None, (99.0, 101.0))
    ]
    assert np.percentile(made[0], 99.9) > 200
    assert np.percentile(made[1], 99.9) == pytest.approx(100, abs=2)
    assert np.corrcoef(made[0].ravel(), made[1].ravel())[0, 1] > 0.99  # nothing but the scale differs
