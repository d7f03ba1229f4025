# SPDX-License-Identifier: Apache-2.0
"""What a synthetic scan with multiple sclerosis must look like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from scipy import ndimage

from custom_nets.errors import InputError
from custom_nets.phantoms import GENERATORS, PhantomCase, make_case
from custom_nets.phantoms.brain import Brain, BrainSample, trimmed
from custom_nets.phantoms.geometry import Array, Grid, RandomPose
from custom_nets.phantoms.ms_brain import SIGNAL
from custom_nets.phantoms.ms_lesions import LOAD_ML, draw_lesions, paint_lesions
from custom_nets.registry import available

SEEDS = (0, 1, 2)


@cache
def case(seed: int, spacing: float = 3.0) -> PhantomCase:
    return make_case("rsanet", seed, spacing)


@cache
def healthy() -> tuple[Grid, Brain, Array]:
    brain, grid = Brain(np.random.default_rng(5)), GENERATORS["rsanet"].grid(3.0)
    return grid, brain, grid.points()


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_every_modality_and_label_of_the_metadata_is_made(name: str) -> None:
    made = make_case(name, 0, 6.0)
    assert set(made.images) == set(available()[name].modalities)
    assert set(np.unique(made.label)) <= set(available()[name].labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_volumes_are_int16_with_one_empty_background_and_a_margin(seed: int) -> None:
    made = case(seed)
    masks = [image > 0 for image in made.images.values()]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert all(image.dtype == np.int16 and image.shape == made.label.shape for image in made.images.values())
    assert not any(np.moveaxis(masks[0], axis, 0)[[0, -1]].any() for axis in range(3))
    assert 900 < masks[0].sum() * 27 / 1000 < 1700  # ml
    assert aff2axcodes(made.affine) == ("R", "A", "S")
    assert made.label.dtype == np.uint8


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_are_bright_on_t2_and_flair_and_not_on_t1(seed: int) -> None:
    made = case(seed)
    lesion = made.label == 1
    ring = ndimage.binary_dilation(lesion, iterations=2) & ~ndimage.binary_dilation(lesion) & (made.images["T1"] > 0)
    ratio = {name: np.median(image[lesion]) / np.median(image[ring]) for name, image in made.images.items()}
    assert ratio["FLAIR"] > 1.12
    assert ratio["T2"] > 1.12
    assert ratio["T1"] < 1.0
    assert lesion.sum() * 27 >= 500  # mm3
    assert not lesion[made.images["T1"] == 0].any()


@pytest.mark.parametrize(
    "modality, order", [("T1", "csf grey white"), ("T2", "white grey csf"), ("FLAIR", "csf white grey")]
)
def test_tissues_are_in_the_order_of_the_sequence(modality: str, order: str) -> None:
    values = [SIGNAL[modality][tissue] for tissue in order.split()]
    assert values == sorted(values)
    grid, brain, points = healthy()
    assert set(brain.sample(points[:, ::7], 3.0).shares) <= set(SIGNAL[modality])
    assert grid.shape == (50, 62, 50)


def test_shares_sum_to_one_and_left_resembles_right() -> None:
    grid, brain, points = healthy()
    found = brain.sample(points[:, brain.outline(points) > 0], 3.0)
    assert np.allclose(sum(found.shares.values()), 1, atol=1e-4)
    ml = {tissue: share.sum() * 27 / 1000 for tissue, share in found.shares.items()}
    assert 300 < ml["white"] < 700
    assert 300 < ml["grey"] < 800
    assert 0.02 < (ml["deep_grey"] + ml["thalamus"]) / ml["white"] < 0.15
    outline = (brain.outline(points) > 0).reshape(grid.shape)
    assert np.mean(outline == outline[::-1]) > 0.999


def test_brain_extraction_drops_outer_fluid_only() -> None:
    csf = np.array([0.9, 0.5, 0.9, 0.0], np.float32)  # lesions need at most half fluid, so 0.5 must stay
    depth = np.array([1.0, 1.0, 10.0, -1.0], np.float32)
    found = BrainSample({"csf": csf, "white": 1 - csf}, inside=depth, ventricle=depth, cortex=depth)
    assert trimmed(found).tolist() == [False, True, True, False]


def test_no_pose_pushes_the_brain_out_of_the_box() -> None:
    grid = GENERATORS["rsanet"].grid(5.0)
    index = np.stack(np.unravel_index(np.arange(np.prod(grid.shape)), grid.shape))
    on_face = ((index == 0) | (index == np.array(grid.shape)[:, None] - 1)).any(axis=0)
    faces = grid.points()[:, on_face]
    for seed in range(100):
        rng = np.random.default_rng(seed)
        assert Brain(rng).outline(RandomPose(rng)(faces)).max() < 0


def test_lesion_load_and_sites() -> None:
    brain = healthy()[1]
    loads, near_wall = [], []
    for seed in range(25):
        pieces = draw_lesions(np.random.default_rng(seed), brain)
        loads.append(sum(4 / 3 * np.pi * piece.semi_axes.prod() for piece in pieces) / 1000)
        near_wall.append(np.mean(brain.ventricle(np.stack([piece.centre for piece in pieces], axis=1)) < 6))
    assert max(loads) <= LOAD_ML[2] * 1.01
    assert 6 < np.median(loads) < 24
    assert 0.3 < np.mean(near_wall) < 0.85


def test_lesions_spare_fluid_and_most_grey_matter() -> None:
    _, brain, points = healthy()
    points = points[:, brain.outline(points) > 0]
    found = brain.sample(points, 3.0)
    before = {tissue: share.copy() for tissue, share in found.shares.items()}
    rng = np.random.default_rng(8)
    label = paint_lesions(found.shares, points, draw_lesions(rng, brain), 3.0, rng)
    assert label.sum() > 100
    assert before["csf"][label].mean() < 0.1
    assert (before["white"] + before["rim"])[label].mean() > 0.6
    assert np.allclose(sum(found.shares.values()), 1, atol=1e-4)


def test_the_patient_does_not_depend_on_the_voxel_size() -> None:
    coarse, fine = case(1, 4.0), case(1, 2.0)
    volumes = [(made.label > 0).sum() * abs(np.linalg.det(made.affine)) for made in (coarse, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.3)
    centres = [made.affine @ [*ndimage.center_of_mass(made.label), 1] for made in (coarse, fine)]
    assert np.linalg.norm(centres[0] - centres[1]) < 5  # mm


def test_same_seed_same_voxels_other_seed_other_voxels() -> None:
    again, other = make_case("rsanet", 1, 4.0), case(2, 4.0)
    assert all(np.array_equal(image, case(1, 4.0).images[name]) for name, image in again.images.items())
    assert np.array_equal(again.label, case(1, 4.0).label)
    assert not np.array_equal(again.label, other.label)


@pytest.mark.parametrize("seed", range(6))
def test_the_coarsest_grid_still_shows_a_lesion(seed: int) -> None:
    assert make_case("rsanet", seed, 6.0).label.any()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"spacing": 0.5}, "spacing is 0.5"),
        ({"spacing": "fine"}, "spacing is 'fine'"),
        ({"spacing": 4, "shape": (30, 50, 40)}, "at least 38,47,38"),
        ({"shape": 96}, "three whole numbers"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_case("rsanet", **options)  # type: ignore[arg-type]
