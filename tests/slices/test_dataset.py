# SPDX-License-Identifier: Apache-2.0
"""The slices of volumes as training samples: which window, which randomness, what stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, Identity, MapTransform, RandomizableTransform, Transform
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.augmentation import RandElasticSlicesd, RandMirrord
from custom_nets.slices.dataset import SliceWindows
from custom_nets.slices.planes import SlicesFirstd
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.transforms import PrepareSlicesd
from tests.recipe import arrays, image
from tests.slices.test_intensity import golden_volume

AS_IT_IS = Compose([Identity()])


def case(depth: int = 4, channels: int = 1) -> dict[str, Tensor]:
    """A volume whose voxels hold the slice's number (of the second channel plus 100), and a label likewise."""
    slices = torch.arange(depth).float()[None, :, None, None].expand(channels, -1, 6, 5)
    return {
        "image": MetaTensor(slices + 100 * torch.arange(channels)[:, None, None, None], affine=torch.eye(4)),
        "label": MetaTensor(slices[:1].to(torch.uint8), affine=torch.eye(4)),
    }


def windows_of(cases: list[Any], transform: Any = AS_IT_IS, volume_transform: Any = AS_IT_IS, **options: Any) -> Any:
    return SliceWindows(cases, volume_transform, transform, **{"progress": False} | options)


def numbers(item: Any) -> tuple[list[int], int]:
    return item["image"][:, 0, 0].int().tolist(), int(item["label"][0, 0, 0])


def test_golden_windows() -> None:
    """A scan, stored as scanners do, whose slices are those of the published preparation."""
    slices = golden_volume()
    scan = MetaTensor(slices.permute(2, 1, 0)[None].clone(), affine=torch.diag(torch.tensor([-1.0, -1, 4, 1])))
    volume_transform = Compose(
        [SlicesFirstd(["image", "label"]), PrepareSlicesd("image", "label", SlicePreparation([16, 16]))]
    )
    data = windows_of([{"image": scan, "label": scan.abs() % 55}], volume_transform=volume_transform)
    assert len(data) == 4
    golden = arrays("s2anet")["prep_pil_nearest"]
    for index in range(4):
        item = data[index]
        assert type(item["image"]) is Tensor and type(item["label"]) is Tensor
        assert item["image"].dtype == torch.uint8 and item["label"].shape == (1, 16, 16)
        assert np.array_equal(item["image"], golden[index])


@pytest.mark.parametrize(
    ("num_slices", "depth", "index", "window"),
    [
        (3, 4, 0, [0, 0, 1]),
        (3, 4, 1, [0, 1, 2]),
        (3, 4, 3, [2, 3, 3]),
        (3, 1, 0, [0, 0, 0]),
        (3, 2, 1, [0, 1, 1]),
        (1, 4, 2, [2]),
        (5, 4, 0, [0, 0, 0, 1, 2]),
        (5, 4, 3, [1, 2, 3, 3, 3]),
        (7, 2, 1, [0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_end_slices_are_repeated(num_slices: int, depth: int, index: int, window: list[int]) -> None:
    assert numbers(windows_of([case(depth)], num_slices=num_slices)[index]) == (window, index)


def test_slices_of_all_volumes_one_after_the_other() -> None:
    data = windows_of([case(2), case(1), case(3)])
    assert [numbers(data[index]) for index in range(len(data))] == [
        ([0, 0, 1], 0),
        ([0, 1, 1], 1),
        ([0, 0, 0], 0),
        ([0, 0, 1], 0),
        ([0, 1, 2], 1),
        ([1, 2, 2], 2),
    ]


def test_channels_of_a_slice_stay_together() -> None:
    assert numbers(windows_of([case(3, channels=2)])[1]) == ([0, 100, 1, 101, 2, 102], 1)


class Jitter(RandomizableTransform, MapTransform):
    """Adds one random number to the window, in place."""

    def __init__(self) -> None:
        MapTransform.__init__(self, ["image", "label"])
        RandomizableTransform.__init__(self)

    def __call__(self, data: Any) -> Any:
        data["image"] += float(self.R.uniform())
        data["label"] += 7
        return data


def elastic() -> Compose:
    return Compose([RandElasticSlicesd(["image", "label"]), RandMirrord("image", "label", [(1, 2)], prob=0.5)])


def noise(seed: int = 0) -> list[dict[str, Tensor]]:
    return [{"image": image((1, 4, 24, 20), f"n{seed}"), "label": (image((1, 4, 24, 20)) > 0).to(torch.uint8)}]


def drawn(data: Any, epoch: int) -> list[Tensor]:
    data.epoch = epoch
    return [torch.cat([item["image"], item["label"].float()]) for item in (data[index] for index in range(len(data)))]


@pytest.mark.parametrize("transform", [elastic, lambda: Compose([Jitter()])], ids=["elastic", "jitter"])
def test_what_is_drawn_follows_from_seed_epoch_and_slice(transform: Any) -> None:
    data = windows_of(noise(), transform(), seed=3)
    first = drawn(data, 1)
    other_order = [data[index] for index in (2, 0)]
    assert torch.equal(other_order[0]["image"], first[2][:-1]) and torch.equal(other_order[1]["image"], first[0][:-1])
    second = drawn(data, 2)
    again = drawn(windows_of(noise(), transform(), seed=3), 1)
    other = drawn(windows_of(noise(), transform(), seed=4), 1)
    for index in range(4):
        assert torch.equal(first[index], again[index])
        assert not torch.equal(first[index], second[index])
        assert not torch.equal(first[index], other[index])


def test_each_slice_has_its_own_draw() -> None:
    data = windows_of([case(6)], Compose([Jitter()]), num_slices=1)
    shifts = {round(float(data[index]["image"][0, 0, 0]) - index, 6) for index in range(6)}
    assert len(shifts) == 6


@pytest.mark.parametrize("cache_rate", [0.0, 0.5, 1.0])
def test_the_share_in_memory_makes_no_difference(cache_rate: float) -> None:
    cases = [*noise(), *noise(1)]
    expected = drawn(windows_of(cases, elastic()), 1)
    for one, other in zip(drawn(windows_of(cases, elastic(), cache_rate=cache_rate), 1), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_transforms_leave_the_volumes_alone(cache_rate: float) -> None:
    """Even those that write where they read: neighbours and later epochs see the scan."""
    cases = [case(3)]
    data = windows_of(cases, Compose([Jitter()]), cache_rate=cache_rate)
    for _ in range(2):
        for index in range(3):
            assert int(data[index]["label"][0, 0, 0]) == index + 7
    assert torch.equal(cases[0]["image"], case(3)["image"]) and torch.equal(cases[0]["label"], case(3)["label"])
    assert torch.equal(data.volumes[0]["label"].as_tensor(), case(3)["label"].as_tensor())


def test_volumes_in_memory_are_read_once() -> None:
    def reads(cache_rate: float) -> list[str]:
        read: list[str] = []

        class Load(Transform):
            def __call__(self, name: str) -> Any:
                read.append(name)
                return case(3)

        data = windows_of(["a", "b"], volume_transform=Compose([Load()]), cache_rate=cache_rate)
        assert numbers(data[4]) == ([0, 1, 2], 1)
        return read

    assert reads(1.0) == ["a", "b"]
    assert reads(0.0) == ["a", "b", "b"]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_batch_windows(workers: int) -> None:
    data = windows_of([case(3), case(2)], Compose([Jitter()]), seed=5)
    loader = DataLoader(data, batch_size=3, num_workers=workers, shuffle=False)
    batches = list(loader)
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 3, 6, 5), (2, 3, 6, 5)]
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), torch.stack([d["image"] for d in data]))


@pytest.mark.parametrize("num_slices", [0, 2, -3])
def test_windows_without_a_middle_are_refused(num_slices: int) -> None:
    with pytest.raises(InputError, match=f"num_slices is {num_slices}: give an odd number"):
        windows_of([case()], num_slices=num_slices)
