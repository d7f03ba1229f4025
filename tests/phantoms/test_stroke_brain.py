# SPDX-License-Identifier: Apache-2.0
"""What a synthetic T1 with chronic infarcts must look like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from custom_nets.phantoms import PhantomCase, make_case
from custom_nets.phantoms.brain import Brain, cerebellum
from custom_nets.phantoms.geometry import Array
from custom_nets.phantoms.infarcts import LOAD_ML, TERRITORIES, draw_infarcts, paint_infarcts
from custom_nets.phantoms.ms_brain import SIGNAL as HEALTHY
from custom_nets.phantoms.stroke_brain import BRIGHTEST, SIGNAL, STROKE_BRAIN

SEEDS = (0, 1, 2, 3)


@cache
def case(seed: int, spacing: float = 3.0) -> PhantomCase:
    return make_case("zoom_resunet", seed, spacing)


@cache
def healthy() -> tuple[Brain, Array]:
    """A brain and the points inside it, 3 mm apart."""
    brain, points = Brain(np.random.default_rng(5)), STROKE_BRAIN.grid(3.0).points()
    return brain, points[:, brain.outline(points) > 0]


def millilitres(made: PhantomCase) -> float:
    return float(made.label.sum() * abs(np.linalg.det(made.affine)) / 1000)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_infarct_is_a_dark_cavity_in_the_brain(seed: int) -> None:
    made = case(seed, 2.0)
    image, lesion = made.images["T1"], made.label == 1
    assert set(np.unique(made.label)) == {0, 1}
    assert not lesion[image == 0].any()
    white = np.percentile(image[image > 0], 85)
    fluid = np.percentile(image[image > 0], 2)
    assert np.median(image[lesion]) < 0.85 * white
    core = ndimage.binary_erosion(lesion, iterations=2)
    if core.sum() > 50:
        assert np.median(image[core]) < 0.55 * white  # yet no simple threshold: sulci are as dark
        assert np.median(image[core]) > fluid
        assert np.median(image[lesion & ~ndimage.binary_erosion(lesion)]) > 1.2 * np.median(image[core])


@pytest.mark.parametrize("seed", SEEDS)
def test_intensities_suit_a_division_by_255(seed: int) -> None:
    image = case(seed).images["T1"]
    assert image.dtype == np.int16
    assert image[0, 0, 0] == 0
    assert BRIGHTEST[0] - 2 <= np.percentile(image[image > 0], 99.9) <= BRIGHTEST[1] + 2
    assert 200 <= np.percentile(image, 99.9) <= 300


def test_signals_are_those_of_healthy_tissue_with_grey_gliosis_and_a_cavity_like_fluid() -> None:
    assert {tissue: SIGNAL[tissue] for tissue in HEALTHY["T1"]} == HEALTHY["T1"]
    assert SIGNAL["csf"] <= SIGNAL["cavity"] < 1.5 * SIGNAL["csf"]
    assert SIGNAL["cavity"] < SIGNAL["gliosis"] < SIGNAL["grey"]


def test_number_sizes_and_places() -> None:
    brain, points = healthy()
    outline, ventricle = brain.outline(points), brain.ventricle(points)
    loads, numbers, cortical = [], [], 0
    for seed in range(40):
        infarcts = draw_infarcts(np.random.default_rng(seed), brain)
        shares = brain.sample(points, 3.0).shares if seed == 0 else {"csf": np.ones(points.shape[1], np.float32)}
        lesion = paint_infarcts(shares, points, infarcts, outline, ventricle, 3.0)
        loads.append(lesion.sum() * 27 / 1000)
        numbers.append(len(infarcts))
        cortical += sum(infarct.territory is TERRITORIES["middle cerebral"] for infarct in infarcts)
        if any(infarct.territory.cerebellar for infarct in infarcts) is False:
            assert not (lesion & (cerebellum(points) > 2)).any()
        assert not (lesion & (ventricle < -2)).any()
    assert set(numbers) == {1, 2, 3}
    assert 0.5 < min(loads) < 5
    assert 60 < max(loads) <= LOAD_ML[2] * 1.1
    assert 10 < np.median(loads) < 35
    assert cortical > 0.4 * sum(numbers)


@pytest.mark.parametrize("name", TERRITORIES)
def test_an_infarct_of_each_territory_keeps_to_its_side_and_volume(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    brain, points = healthy()
    monkeypatch.setattr("custom_nets.phantoms.infarcts.TERRITORIES", {name: TERRITORIES[name]})
    monkeypatch.setattr("custom_nets.phantoms.infarcts._volumes", lambda rng: np.array([15000.0]))
    for seed in range(4):
        (infarct,) = draw_infarcts(np.random.default_rng(seed), brain)
        found = brain.sample(points, 3.0)
        lesion = paint_infarcts(found.shares, points, [infarct], found.inside, found.ventricle, 3.0)
        assert lesion.sum() * 0.027 == pytest.approx(15, rel=0.25)
        assert (points[0, lesion] * infarct.side).min() > -2
        assert np.allclose(sum(found.shares.values()), 1, atol=1e-4)


def test_most_cases_are_one_sided() -> None:
    brain = healthy()[0]
    drawn = [draw_infarcts(np.random.default_rng(seed), brain) for seed in range(30)]
    sides = [{infarct.side for infarct in infarcts} for infarcts in drawn]
    assert 0.7 < np.mean([len(side) == 1 for side in sides]) < 1
    assert any(1 in side for side in sides) and any(-1 in side for side in sides)


@pytest.mark.parametrize("seed", [1, 3])
def test_the_patient_does_not_depend_on_the_voxel_size(seed: int) -> None:
    coarse, fine = case(seed, 4.0), case(seed, 2.0)
    assert millilitres(coarse) == pytest.approx(millilitres(fine), rel=0.2)
    centres = [made.affine @ [*ndimage.center_of_mass(made.label), 1] for made in (coarse, fine)]
    assert np.linalg.norm(centres[0] - centres[1]) < 3  # mm
    brains = [(made.images["T1"] > 0).sum() * abs(np.linalg.det(made.affine)) for made in (coarse, fine)]
    assert brains[0] == pytest.approx(brains[1], rel=0.05)


def test_same_seed_same_voxels_other_seed_other_voxels() -> None:
    again = make_case("zoom_resunet", 1, 3.0)
    assert np.array_equal(again.images["T1"], case(1).images["T1"])
    assert np.array_equal(again.label, case(1).label)
    assert not np.array_equal(again.label, case(2).label)


def test_the_default_grid_is_2_mm() -> None:
    assert STROKE_BRAIN.grid().shape == (75, 93, 75)


@pytest.mark.parametrize("seed", range(6))
def test_the_coarsest_grid_still_shows_a_lesion(seed: int) -> None:
    assert case(seed, 6.0).label.any()
