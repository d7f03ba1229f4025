# SPDX-License-Identifier: Apache-2.0
"""The deformation of S2CA-Net's crops, and MONAI's transforms of its recipe against the published formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import (
    Compose,
    DivisiblePadd,
    NormalizeIntensityd,
    RandAxisFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    SpatialPadd,
)
from scipy.ndimage import map_coordinates
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.training.reproducible import ReproducibleCacheDataset
from custom_nets.tumours.augmentation import RandElasticAffined, affine_matrix, deformed_positions, sampled, smoothed
from tests import golden
from tests.recipe import arrays

STILL: dict[str, Any] = {"rotate_range": 0.0, "shear_range": 0.0, "scale_range": 0.0}


def case(size: int = 12) -> dict[str, Any]:
    random = np.random.default_rng(size)
    image = MetaTensor(torch.from_numpy(random.standard_normal((4, size, size, size)).astype(np.float32)))
    label = MetaTensor(torch.from_numpy(random.choice([0, 1, 2, 4], (1, size, size, size)).astype(np.uint8)))
    image.meta["filename_or_obj"] = "case.nii.gz"
    return {"image": image, "label": label, "case": "a"}


@pytest.mark.parametrize("sigma", [1.0, 4.3, 20.0])
def test_smoothing_is_monais_gaussian_up_to_three_sigma(sigma: float) -> None:
    noise = torch.rand(3, 11, 24, 17, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(smoothed(noise, sigma), GaussianFilter(3, sigma, 3.0)(noise[None])[0])


def test_the_affine_map_turns_shears_and_scales() -> None:
    angles, shears, scales = (0.3, -0.2, 0.5), (0.1, -0.05, 0.07), (0.9, 1.1, 1.2)
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    shear = np.array([[1, 0.1, -0.05], [0.07, 1, 0], [0, 0, 1]])
    expected = about_x @ about_y @ about_z @ shear @ np.diag(scales)
    np.testing.assert_allclose(affine_matrix(angles, shears, scales), expected, atol=1e-12)


@pytest.mark.parametrize(("mode", "order"), [("nearest", 0), ("bilinear", 1)])
def test_sampling_mirrors_at_the_centres_of_the_outermost_voxels(mode: str, order: int) -> None:
    random = np.random.default_rng(0)
    volume = random.standard_normal((2, 6, 7, 9)).astype(np.float32)
    displacement = random.uniform(-3, 3, (3, 6, 7, 9)).astype(np.float32)
    affine = affine_matrix((0.3, -0.4, 0.5), (0.1, 0.1, -0.1), (1.2, 0.8, 1.1))
    positions = deformed_positions(torch.from_numpy(displacement), affine)
    voxels = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (6, 7, 9)), indexing="ij")) + displacement
    voxels = np.einsum("ij,jdhw->idhw", affine, voxels) + np.array([2.5, 3.0, 4.0])[:, None, None, None]
    found = sampled(torch.from_numpy(volume), positions, mode).numpy()
    expected = np.stack([map_coordinates(channel, voxels, order=order, mode="mirror") for channel in volume])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_deformation_of_nothing_changes_nothing() -> None:
    data = case()
    found = RandElasticAffined(["image", "label"], prob=1, magnitude_range=(0, 0), **STILL)(data)
    assert torch.equal(found["image"], data["image"]) and torch.equal(found["label"], data["label"])


def test_image_and_label_are_deformed_alike_and_labels_stay_labels() -> None:
    data = case()
    data["image"] = data["label"].float().repeat(4, 1, 1, 1)
    before = data["label"].clone()
    found = RandElasticAffined(["image", "label"], prob=1).set_random_state(3)(data)
    assert torch.equal(found["image"], found["label"].float().expand(4, -1, -1, -1))
    assert found["label"].dtype == torch.uint8 and set(found["label"].unique().tolist()) <= {0, 1, 2, 4}
    assert not torch.equal(found["label"], before) and torch.equal(data["label"], before)
    mixed = RandElasticAffined(["image", "label"], prob=1, mode=["bilinear", "nearest"]).set_random_state(3)(data)
    assert torch.equal(mixed["label"], found["label"])
    assert len(mixed["image"].unique()) > 100, "images may be interpolated"


def test_types_metadata_and_other_entries_are_kept() -> None:
    data = case()
    data["image"] = (data["image"] * 100).to(torch.int16)
    found = RandElasticAffined(["image", "label"], prob=1, mode=["bilinear", "nearest"])(data)
    assert found["image"].dtype == torch.int16 and found["case"] == "a"
    assert found["image"].meta["filename_or_obj"] == "case.nii.gz"


def test_displacements_have_the_published_size() -> None:
    """Uniform noise of variance 1/3, smoothed with sigma, has a standard deviation of sqrt(1/3 / (2 sqrt(pi) s)^3)."""
    for sigma in (1.0, 2.0):
        transform = RandElasticAffined("image", prob=1, sigma_range=(sigma, sigma), magnitude_range=(2, 2), **STILL)
        moved = transform.set_random_state(0)._positions((40, 40, 40))
        still = deformed_positions(torch.zeros(3, 40, 40, 40), np.eye(3))
        inner = (moved - still)[:, 8:-8, 8:-8, 8:-8]
        expected = 2 * math.sqrt(1 / 3 / (2 * math.sqrt(math.pi) * sigma) ** 3)
        assert inner.std().item() == pytest.approx(expected, rel=0.1)


def test_all_three_rotations_go_both_ways() -> None:
    transform = RandElasticAffined("image", prob=0.5, magnitude_range=(0, 0), shear_range=0, scale_range=0)
    turns = []
    for seed in range(60):
        transform.set_random_state(seed)
        transform.randomize(None)
        if transform._do_transform:
            first = transform._positions((3, 3, 3))
            turns.append([first[2, 1, 2, 1].sign(), first[0, 1, 1, 2].sign(), first[0, 1, 2, 1].sign()])
    assert 15 < len(turns) < 45
    share = (np.array(turns) > 0).mean(axis=0)
    assert ((share > 0.2) & (share < 0.8)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 2}, "prob is 2: give a probability"),
        ({"sigma_range": (0, 1)}, r"sigma_range is \[0, 1\]: give two numbers above 0"),
        ({"scale_range": 1}, "scale_range is 1: give a number from 0 to below 1"),
        ({"mode": "cubic"}, "the interpolation is 'cubic': choose nearest or bilinear"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandElasticAffined("image", **options)


def test_volumes_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be deformed alike: crop them first"):
        RandElasticAffined(["a", "b"], prob=1)({"a": torch.zeros(1, 3, 3, 3), "b": torch.zeros(1, 3, 3, 4)})


def recipe(**options: Any) -> Compose:
    """The published training transforms on a small crop."""
    keys = ["image", "label"]
    return Compose(
        [
            RandSpatialCropd(keys, (8, 8, 8), random_size=False),
            NormalizeIntensityd("image", channel_wise=True),
            RandAxisFlipd(keys, prob=0.5),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            RandElasticAffined(keys, **options),
        ]
    )


def test_draws_are_fresh_for_every_epoch_and_case_and_repeat_for_a_seed() -> None:
    def images(seed: int, epoch: int) -> list[Tensor]:
        dataset = ReproducibleCacheDataset([case(), case()], recipe(), seed=seed, progress=False)
        dataset.epoch = epoch
        return [dataset[0]["image"].as_tensor(), dataset[1]["image"].as_tensor()]

    (first, second), (again, _), (later, _), (other, _) = (images(*key) for key in ((7, 1), (7, 1), (7, 2), (8, 1)))
    assert torch.equal(first, again)
    assert not any(torch.equal(first, image) for image in (second, later, other))


def test_crops_begin_everywhere() -> None:
    crop = RandSpatialCropd("x", (2, 3, 4), random_size=False).set_random_state(0)
    place = torch.arange(4 * 4 * 5).view(1, 4, 4, 5)
    corners = {int(crop({"x": place})["x"][0, 0, 0, 0]) for _ in range(200)}
    assert corners == {int(place[0, i, j, k]) for i in range(3) for j in range(2) for k in range(2)}


def test_flips_are_along_one_axis_drawn_alike() -> None:
    flip = RandAxisFlipd(["x", "y"], prob=0.5).set_random_state(0)
    cube = torch.arange(8.0).view(1, 2, 2, 2)
    outcomes = {"none": cube, **{axis: cube.flip(axis + 1) for axis in range(3)}}
    counts = dict.fromkeys(outcomes, 0)
    for _ in range(600):
        found = flip({"x": cube, "y": cube.to(torch.uint8)})
        assert torch.equal(found["x"], found["y"].float())
        counts[next(name for name, value in outcomes.items() if torch.equal(found["x"], value))] += 1
    assert 250 < counts["none"] < 350 and all(70 < counts[axis] < 130 for axis in range(3))


@pytest.mark.parametrize("per_modality", [False, True])
def test_one_factor_and_one_offset_for_all_modalities_or_one_each(per_modality: bool) -> None:
    ones = torch.ones(4, 2, 2, 2)
    for transform in (
        RandScaleIntensityd("x", factors=0.1, prob=0.5, channel_wise=per_modality),
        RandShiftIntensityd("x", offsets=0.1, prob=0.5, channel_wise=per_modality),
    ):
        transform.set_random_state(1)
        changes = torch.stack([transform({"x": ones})["x"] - 1 for _ in range(300)]).flatten(2)
        assert changes.std(dim=2).max() == 0
        by_modality = changes[..., 0]
        happened = by_modality[(by_modality != 0).any(dim=1)]
        assert 110 < len(happened) < 190
        assert (happened.std(dim=1) > 1e-4).all() == per_modality and (happened.std(dim=1) > 1e-6).any() == per_modality
        assert -0.1 <= happened.min() < -0.09 and 0.09 < happened.max() <= 0.1


def test_golden_padding_and_normalisation_for_evaluation() -> None:
    mri = torch.from_numpy(arrays("s2ca_net")["norm.mri"].copy())
    found = Compose([SpatialPadd("x", (8, 6, 14)), NormalizeIntensityd("x", channel_wise=True)])({"x": mri})["x"]
    np.testing.assert_allclose(found, arrays("s2ca_net")["norm.eval"], atol=2e-6)


def test_a_volume_of_the_challenge_is_padded_by_two_below_and_three_above() -> None:
    padded = DivisiblePadd("x", k=16)({"x": torch.ones(1, 16, 16, 155)})["x"]
    assert padded.shape == (1, 16, 16, 160)
    assert padded[0, 0, 0, :3].tolist() == [0, 0, 1] and padded[0, 0, 0, -4:].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("nonzero", [False, True])
def test_normalisation_is_by_modality_with_the_population_deviation(nonzero: bool) -> None:
    image = np.stack([10 * (channel + 2) + golden.draw(f"z{channel}", (5, 6, 7)) for channel in range(3)])
    image = np.concatenate([image, np.full((1, 5, 6, 7), 3.0)])  # one modality without contrast
    image[:, 0] = 0
    image[3] = 3
    found = NormalizeIntensityd("x", channel_wise=True, nonzero=nonzero)({"x": torch.from_numpy(image).float()})["x"]
    for channel, result in zip(image[:3], found[:3].numpy(), strict=True):
        among = channel[channel != 0] if nonzero else channel
        expected = (channel - among.mean()) / among.std()
        np.testing.assert_allclose(result, np.where(nonzero & (channel == 0), 0, expected), atol=1e-4)
    assert (found[3] == 0).all()
