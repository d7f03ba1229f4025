# SPDX-License-Identifier: Apache-2.0
"""Rotations and displacements against SciPy, and the same deformation at two resolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, map_coordinates

from custom_nets.spine.deformation import (
    displaced_volume,
    elastic_displacement,
    rotated_volume,
    sampled_slice,
    slice_grid,
)


def turned(size: tuple[int, int], angle: float) -> dict[str, Any]:
    """SciPy's description of a rotation about the pixel floor(size / 2)."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix, half = np.array([[cos, sin], [-sin, cos]]), np.array([n // 2 for n in size])
    return {"matrix": matrix, "offset": half - matrix @ half, "mode": "reflect"}


@pytest.mark.parametrize(("size", "published"), [((18, 128, 256), 0.41), ((256, 512), 1.4)])
def test_displacements_have_the_published_size(size: tuple[int, ...], published: float) -> None:
    field = elastic_displacement(size, np.random.RandomState(0))
    assert field.shape == (len(size), *size) and field.dtype == np.float32
    assert field.std() == pytest.approx(published, rel=0.02), "mirrored noise would give 0.51 in volumes"
    assert abs(np.corrcoef(field[0].ravel(), field[1].ravel())[0, 1]) < 0.1


def test_a_volume_turns_about_its_centre_slice_by_slice() -> None:
    volume = np.zeros((1, 3, 21, 31), np.float32)
    volume[0, 1, 10, 15] = volume[0, 2, 10, 25] = 1
    found = rotated_volume(volume, 10, 1)
    assert found[0, 1, 10, 15] == pytest.approx(1) and found[0, 0].max() == 0
    row, column = np.unravel_index(found[0, 2].argmax(), (21, 31))
    assert math.hypot(row - 10, column - 15) == pytest.approx(10, abs=0.5)
    assert abs(row - 10) == pytest.approx(10 * math.sin(math.radians(10)), abs=0.5)
    assert rotated_volume(volume, 0, 0) is volume


@pytest.mark.parametrize("order", [0, 3])
def test_a_volume_without_displacement_stays(order: int) -> None:
    volume = np.random.RandomState(0).randint(0, 20, (1, 4, 9, 10)).astype(np.uint8 if order == 0 else np.float32)
    found = displaced_volume(volume, np.zeros((3, 4, 9, 10)), order)
    np.testing.assert_allclose(found, volume, atol=1e-3)
    assert found.dtype == volume.dtype
    shifted = displaced_volume(volume, np.ones((3, 4, 9, 10)), order)
    np.testing.assert_allclose(shifted[:, :-1, :-1, :-1], volume[:, 1:, 1:, 1:], atol=1e-3)


@pytest.mark.parametrize(("mode", "order"), [("nearest", 0), ("bilinear", 1)])
def test_a_slice_is_turned_and_then_displaced(mode: str, order: int) -> None:
    """One sampling by the composed places is SciPy's value at them."""
    size, random = (40, 56), np.random.RandomState(1)
    image, field = random.standard_normal(size), elastic_displacement(size, random)
    places = np.indices(size) + field
    turn = turned(size, 9)
    rows_columns = [
        map_coordinates(index, places, order=1, mode="reflect")
        for index in np.moveaxis(np.moveaxis(np.indices(size), 0, -1) @ turn["matrix"].T + turn["offset"], -1, 0)
    ]
    expected = map_coordinates(image, rows_columns, order=order, mode="reflect")
    found = sampled_slice(torch.from_numpy(image)[None].float(), slice_grid(size, size, 9, field), mode)[0].numpy()
    inner = np.s_[6:-6, 6:-6]  # near the border the places themselves are mirrored
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-4)


@pytest.mark.parametrize("angle", [-15, 0, 7, 14])
def test_rotation_alone_is_scipys_to_the_border(angle: int) -> None:
    size = (32, 48)
    image = np.random.RandomState(2).standard_normal(size)
    found = sampled_slice(torch.from_numpy(image)[None].float(), slice_grid(size, size, angle), "bilinear")[0]
    expected = affine_transform(image, order=1, **turned(size, angle))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cubic_sampling_follows_a_smooth_slice() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    image = (torch.sin(rows / 6) + torch.cos(columns / 9))[None]
    grid = slice_grid((64, 96), (64, 96), 5)
    bicubic, bilinear = sampled_slice(image, grid, "bicubic"), sampled_slice(image, grid, "bilinear")
    back = sampled_slice(bicubic, slice_grid((64, 96), (64, 96), -5), "bicubic")
    inner = (slice(None), slice(16, -16), slice(16, -16))
    assert (back - image)[inner].abs().max() < 5e-3 < 2 * (bicubic - bilinear)[inner].abs().max()


@pytest.mark.parametrize("angle", [0, 12])
def test_maps_of_half_the_resolution_are_deformed_by_the_same_way_in_space(angle: int) -> None:
    size, small = (128, 256), (64, 128)
    field = elastic_displacement(size, np.random.RandomState(3), sigma=8, alpha=60)
    grid, coarse = slice_grid(size, size, angle, field), slice_grid(small, size, angle, field)
    averaged = torch.nn.functional.avg_pool2d(grid.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    inner = (slice(10, -10), slice(10, -10))
    assert field.std() > 1
    torch.testing.assert_close(coarse[inner], averaged[inner], atol=2e-4, rtol=0)


def test_one_sampling_is_the_two_published_ones_up_to_the_border() -> None:
    size = (48, 64)
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    image = (torch.sin(rows / 9) + columns / 20)[None]
    field = np.full((2, *size), -6.0)
    turned_first = sampled_slice(image, slice_grid(size, size, 14), "bicubic")
    two = sampled_slice(turned_first, slice_grid(size, size, 0, field), "bicubic")
    one = sampled_slice(image, slice_grid(size, size, 14, field), "bicubic")
    torch.testing.assert_close(one, two, atol=0.05, rtol=0)
