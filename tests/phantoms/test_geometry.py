# SPDX-License-Identifier: Apache-2.0
"""Shapes against what geometry says."""

from __future__ import annotations

import numpy as np
import pytest

from custom_nets.phantoms.geometry import (
    Grid,
    RandomPose,
    RandomWaves,
    column,
    coverage,
    ellipsoid,
    rotation,
    smooth_union,
    tube,
)

GRID = Grid((40, 44, 48), (1.0, 1.0, 1.0), (2.0, -3.0, 5.0))


def test_points_follow_the_affine_in_array_order() -> None:
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (7.0, 0.0, -1.0))
    index = np.stack(np.unravel_index(np.arange(60), grid.shape))
    assert np.allclose(grid.points(), grid.affine[:3, :3] @ index + grid.affine[:3, 3:], atol=1e-5)
    assert np.allclose(grid.points().mean(axis=1), grid.centre, atol=1e-5)


@pytest.mark.parametrize("turned", [(0, 0, 0), (30, -20, 50)])
def test_volume_of_an_ellipsoid(turned: tuple[int, int, int]) -> None:
    covered = coverage(ellipsoid(GRID.points(), GRID.centre, (8, 12, 15), turned), 1.0).sum()
    assert covered == pytest.approx(4 / 3 * np.pi * 8 * 12 * 15, rel=0.01)


def test_distance_to_a_sphere_is_exact_and_its_centre_is_inside() -> None:
    points = np.array([[0, 3, 12, 0], [0, 0, 0, -9], [0, 0, 0, 0]], np.float32)
    assert np.allclose(ellipsoid(points, (0, 0, 0), (10, 10, 10))[1:], [7, -2, 1], atol=1e-4)
    assert ellipsoid(points, (0, 0, 0), (10, 10, 10))[0] > 0


def test_a_turned_ellipsoid_points_where_the_rotation_says() -> None:
    tip = rotation((0, 0, 90)) @ np.array([9.5, 0, 0])
    assert np.allclose(tip, (0, 9.5, 0), atol=1e-6)
    assert ellipsoid(column(tip), (0, 0, 0), (10, 2, 2), (0, 0, 90))[0] > 0
    assert ellipsoid(column(tip), (0, 0, 0), (10, 2, 2))[0] < 0


def test_tube_is_a_rounded_cone() -> None:
    points = np.array([[-3, 0, 5, 10, 14], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    assert np.allclose(tube(points, [(0, 0, 0, 2), (10, 0, 0, 4)]), [-1, 1, 3, 4, 0], atol=1e-5)


def test_smooth_union_equals_the_union_away_from_the_seam() -> None:
    first, second = np.array([5, 1, -4], np.float32), np.array([-5, 1, 4], np.float32)
    assert np.allclose(smooth_union(first, second, 4), [5, 2, 4])


def test_waves_have_unit_variance_and_their_own_gradient() -> None:
    rng = np.random.default_rng(0)
    waves = RandomWaves(rng, (10, 20), count=40)
    points = np.float32(rng.uniform(-500, 500, (3, 20000)))
    value = waves.with_gradient(points)[0]
    assert np.array_equal(value, waves(points))
    assert value.std() == pytest.approx(1, abs=0.05)
    points, step = points[:, :50] / 10, 0.01
    for axis in range(3):
        shift = column(step * np.eye(3)[axis])
        numeric = (waves(points + shift) - waves(points - shift)) / (2 * step)
        assert np.allclose(numeric, waves.with_gradient(points)[1][axis], atol=5e-3)


def test_a_pose_moves_the_body_a_little_and_reproducibly() -> None:
    points = GRID.points()[:, ::97]
    moved = [RandomPose(np.random.default_rng(seed))(points) for seed in (1, 1, 2)]
    assert np.array_equal(moved[0], moved[1])
    assert not np.allclose(moved[0], moved[2], atol=0.1)
    assert 0 < np.abs(moved[0] - points).max() < 12
