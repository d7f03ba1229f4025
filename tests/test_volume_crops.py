# SPDX-License-Identifier: Apache-2.0
"""Where crops begin: the published numbers, the edges at which the published code fails, and the transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from numpy.typing import NDArray

from custom_nets.crop_transforms import LesionCropd, RandVolumeCropd
from custom_nets.errors import InputError
from custom_nets.volume_crops import centre_start, lesion_start, random_start, random_start_around, region, resized
from tests import golden
from tests.recipe import document

CROPS = document("zoom_resunet")["crops"]
SHAPE = tuple(CROPS["shape"])
IMAGE = golden.draw("crop_image", SHAPE)
MASK = golden.draw("crop_lesion", SHAPE) > 2.3

Size = tuple[int, ...]


def sizes(mode: str, prefix: str = "") -> list[tuple[str, Size]]:
    """The golden cases of a mode, whose names are sizes behind a prefix."""
    names = [name for name in CROPS[mode] if name.startswith(f"{prefix}(")]
    return [(name, tuple(int(part) for part in name.removeprefix(prefix).strip("()").split(","))) for name in names]


def points(*places: Size) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[place] = True
    return mask


LOW, HIGH = points((0, 0, 0)), points(tuple(n - 1 for n in SHAPE))
TWO = points((2, 3, 5), (9, 10, 12))  # the medians are halves: 5.5, 6.5, 8.5


def assert_golden(start: Size, size: Size, expected: dict[str, Any], mask: NDArray[np.bool_]) -> None:
    assert list(start) == expected["start"]
    inside = region(start, size)
    assert list(mask[inside].shape) == expected["shape"]
    assert mask[inside].sum() == expected["mask_sum"]
    if "image_sum" in expected:
        assert IMAGE[inside].sum() == pytest.approx(expected["image_sum"], rel=1e-9)


@pytest.mark.parametrize(("name", "size"), sizes("center"))
def test_golden_centred_crops(name: str, size: Size) -> None:
    assert MASK.sum() == CROPS["mask_voxels"]
    assert_golden(centre_start(SHAPE, size), size, CROPS["center"][name], MASK)


@pytest.mark.parametrize(
    ("mask", "prefix"), [(MASK, ""), (LOW, "low_corner"), (HIGH, "high_corner"), (TWO, "two_points_even_median")]
)
def test_golden_crops_around_lesions(mask: NDArray[np.bool_], prefix: str) -> None:
    cases = sizes("center_val", prefix)
    assert cases
    for name, size in cases:
        assert_golden(lesion_start(mask, size, last_start=False), size, CROPS["center_val"][name], mask)


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 12, 7), (20, 24, 22)], ids=str)
@pytest.mark.parametrize("mask", [LOW, HIGH], ids=["low", "high"])
def test_a_lesion_in_a_corner_is_seen(mask: NDArray[np.bool_], size: Size) -> None:
    """The published rule never takes the last start, and so misses the last plane."""
    start = lesion_start(mask, size)
    assert mask[region(start, size)].sum() == 1
    assert all(0 <= first <= n - s for first, n, s in zip(start, SHAPE, size, strict=True))


def test_without_lesion_the_crop_is_centred() -> None:
    assert CROPS["center_val"]["empty_mask"] == "StatisticsError"  # published
    assert lesion_start(np.zeros(SHAPE), (8, 8, 8)) == (6, 8, 7)


@pytest.mark.parametrize("last_start", [False, True])
def test_golden_range_of_random_crops(last_start: bool) -> None:
    size, random = CROPS["random"]["size"], np.random.RandomState(0)
    starts = np.array([random_start(SHAPE, size, random, last_start) for _ in range(CROPS["random"]["draws"])])
    assert starts.min(axis=0).tolist() == CROPS["random"]["smallest"]
    assert starts.max(axis=0).tolist() == [most + last_start for most in CROPS["random"]["largest_start_seen"]]
    for axis, most in enumerate(starts.max(axis=0)):  # all alike
        counts = np.bincount(starts[:, axis])
        assert len(counts) == most + 1
        assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


@pytest.mark.parametrize("last_start", [False, True])
def test_a_random_crop_as_large_as_the_volume(last_start: bool) -> None:
    assert random_start(SHAPE, SHAPE, np.random.RandomState(0), last_start) == (0, 0, 0)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (19, 23, 21), (7, 12, 3)], ids=str)
def test_a_random_crop_around_a_voxel_takes_every_start_that_holds_it(voxel: Size) -> None:
    random, size = np.random.RandomState(0), (4, 24, 5)
    starts = {random_start_around(voxel, SHAPE, size, random) for _ in range(2000)}
    possible = {
        (d, h, w)
        for d in range(SHAPE[0] - 3) for h in range(1) for w in range(SHAPE[2] - 4)
        if d <= voxel[0] < d + 4 and w <= voxel[2] < w + 5
    }  # fmt: skip
    assert starts == possible


@pytest.mark.parametrize(("name", "size"), sizes("resize"))
def test_golden_resampling_of_whole_volumes(name: str, size: Size) -> None:
    expected = CROPS["resize"][name]
    image = resized(IMAGE, size, order=3)
    assert list(image.shape) == expected["shape"]
    assert image.mean() == pytest.approx(expected["image_mean"], rel=1e-6)
    assert np.linalg.norm(image) == pytest.approx(expected["image_l2"], rel=1e-6)
    np.testing.assert_allclose(image[:2, :2, :2].ravel(), expected["image_corner"], rtol=1e-6)
    label = MASK.astype(np.float64)
    assert (resized(label, size, order=3) > 0).sum() == expected["label_positive_after_gt0"]  # published: it rings
    assert (resized(label, size, order=0) > 0).sum() == expected["label_positive_nearest"]


def test_golden_way_back_into_the_volume() -> None:
    """The golden sums are of an input that is not told how to draw; the place is."""
    size = tuple(CROPS["project"]["size"])
    inside = region(centre_start(SHAPE, size), size)
    assert [axis.start for axis in inside[1:]] == CROPS["project"]["start"]
    whole = np.zeros((2, *SHAPE))
    whole[inside] = IMAGE[inside]
    assert (whole != 0).sum() == 2 * np.prod(size)
    np.testing.assert_array_equal(whole[inside], np.stack([IMAGE[inside]] * 2))


def sample(mask: NDArray[np.bool_] = MASK) -> dict[str, Any]:
    """A case as the transforms get it; every voxel of the image tells its place."""
    places = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    return {
        "image": MetaTensor(torch.as_tensor(places)[None], affine=affine),
        "label": MetaTensor(torch.as_tensor(mask[None], dtype=torch.uint8), affine=affine),
        "name": "a",
    }


def start_of(cropped: dict[str, Any]) -> Size:
    return tuple(int(i) for i in np.unravel_index(int(cropped["image"].flatten()[0]), SHAPE))


def assert_cropped_alike(cropped: dict[str, Any], data: dict[str, Any], size: Size) -> None:
    start = start_of(cropped)
    for key in ("image", "label"):
        assert torch.equal(cropped[key].as_tensor(), data[key].as_tensor()[region(start, size)])
        assert cropped[key].affine[:3, 3].tolist() == [s * voxel for s, voxel in zip(start, (1, 2, 3), strict=True)]
    assert cropped["name"] == "a"


def test_lesion_crop_goes_around_the_median() -> None:
    data = sample()
    cropped = LesionCropd(["image", "label"], "label", (9, 12, 7))(data)
    assert start_of(cropped) == lesion_start(MASK, (9, 12, 7))
    assert_cropped_alike(cropped, data, (9, 12, 7))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_random_crops_hold_lesion_as_often_as_asked(share: float) -> None:
    data = sample(HIGH)
    transform = RandVolumeCropd(["image", "label"], "label", (8, 8, 8), lesion_share=share).set_random_state(0)
    crops = [transform(data) for _ in range(200)]
    for cropped in crops[:5]:
        assert_cropped_alike(cropped, data, (8, 8, 8))
    with_lesion = np.mean([bool(cropped["label"].sum()) for cropped in crops])
    assert with_lesion == pytest.approx(share, abs=0.1)
    if share == 0:
        starts = np.array([start_of(cropped) for cropped in crops])
        assert starts.min(axis=0).tolist() == [0, 0, 0]
        assert starts.max(axis=0).tolist() == [12, 16, 14]


def test_the_lesion_voxel_of_a_crop_is_drawn_from_all() -> None:
    transform = RandVolumeCropd(["image", "label"], "label", (4, 4, 4), lesion_share=1.0).set_random_state(0)
    seen = [transform(sample(TWO))["label"].sum() for _ in range(5)]
    assert all(count == 1 for count in seen)
    halves = [start_of(transform(sample(TWO)))[0] > 5 for _ in range(100)]
    assert 30 < sum(halves) < 70


def test_a_case_without_lesion_is_cropped_anywhere() -> None:
    transform = RandVolumeCropd(["image", "label"], "label", (8, 8, 8), lesion_share=1.0).set_random_state(0)
    assert len({start_of(transform(sample(np.zeros(SHAPE, bool)))) for _ in range(20)}) > 10


def test_the_seed_decides() -> None:
    def starts(seed: int) -> list[Size]:
        transform = RandVolumeCropd(["image", "label"], "label", (8, 8, 8), lesion_share=0.5).set_random_state(seed)
        return [start_of(transform(sample())) for _ in range(5)]

    assert starts(1) == starts(1) != starts(2)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_no_probability_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=f"lesion_share is {share}: give a probability from 0 to 1"):
        RandVolumeCropd("image", "label", (8, 8, 8), lesion_share=share)


def test_the_transforms_work_from_a_config() -> None:
    names = ("RandVolumeCropd", "LesionCropd")
    for name in names:
        config = {"_target_": f"custom_nets.crop_transforms.{name}", "keys": ["image", "label"], "label_key": "label"}
        transform = ConfigParser({"crop": config | {"roi_size": [8, 8, 8]}}).get_parsed_content("crop")
        assert transform(sample())["image"].shape == (1, 8, 8, 8)
