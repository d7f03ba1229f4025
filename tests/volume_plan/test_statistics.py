# SPDX-License-Identifier: Apache-2.0
"""Golden numbers of six balls, and a slow count of a small case."""

from __future__ import annotations

import itertools
from ast import literal_eval

import numpy as np
import pytest

from custom_nets.volume_crops import centre_start
from custom_nets.volume_plan.occurrence import LesionBox
from custom_nets.volume_plan.statistics import CropSummary, crop_statistics
from custom_nets.volume_plan.summed_area import LesionTable
from custom_nets.volume_plan.survey import Survey, survey
from tests.volume_plan.masks import GOLDEN, as_scans, block, golden_masks

SIZES = {key: literal_eval(key) for key in GOLDEN["sizes"]}


@pytest.fixture(scope="module")
def surveyed() -> Survey:
    return survey(as_scans(golden_masks()), list(SIZES.values()), GOLDEN["shape"])


def approx(value: object) -> object:
    return pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("key", SIZES)
def test_golden_sizes(surveyed: Survey, key: str) -> None:
    summary, expected = surveyed.crops[SIZES[key]], GOLDEN["sizes"][key]
    scans = summary.scans
    assert list(centre_start(GOLDEN["shape"], SIZES[key])) == expected["centre_start"]
    assert summary.fully_inside == expected["cases_fully_inside"]
    assert summary.missed == expected["cases_missed"]
    found = {
        "fraction": summary.share,
        "case_coverage": [scan.coverage for scan in scans],
        "pooled_coverage": summary.pooled_coverage,
        "dice_ceiling": [scan.dice_ceiling for scan in scans],
        "mean_dice_ceiling": summary.mean_dice_ceiling,
        "micro_dice_ceiling": summary.micro_dice_ceiling,
        "random_hit_probability": [scan.hit_probability for scan in scans],
        "mean_random_hit_probability": summary.mean_hit_probability,
        "random_hit_probability_official_range": [scan.hit_probability_official for scan in scans],
        "random_lesion_fraction": [scan.lesion_share for scan in scans],
    }
    assert {name: expected[name] for name in found} == {name: approx(value) for name, value in found.items()}
    assert summary.mean_coverage == approx(np.mean(expected["case_coverage"]))
    assert summary.mean_lesion_share == approx(np.mean(expected["random_lesion_fraction"]))
    official = np.mean(expected["random_hit_probability_official_range"])
    assert summary.mean_hit_probability_official == approx(official)


def test_golden_occurrence_and_box(surveyed: Survey) -> None:
    assert [lesions.voxels for lesions in surveyed.lesions] == GOLDEN["voxels"]
    assert surveyed.occurrence is not None
    assert surveyed.occurrence.largest == GOLDEN["occurrence_max"]
    assert surveyed.occurrence.support == GOLDEN["union_voxels"]
    assert surveyed.occurrence.share.sum(dtype=float) == approx(sum(GOLDEN["voxels"]) / GOLDEN["n"])
    assert [profile.sum() for profile in surveyed.occurrence.profiles] == [sum(GOLDEN["voxels"])] * 3
    assert [len(profile) for profile in surveyed.occurrence.profiles] == GOLDEN["shape"]
    for level, size in GOLDEN["quantile_box"].items():
        assert list(surveyed.box.size(float(level))) == size


@pytest.mark.parametrize("size", [(3, 4, 5), (1, 1, 1), (7, 6, 8), (7, 2, 8)])
def test_summed_area_equals_counting_crop_by_crop(size: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(1).random((7, 6, 8)) < 0.02
    starts = itertools.product(*(range(length - cut + 1) for length, cut in zip(mask.shape, size, strict=True)))
    counted = {start: int(mask[tuple(map(slice, start, np.add(start, size)))].sum()) for start in starts}
    table = LesionTable(mask)
    assert {start: table.inside(start, size) for start in counted} == counted
    found = crop_statistics(table, size)
    assert found.hit_probability == approx(np.mean([count > 0 for count in counted.values()]))
    assert found.lesion_share == approx(np.mean(list(counted.values())) / np.prod(size))
    official = [
        count > 0
        for start, count in counted.items()
        if all(first < length - cut for first, length, cut in zip(start, mask.shape, size, strict=True))
    ]
    if official:
        assert found.hit_probability_official == approx(np.mean(official))
    else:
        assert found.hit_probability_official is None


def test_a_crop_of_the_whole_volume_holds_everything() -> None:
    mask = block((9, 10, 11), (0, 4, 8), (2, 2, 3))
    summary = CropSummary((crop_statistics(LesionTable(mask), (9, 10, 11)),))
    assert summary.mean_coverage == summary.mean_dice_ceiling == summary.mean_hit_probability == 1.0
    assert summary.share == 1.0
    assert (summary.fully_inside, summary.missed) == (1, 0)
    assert summary.mean_lesion_share == approx(12 / 990)
    assert summary.mean_hit_probability_official is None


def test_larger_crops_never_hold_less() -> None:
    masks = [np.random.default_rng(seed).random((16, 15, 14)) < 0.002 for seed in range(4)]
    sizes = [(4 + step, 3 + step, 2 + step) for step in range(12)]
    crops = survey(as_scans(masks), sizes, None).crops
    for name in ("share", "mean_coverage", "mean_dice_ceiling", "micro_dice_ceiling", "mean_hit_probability"):
        values = [getattr(crops[size], name) for size in sizes]
        assert values == sorted(values), name


def test_a_missed_scan_counts_in_the_mean() -> None:
    masks = [block((12, 12, 12), (5, 5, 5), (2, 2, 2)), block((12, 12, 12), (0, 0, 0), (2, 2, 2))]
    summary = survey(as_scans(masks), [(4, 4, 4)], None).crops[(4, 4, 4)]
    assert (summary.fully_inside, summary.missed) == (1, 1)
    assert summary.mean_dice_ceiling == 0.5
    assert summary.micro_dice_ceiling == approx(2 / 3)


@pytest.mark.parametrize("shape", [(12, 13, 14), (7, 8, 9)])
@pytest.mark.parametrize("level", [0.5, 0.9, 1.0])
def test_lesion_box_is_the_smallest_centred_interval(shape: tuple[int, int, int], level: float) -> None:
    mask = np.random.default_rng(3).random(shape) < 0.05
    box = LesionBox()
    box.add(mask)
    for axis, size in enumerate(box.size(level)):
        profile = mask.sum(axis=tuple({0, 1, 2} - {axis}))
        held = [
            profile[(len(profile) - cut) // 2 :][:cut].sum() >= level * profile.sum() for cut in range(len(profile) + 1)
        ]
        assert size == held.index(True)


def test_lesion_box_over_different_shapes() -> None:
    box = LesionBox()
    box.add(block((10, 10, 10), (4, 4, 4), (2, 2, 2)))
    box.add(block((20, 10, 10), (0, 4, 4), (1, 2, 2)))
    assert box.size(0.6) == (2, 2, 2)
    assert box.size(1.0) == (19, 2, 2)  # it starts at ⌊(20 - 19) / 2⌋ = 0
