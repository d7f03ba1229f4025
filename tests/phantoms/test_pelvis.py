# SPDX-License-Identifier: Apache-2.0
"""What a synthetic pelvis must look like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from custom_nets.datasets.sides import left_right_pairs
from custom_nets.phantoms import GENERATORS, PhantomCase, make_case
from custom_nets.phantoms.geometry import Grid
from custom_nets.phantoms.pelvis_anatomy import TISSUES, Pelvis
from custom_nets.phantoms.pelvis_scanner import SIGNAL, acquire
from custom_nets.phantoms.pelvis_shapes import Chain, Ellipsoid, Structure
from custom_nets.phantoms.pelvis_structures import PAIRED, PAIRED_UNLABELLED, SINGLE, SINGLE_UNLABELLED
from custom_nets.registry import bundle

SEEDS = range(5)
LABELS = bundle("s2anet").labels
VALUE = {name: value for value, name in LABELS.items()}
PAIRS = left_right_pairs(LABELS)
STRUCTURES = {
    name: part for table in (PAIRED, SINGLE, PAIRED_UNLABELLED, SINGLE_UNLABELLED) for name, part in table.items()
}


@cache
def case(seed: int) -> PhantomCase:
    return make_case("s2anet", seed)


@cache
def counts() -> NDArray[np.int64]:
    """Voxels of every label in every case: (cases, 55)."""
    return np.stack([np.bincount(case(seed).label.ravel(), minlength=len(LABELS)) for seed in SEEDS])


def test_slices_are_thick_and_axial_in_the_patients_frame() -> None:
    made = case(0)
    assert made.label.shape == made.images["MR"].shape == (96, 64, 24)
    assert np.allclose(np.diag(made.affine), [4, 4, 8, 1])
    assert aff2axcodes(made.affine) == ("R", "A", "S")
    middle = made.affine[:3] @ [*(np.array(made.label.shape) - 1) / 2, 1]
    assert np.abs(middle).max() < 20  # mm from between the hip joints
    assert (made.label.dtype, made.images["MR"].dtype) == (np.uint8, np.int16)


@pytest.mark.parametrize("spacing", [3.5, 6.0])
def test_another_voxel_size_keeps_the_proportions_and_the_patient(spacing: float) -> None:
    grid = GENERATORS["s2anet"].grid(spacing)
    assert grid.spacing == (spacing, spacing, 2 * spacing)
    volumes = np.bincount(make_case("s2anet", 1, spacing).label.ravel(), minlength=55) * np.prod(grid.spacing)
    assert np.allclose(volumes[[17, 18, 49]], counts()[1][[17, 18, 49]] * 128, rtol=0.15)


def test_brains_stay_cubic_at_every_voxel_size() -> None:
    for size in (1.1, 1.7, 4.0):
        assert {GENERATORS[name].grid(size).spacing for name in ("rsanet", "zoom_resunet")} == {(size,) * 3}


def test_each_of_the_54_structures_is_in_every_case() -> None:
    assert {*PAIRED, *SINGLE} == {name.rsplit(", ", 1)[0] for name in LABELS.values()} - {"background"}
    assert (counts() > 0).all()
    assert np.median(counts(), axis=0).min() >= 20


def test_left_and_right_are_the_patients_and_alike_but_not_the_same() -> None:
    for seed in SEEDS:
        made = case(seed)
        x = made.affine[0, 0] * np.arange(made.label.shape[0]) + made.affine[0, 3]
        rows = np.stack([np.bincount(plane.ravel(), minlength=55) for plane in made.label])
        middle = x @ rows / rows.sum(axis=0)
        midline = middle[VALUE["Sacrum"]]
        for left, right in PAIRS:
            assert middle[left] < midline < middle[right], LABELS[left]
    left, right = np.array(PAIRS).T
    ratio = np.median(counts()[:, left] / counts()[:, right], axis=0)
    assert ((ratio > 0.55) & (ratio < 1.8)).all()
    assert (counts()[:, left] != counts()[:, right]).mean() > 0.8


def test_sizes_are_in_the_order_of_a_real_pelvis() -> None:
    order = (
        "Gluteus maximus, left", "Hip bone, left", "Gluteus medius, left", "Iliacus, left", "Gluteus minimus, left",
        "Psoas major, left", "Pectineus, left", "Adductor longus, left",
    )  # fmt: skip
    mean = counts().mean(axis=0)
    sizes = [mean[VALUE[name]] for name in order]
    assert sizes == sorted(sizes, reverse=True)
    assert set(np.argsort(mean[1:])[-2:] + 1) == {VALUE["Gluteus maximus, left"], VALUE["Gluteus maximus, right"]}
    small = {"Urethra"} | {
        f"{name}, {side}" for name in ("Adductor longus", "Vastus intermedius") for side in ("left", "right")
    }
    assert set(np.argsort(mean[1:])[:5] + 1) == {VALUE[name] for name in small}
    assert 3000 < counts()[:, 1:].sum(axis=1).mean() * 0.128 < 6500  # ml


def test_levels_follow_the_anatomy() -> None:
    made = case(2)
    height = {
        name: np.mean(np.nonzero(made.label == VALUE[name])[2])
        for name in ("Adductor magnus, left", "Urethra", "Cervix", "Body of uterus", "Erector spinae, right")
    }
    assert list(height.values()) == sorted(height.values())


def test_patients_differ_most_in_the_filling_of_the_bladder() -> None:
    drawn = np.stack([np.bincount(make_case("s2anet", seed, 6.0).label.ravel(), minlength=55) for seed in range(12)])
    spread = drawn.std(axis=0) / drawn.mean(axis=0)
    assert spread[VALUE["Urinary bladder"]] > 2 * spread[VALUE["Hip bone, left"]] > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbouring_slices_share_much_and_not_all(seed: int) -> None:
    label = case(seed).label
    upper, lower = label[..., 1:], label[..., :-1]
    either = (upper > 0) | (lower > 0)
    same = ((upper == lower) & either).sum() / either.sum()
    apart = ((label[..., 4:] == label[..., :-4]) & (label[..., 4:] > 0)).sum() / (label[..., 4:] > 0).sum()
    assert 0.5 < same < 0.85
    assert apart < same - 0.2
    at_the_end = ((label[..., 1:-1] > 0) & ((label[..., 2:] == 0) | (label[..., :-2] == 0))).sum() / (label > 0).sum()
    assert at_the_end > 0.1  # partial volume: one neighbour is outside


def test_tissues_have_their_contrast_and_muscles_look_alike() -> None:
    assert set(SIGNAL) == set(TISSUES)
    medians: dict[str, list[float]] = {}
    for seed in SEEDS:
        image, label = case(seed).images["MR"], case(seed).label
        for name in (
            "Urinary bladder",
            "Gluteus maximus, left",
            "Iliacus, left",
            "Gluteus medius, left",
            "Femur, left",
        ):
            medians.setdefault(name, []).append(float(np.median(image[label == VALUE[name]])))
        assert np.median(image[:3]) < 0.35 * np.median(image[label == VALUE["Gluteus maximus, left"]])  # the air
    bladder, maximus, iliacus, medius, femur = (np.array(values) for values in medians.values())
    assert (bladder > 2.5 * maximus).all()
    assert (femur > 1.2 * maximus).all()
    assert np.mean(np.abs(np.log(iliacus / medius))) < 0.35


def test_faults_of_a_slice_are_its_own() -> None:
    grid = Grid((48, 32, 40), (8.0, 8.0, 8.0), (0.0, -9.0, 12.0))
    image = acquire(np.ones(grid.shape, np.float32), grid, np.random.default_rng(5)).astype(float)
    level = np.log(np.median(image, axis=(0, 1)))
    assert 0.05 < level.std() < 0.4
    assert abs(np.corrcoef(level[1:], level[:-1])[0, 1]) < 0.4
    lost = (image < 0.4 * np.median(image, axis=(0, 1))).any(axis=(0, 1))
    assert 0.2 < lost.mean() < 0.8
    flat = image.reshape(-1, grid.shape[2])
    neighbours = np.mean([np.corrcoef(flat[:, k], flat[:, k + 1])[0, 1] for k in range(grid.shape[2] - 1)])
    assert neighbours < 0.7


def test_the_body_lies_within_the_width_and_depth_of_the_box() -> None:
    grid = GENERATORS["s2anet"].grid(6.0)
    index = np.stack(np.unravel_index(np.arange(np.prod(grid.shape)), grid.shape))[:2]
    on_side = ((index == 0) | (index == np.array(grid.shape[:2])[:, None] - 1)).any(axis=0)
    points = grid.points()[:, on_side]
    for seed in range(40):
        found = Pelvis(np.random.default_rng(seed)).sample(points)
        assert (found.tissue == TISSUES.index("air")).all()
        assert (found.part == -1).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_box_of_a_structure_holds_it(name: str) -> None:
    structure = STRUCTURES[name]
    assert {tissue for _, tissue in structure.tissues} <= set(TISSUES)
    low, high = structure.box()
    points = np.random.default_rng(0).uniform(low - 15, high + 15, (4000, 3)).T.astype(np.float32)
    inside = structure.distance(points) > 0
    assert inside.any()
    assert ((points[:, inside] >= low[:, None]) & (points[:, inside] <= high[:, None])).all()


def test_boxes_are_tight() -> None:
    ball, chain = Ellipsoid((1, 2, 3), (4, 5, 6)), Chain([(0, 0, 0, 2), (10, 0, 0, 4)], (1, 2, 1))
    assert ball.box().tolist() == [[-3, -3, -3], [5, 7, 9]]
    assert Ellipsoid((0, 0, 0), (4, 5, 6), (0, 0, 90)).box()[1] == pytest.approx([5, 4, 6])
    assert chain.box().tolist() == [[-2, -8, -4], [14, 8, 4]]
    assert Structure([ball, chain]).box().tolist() == [[-4, -9, -5], [15, 9, 10]]


def test_same_seed_same_voxels_other_seed_other_voxels() -> None:
    again, other = make_case("s2anet", 1), case(2)
    assert np.array_equal(again.images["MR"], case(1).images["MR"])
    assert np.array_equal(again.label, case(1).label)
    assert not np.array_equal(again.label, other.label)
