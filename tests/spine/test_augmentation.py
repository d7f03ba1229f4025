# SPDX-License-Identifier: Apache-2.0
"""The augmentation of both stages: in step, as often and as strong as published, repeatable by (seed, epoch, case)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.spine.augmentation import RandSpineSliced, RandSpineVolumed
from custom_nets.training.reproducible import ReproducibleCacheDataset

STILL: dict[str, Any] = {"max_angle": 0, "elastic_probability": 0.0, "contrast_probability": 0.0}


def blobs(*size: int) -> Tensor:
    """A label map of some structures, larger than a displacement."""
    grid = torch.meshgrid(*(torch.arange(n) // 8 for n in size), indexing="ij")
    return (sum(grid) % 4).to(torch.uint8)[None]


def volume_case() -> dict[str, Any]:
    label = blobs(6, 48, 64)
    image = MetaTensor(label.float() * 2 - 3, meta={"filename_or_obj": "a.nii.gz"})
    return {"image": image, "label": MetaTensor(label), "case": "a"}


def slice_case() -> dict[str, Any]:
    label = blobs(64, 96)
    return {"image": label.float(), "label": label, "coarse_logits": label[:, ::2, ::2].float().repeat(5, 1, 1)}


def test_image_and_label_of_a_volume_are_turned_alike_by_the_published_rule() -> None:
    data = volume_case()
    transform = RandSpineVolumed(elastic_probability=0, contrast_probability=0).set_random_state(0)
    found = transform(data)
    assert torch.equal((found["image"] + 3) / 2, found["label"].float())
    assert not torch.equal(found["label"], data["label"]) and found["case"] == "a"
    assert found["label"].dtype == torch.uint8 and found["image"].dtype == torch.float32
    assert found["image"].meta["filename_or_obj"] == "a.nii.gz"
    assert torch.equal(data["label"].as_tensor(), blobs(6, 48, 64)), "the input is not changed"


@pytest.mark.parametrize("interpolation", ["published", "bilinear", "spline"])
def test_elastic_volumes_stay_in_step(interpolation: str) -> None:
    transform = RandSpineVolumed(elastic_probability=1, contrast_probability=0, image_interpolation=interpolation)
    found = transform.set_random_state(3)(volume_case())
    assert set(found["label"].unique().tolist()) == {0, 1, 2, 3}
    agree = ((found["image"] + 3) / 2 - found["label"]).abs() < 0.5
    assert agree.float().mean() > 0.9
    assert len(found["image"].unique()) > 1000


def test_image_label_and_coarse_logits_of_a_slice_stay_in_step() -> None:
    """Published, logits were deformed by draws of their own."""
    transform = RandSpineSliced(map_keys="coarse_logits", contrast_probability=0)
    for seed in range(8):
        found = transform.set_random_state(seed)(slice_case())
        near = (found["image"] - found["label"]).abs() < 0.5
        assert near.float().mean() > 0.9 and found["label"].dtype == torch.uint8
        centres = torch.nn.functional.avg_pool2d(found["image"], 2)
        assert found["coarse_logits"].shape == (5, 32, 48)
        assert ((found["coarse_logits"] - centres).abs() < 0.7).float().mean() > 0.85


def test_a_smooth_map_of_another_resolution_follows_to_a_hundredth() -> None:
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(256.0), indexing="ij")
    image = (torch.sin(rows / 20) * torch.cos(columns / 25))[None]
    coarse = torch.nn.functional.avg_pool2d(image, 2)
    transform = RandSpineSliced(label_keys=(), map_keys="logits", elastic_probability=1, contrast_probability=0)
    found = transform.set_random_state(5)({"image": image, "logits": coarse})
    fine = torch.nn.functional.avg_pool2d(found["image"], 2)
    assert (fine - found["logits"])[:, 4:-4, 4:-4].abs().max() < 0.03
    assert (fine - coarse).abs().max() > 0.3


def draws(transform: Any, size: tuple[int, ...], count: int = 1500) -> list[Any]:
    transform.set_random_state(0)
    return [transform.drawn(size) for _ in range(count)]


@pytest.mark.parametrize(("kind", "size"), [(RandSpineVolumed, (3, 4, 4)), (RandSpineSliced, (4, 4))])
def test_the_published_shares_and_ranges(kind: type, size: tuple[int, ...]) -> None:
    drawn = draws(kind(), size)
    assert {one.angle for one in drawn} == set(range(-15, 15))
    assert np.mean([one.displacement is not None for one in drawn]) == pytest.approx(0.3, abs=0.04)
    factors = [one.contrast for one in drawn if one.contrast is not None]
    assert len(factors) / len(drawn) == pytest.approx(0.1, abs=0.03)
    assert 0.5 <= min(factors) < 0.6 and 1.4 < max(factors) <= 1.5


@pytest.mark.parametrize(("kind", "low", "high"), [(RandSpineVolumed, 0, 1), (RandSpineSliced, -10, 10)])
def test_contrast_reaches_the_image_alone_and_is_clipped_as_published(kind: Any, low: float, high: float) -> None:
    values = torch.linspace(-20, 20, 64).reshape(1, 4, 4, 4)
    values = values if kind is RandSpineVolumed else values[0]
    data = {"image": values, "weight": values, "label": torch.ones_like(values)}
    options = {**STILL, "contrast_probability": 1.0, "contrast_range": (1.25, 1.25), "map_keys": "weight"}
    found = kind(**options)(data)
    torch.testing.assert_close(found["image"], (values * 1.25).clamp(low, high))
    assert torch.equal(found["weight"], values) and torch.equal(found["label"], data["label"])
    torch.testing.assert_close(kind(**options, contrast_clip="none")(data)["image"], values * 1.25)


@pytest.mark.parametrize(("kind", "case"), [(RandSpineVolumed, volume_case), (RandSpineSliced, slice_case)])
def test_nothing_drawn_changes_nothing(kind: Any, case: Any) -> None:
    data, found = case(), kind(**STILL)(case())
    assert torch.equal(found["image"], data["image"]) and torch.equal(found["label"], data["label"])


def test_every_epoch_differs_and_repeats() -> None:
    transform = Compose([RandSpineVolumed(elastic_probability=1)])
    dataset = ReproducibleCacheDataset([volume_case(), volume_case()], transform, seed=7, progress=False)
    seen: dict[tuple[int, int], Tensor] = {}
    for epoch in (1, 2, 3, 1, 2, 3):
        dataset.epoch = epoch
        for index in (0, 1):
            image = dataset[index]["image"].as_tensor()
            assert torch.equal(seen.setdefault((epoch, index), image), image)
    images = list(seen.values())
    assert not any(torch.equal(one, other) for k, one in enumerate(images) for other in images[:k])


def test_configurations_can_name_them() -> None:
    config = {"_target_": "custom_nets.spine.augmentation.RandSpineSliced", "image_keys": "image", "map_keys": "logits"}
    transform = ConfigParser({"augmentation": config}).get_parsed_content("augmentation")
    assert transform.keys == ("image", "label", "logits")


def test_volumes_of_several_sizes_are_refused() -> None:
    data = {"image": torch.rand(1, 4, 8, 8), "label": torch.zeros(1, 4, 8, 9)}
    with pytest.raises(
        InputError, match=r"volumes of the sizes .* cannot be deformed alike: resize and pad them first"
    ):
        RandSpineVolumed()(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elastic_probability": 2}, "elastic_probability is 2: give a share from 0 to 1"),
        ({"contrast_probability": -1}, "contrast_probability is -1: give a share from 0 to 1"),
        ({"max_angle": 2.5}, "max_angle is 2.5: give whole degrees"),
        ({"elastic_sigma": -1}, "elastic_sigma is -1: give a number of voxels, at least 0"),
        ({"contrast_range": (2, 1)}, r"contrast_range is \[2, 1\]: give two factors"),
        ({"contrast_clip": "all"}, r"contrast_clip is 'all': choose published \[0.0, 1.0\] or none"),
        ({"image_interpolation": "linear"}, "image_interpolation is 'linear': choose published, or one of nearest, bi"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandSpineVolumed(**options)
