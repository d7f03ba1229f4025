# SPDX-License-Identifier: Apache-2.0
"""What a synthetic scan with a glioma must look like."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from custom_nets.phantoms import PhantomCase, make_case
from custom_nets.phantoms.brain import Brain
from custom_nets.phantoms.gliomas import CORE_SHARE, ENHANCING_SHARE, WHOLE_ML, Glioma, draw_glioma, paint_glioma
from custom_nets.phantoms.ms_brain import SIGNAL as HEALTHY
from custom_nets.phantoms.tumour_brain import SIGNAL, TUMOUR_BRAIN
from custom_nets.registry import bundle
from custom_nets.tumours.regions import region_masks

HIGH_GRADE, LOW_GRADE = (0, 2), (5, 7)


@cache
def case(seed: int, spacing: float = 2.0) -> PhantomCase:
    return make_case("s2ca_net", seed, spacing)


@cache
def brain() -> Brain:
    return Brain(np.random.default_rng(5))


@cache
def glioma(seed: int) -> Glioma:
    return draw_glioma(np.random.default_rng(seed), brain())


def millilitres(made: PhantomCase, *values: int) -> float:
    return float(np.isin(made.label, values).sum() * abs(np.linalg.det(made.affine)) / 1000)


def median(made: PhantomCase, modality: str, mask: np.ndarray) -> float:
    """Median of one image in the part of the mask that touches nothing else."""
    inner = ndimage.binary_erosion(mask)
    return float(np.median(made.images[modality][inner if inner.sum() > 30 else mask]))


@pytest.mark.parametrize("seed", HIGH_GRADE + LOW_GRADE)
def test_four_modalities_share_one_empty_background_that_holds_no_label(seed: int) -> None:
    made = case(seed)
    assert tuple(made.images) == bundle("s2ca_net").modalities
    mask = made.images["T1"] > 0
    assert all(np.array_equal(image > 0, mask) and image.dtype == np.int16 for image in made.images.values())
    assert not made.label[~mask].any()
    assert made.label.dtype == np.uint8
    assert 900 < mask.sum() * 8 / 1000 < 1700  # ml
    assert set(np.unique(made.label)) == ({0, 1, 2, 4} if seed in HIGH_GRADE else {0, 1, 2})


@pytest.mark.parametrize("seed", HIGH_GRADE)
def test_the_rim_lies_around_the_necrosis_and_oedema_around_both(seed: int) -> None:
    made = case(seed)
    regions = region_masks(made.label)
    dilated = {name: ndimage.binary_dilation(mask) for name, mask in regions.items()}
    surface = dilated["TC"] & ~regions["TC"] & (made.images["T1"] > 0)
    assert np.mean(made.label[surface] == 2) > 0.5  # cortex and fluid are no oedema
    outside = dilated["WT"] & ~regions["WT"]
    assert np.mean(dilated["ET"][outside]) < 0.2  # only where the core reaches the cortex
    filled = np.stack([ndimage.binary_fill_holes(part) for part in np.moveaxis(regions["ET"], 2, 0)], axis=2)
    holes = filled & ~regions["ET"]
    assert holes.sum() > 200  # necrosis that the rim surrounds
    assert np.mean(made.label[holes] == 1) > 0.95


@pytest.mark.parametrize("seed", HIGH_GRADE)
def test_contrast_of_a_high_grade_tumour(seed: int) -> None:
    made = case(seed)
    core, oedema, enhancing = (made.label == value for value in (1, 2, 4))
    necrosis = ndimage.binary_erosion(core, iterations=3)  # what is not enhancing outside the rim is thin
    healthy = (made.images["T1"] > 0) & ~ndimage.binary_dilation(made.label > 0, iterations=3)
    white = healthy & (made.images["T1"] > np.percentile(made.images["T1"][healthy], 75))
    values = {name: [median(made, name, mask) for mask in (necrosis, oedema, enhancing, white)] for name in made.images}
    for name, order in {"T1": "nEow", "T1CE": "nowE", "T2": "wEon", "FLAIR": "nwEo"}.items():
        by_letter = dict(zip("noEw", values[name], strict=True))
        found = [by_letter[letter] for letter in order]
        assert found == sorted(found), name


@pytest.mark.parametrize("seed", LOW_GRADE)
def test_a_low_grade_core_is_large_and_does_not_enhance(seed: int) -> None:
    made = case(seed)
    assert millilitres(made, 1) > 0.35 * millilitres(made, 1, 2)
    core, oedema = (made.label == value for value in (1, 2))
    assert median(made, "T1CE", core) < median(made, "T1CE", oedema)
    assert median(made, "T1", core) < median(made, "T1", oedema)


@pytest.mark.parametrize("seed", HIGH_GRADE + LOW_GRADE)
def test_no_threshold_of_one_image_finds_a_region(seed: int) -> None:
    made = case(seed)
    inside = made.images["T1"] > 0
    for region, mask in region_masks(made.label).items():
        target = mask[inside]
        if not target.any():
            continue
        for image in made.images.values():
            for sign in (1, -1):
                hits = np.cumsum(target[np.argsort(sign * image[inside], kind="stable")])
                dice = 2 * hits / (np.arange(1, len(hits) + 1) + target.sum())
                assert dice.max() < (0.95 if region == "WT" else 0.75)


def test_signals_are_those_of_healthy_tissue_and_of_a_tumour() -> None:
    for modality in ("T1", "T2", "FLAIR"):
        assert {tissue: SIGNAL[modality][tissue] for tissue in HEALTHY[modality]} == HEALTHY[modality]
    assert SIGNAL["T1CE"]["vessel"] > SIGNAL["T1CE"]["plexus"] > SIGNAL["T1CE"]["enhancing"] > 1  # decoys
    assert len({frozenset(signal) for signal in SIGNAL.values()}) == 1


def test_volumes_grades_sides_and_satellites() -> None:
    drawn = [glioma(seed) for seed in range(60)]
    low = [each.cores[0].rim is None for each in drawn]
    assert 0.05 < np.mean(low) < 0.35
    assert 0.05 < np.mean([len(each.cores) == 2 for each in drawn]) < 0.35
    assert 0.3 < np.mean([each.side > 0 for each in drawn]) < 0.7
    assert all(np.sign(each.cores[0].centre[0]) == each.side for each in drawn)
    cores = [4 / 3 * np.pi * each.cores[0].size ** 3 / 1000 for each in drawn]
    assert WHOLE_ML[0] * CORE_SHARE[0] <= min(cores) < 7
    assert 35 < max(cores) <= WHOLE_ML[2] * CORE_SHARE[1] * 1.001
    assert np.median([core for core, is_low in zip(cores, low, strict=True) if is_low]) > np.median(cores)


@pytest.mark.parametrize("seed", range(5))
def test_a_tumour_has_the_volumes_drawn_and_keeps_to_its_tissue(seed: int) -> None:
    drawn, points = glioma(seed), TUMOUR_BRAIN.grid(2.0).points()
    outline = brain().outline(points)
    points, outline = points[:, outline > 0], outline[outline > 0]
    before = drawn.displaced(points, outline)
    found = brain().sample(before, 2.0)
    healthy = {tissue: share.copy() for tissue, share in found.shares.items()}
    label = paint_glioma(found, points, before, drawn, 2.0)
    whole, core, enhancing = (np.isin(label, values).sum() * 0.008 for values in ((1, 2, 4), (1, 4), (4,)))
    assert WHOLE_ML[0] * 0.9 < whole < WHOLE_ML[2] * 1.1
    assert core == pytest.approx(sum(4 / 3 * np.pi * each.size**3 for each in drawn.cores) / 1000, rel=0.15)
    assert CORE_SHARE[0] * 0.8 < core / whole < CORE_SHARE[1] * 1.2
    if drawn.cores[0].rim is not None:
        assert ENHANCING_SHARE[0] * 0.6 < enhancing / core < ENHANCING_SHARE[1] * 1.2
    assert np.allclose(sum(found.shares.values()), 1, atol=1e-4)
    assert not (label[found.ventricle < -2]).any()
    assert np.mean(before[0, label > 0] * drawn.side > -1) == 1
    assert (healthy["white"] + healthy["rim"])[label == 2].mean() > 0.7
    assert healthy["csf"][label == 2].mean() < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_the_brain_gives_way_without_folding_and_the_skull_holds(seed: int) -> None:
    drawn = glioma(seed)
    core = drawn.cores[0]
    away = np.linspace(0, 60, 200, dtype=np.float32)
    line = core.centre[:, None] + np.array([[0], [0], [1]], np.float32) * away
    moved = drawn.displaced(line, np.full(200, 30, np.float32))
    assert (np.diff(moved[2]) > 0).all()
    assert np.abs(moved - line).max() == pytest.approx(drawn.push, rel=0.02)
    assert np.array_equal(drawn.displaced(line, np.zeros(200, np.float32)), line)


@pytest.mark.parametrize("seed", [0, 5])
def test_the_patient_does_not_depend_on_the_voxel_size(seed: int) -> None:
    coarse, fine = case(seed, 3.0), case(seed, 2.0)
    for values in ((1, 2, 4), (1, 4), (4,)):
        assert millilitres(coarse, *values) == pytest.approx(millilitres(fine, *values), rel=0.25)
    centres = [made.affine @ [*ndimage.center_of_mass(made.label > 0), 1] for made in (coarse, fine)]
    assert np.linalg.norm(centres[0] - centres[1]) < 3  # mm
    brains = [(made.images["T1"] > 0).sum() * abs(np.linalg.det(made.affine)) for made in (coarse, fine)]
    assert brains[0] == pytest.approx(brains[1], rel=0.05)


def test_same_seed_same_voxels_other_seed_other_voxels() -> None:
    again = make_case("s2ca_net", 0, 3.0)
    assert all(np.array_equal(image, case(0, 3.0).images[name]) for name, image in again.images.items())
    assert np.array_equal(again.label, case(0, 3.0).label)
    assert not np.array_equal(again.label, case(1, 3.0).label)


def test_the_default_grid_is_2_mm() -> None:
    assert TUMOUR_BRAIN.grid().shape == (75, 93, 75)


@pytest.mark.parametrize("seed", range(6))
def test_the_coarsest_grid_still_shows_a_core_in_oedema(seed: int) -> None:
    regions = region_masks(case(seed, 6.0).label)
    assert 0 < regions["TC"].sum() < regions["WT"].sum()
