# SPDX-License-Identifier: Apache-2.0
"""Random transforms of windows: image and label alike, the same again for the same seed, left and right kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from custom_nets.datasets.sides import left_right_pairs
from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.slices.augmentation import RandElasticSlicesd, RandMirrord
from custom_nets.training.reproducible import ReproducibleCacheDataset

KEYS = ["image", "label"]


def window(size: tuple[int, int] = (48, 64), slices: int = 3) -> dict[str, Any]:
    """A window whose slices and label map are all one picture with values 0 to 4."""
    picture = torch.arange(size[0])[:, None] // 5 + torch.arange(size[1]) // 7
    picture = (picture % 5).to(torch.uint8)
    return {"image": picture.expand(slices, *size).contiguous(), "label": picture[None], "case": "a"}


def test_image_and_label_are_deformed_alike() -> None:
    data = window()
    result = RandElasticSlicesd(KEYS).set_random_state(0)(data)
    assert result["image"].dtype == result["label"].dtype == torch.uint8
    assert torch.equal(result["image"], result["label"].expand(3, -1, -1))
    assert not torch.equal(result["label"], data["label"]) and result["case"] == "a"
    assert set(result["label"].unique().tolist()) <= {0, 1, 2, 3, 4}
    assert torch.equal(data["image"], window()["image"]), "the cached window must stay as it was"


def test_channel_smoothing_changes_next_to_nothing() -> None:
    quick, exact = (
        RandElasticSlicesd(KEYS, channel_smoothing=option).set_random_state(3)(window((96, 96)))
        for option in (False, True)
    )
    for key in KEYS:
        assert exact[key].shape == quick[key].shape
        assert (exact[key] == quick[key]).float().mean() > 0.99


@pytest.mark.parametrize("slices", [1, 5])
def test_metadata_and_numbers_of_slices(slices: int) -> None:
    data = window(slices=slices)
    data["image"] = MetaTensor(data["image"], meta={"filename_or_obj": "a.nii.gz"})
    result = RandElasticSlicesd(KEYS).set_random_state(1)(data)
    assert result["image"].meta["filename_or_obj"] == "a.nii.gz" and type(result["label"]) is Tensor
    assert result["image"].shape == (slices, 48, 64)
    assert torch.equal(result["image"][-1:].as_tensor(), result["label"])


@pytest.mark.parametrize(("prob", "lowest", "highest"), [(0.0, 0, 0), (0.5, 12, 28), (1.0, 40, 40)])
def test_share_of_deformed_windows(prob: float, lowest: int, highest: int) -> None:
    transform = RandElasticSlicesd(KEYS, prob=prob).set_random_state(5)
    data = window((16, 16))
    deformed = sum(not torch.equal(transform(data)["label"], data["label"]) for _ in range(40))
    assert lowest <= deformed <= highest


def test_without_strength_a_window_stays() -> None:
    result = RandElasticSlicesd(KEYS, alpha=0.0, alpha_affine=0.0).set_random_state(0)(window())
    assert torch.equal(result["image"], window()["image"])


def test_strength_is_a_share_of_the_slice() -> None:
    """A slice twice as large is moved by twice as many pixels."""

    def moved(side: int) -> float:
        columns = torch.arange(side, dtype=torch.float32).expand(1, side, side)
        transform = RandElasticSlicesd("image", alpha=0.0).set_random_state(7)
        shifts = [(transform({"image": columns})["image"] - columns).abs().mean() for _ in range(20)]
        return float(torch.stack(shifts).mean())

    assert moved(128) == pytest.approx(2 * moved(64), rel=0.05)


def test_seed_epoch_and_case_decide() -> None:
    def epoch(number: int, seed: int = 0) -> list[Tensor]:
        cases = [window((16, 16)), window((16, 16))]
        dataset = ReproducibleCacheDataset(cases, Compose([RandElasticSlicesd(KEYS)]), seed=seed, progress=False)
        dataset.epoch = number
        return [dataset[index]["label"] for index in range(2)]

    first, again, second, other = epoch(1), epoch(1), epoch(2), epoch(1, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 1.5}, "prob is 1.5: give a probability"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"alpha_affine": -0.1}, "alpha_affine is -0.1"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandElasticSlicesd(KEYS, **options)


def test_slices_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[\(8, 8\), \(48, 64\)\] cannot be deformed alike"):
        RandElasticSlicesd(KEYS)({"image": window()["image"], "label": torch.zeros(1, 8, 8)})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32], ids=str)
def test_a_mirror_exchanges_left_and_right(dtype: torch.dtype) -> None:
    pairs = left_right_pairs({0: "background", 1: "Femur, left", 2: "Femur, right", 3: "Sacrum"})
    label = torch.tensor([[[0, 1, 1, 3, 2, 60]]], dtype=dtype)
    image = torch.arange(12, dtype=torch.uint8).reshape(2, 1, 6)
    mirror = RandMirrord("image", "label", pairs, prob=1.0)
    result = mirror({"image": image, "label": MetaTensor(label)})
    assert torch.equal(result["image"], image.flip(-1))
    assert result["label"].dtype == dtype and result["label"].tolist() == [[[60, 1, 3, 2, 2, 0]]]
    assert mirror(result)["label"].tolist() == label.tolist()


def test_a_mirror_is_off_by_itself() -> None:
    mirror = RandMirrord("image", "label", [(1, 2)]).set_random_state(0)
    assert all(torch.equal(mirror(window())["image"], window()["image"]) for _ in range(5))


def test_the_54_structures_can_be_mirrored() -> None:
    pairs = left_right_pairs(bundle("s2anet").labels)
    label = torch.arange(55, dtype=torch.uint8).reshape(1, 1, 55)
    mirrored = RandMirrord("image", "label", pairs, prob=1.0)({"image": label, "label": label})["label"].flip(-1)
    names = bundle("s2anet").labels
    for before, after in zip(label.flatten().tolist(), mirrored.flatten().tolist(), strict=True):
        assert names[after] == names[before].replace("left", "?").replace("right", "left").replace("?", "right")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": [(1, 2), (2, 3)]}, "each label once"),
        ({"pairs": [(1, 2, 3)]}, "give pairs of labels"),
        ({"pairs": [(1, -2)]}, "pairs is"),
        ({"pairs": [], "prob": -0.1}, "prob is -0.1"),
    ],
)
def test_unfit_mirrors_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandMirrord("image", "label", **options)
