# SPDX-License-Identifier: Apache-2.0
"""The dictionary transforms that prepare volumes and windows: same pixels for image and label, metadata kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.resize import nearest_indices
from custom_nets.slices.transforms import NormaliseSlicesd, PrepareSlicesd
from tests.recipe import arrays
from tests.slices.test_intensity import golden_volume, windows

AFFINE = np.array([[0.0, 0.0, -0.7, 10.0], [0.0, 0.6, 0.1, -20.0], [5.0, 0.0, 0.0, 30.0], [0.0, 0.0, 0.0, 1.0]])


def case(largest: int = 54) -> dict[str, Any]:
    """The golden volume with a label map, metadata as of a loaded file."""
    label = torch.arange(4 * 10 * 12, dtype=torch.float32).reshape(1, 4, 10, 12) % (largest + 1)
    meta = {"filename_or_obj": "case.nii.gz"}
    return {
        "image": MetaTensor(golden_volume()[None].float(), affine=torch.from_numpy(AFFINE), meta=dict(meta)),
        "label": MetaTensor(label, affine=torch.from_numpy(AFFINE), meta=dict(meta)),
        "case": "a",
    }


def prepared(data: dict[str, Any], **options: Any) -> dict[Any, Any]:
    return PrepareSlicesd("image", "label", SlicePreparation(**{"size": [16, 16], **options}))(data)


def test_golden_volume_and_then_golden_input() -> None:
    result = prepared(case())
    assert np.array_equal(windows(result["image"][0].as_tensor()), arrays("s2anet")["prep_pil_nearest"])
    normalised = NormaliseSlicesd("image")(result)["image"]
    assert type(normalised) is Tensor and normalised.dtype == torch.float32
    np.testing.assert_allclose(windows(normalised[0]), arrays("s2anet")["prep_normalised"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["accumulated", "endpoints"])
def test_a_label_takes_the_pixels_that_its_image_takes(rule: str) -> None:
    data = case()
    result = prepared(data, index_rule=rule)
    rows, columns = nearest_indices(10, 16, rule), nearest_indices(12, 16, rule)
    assert torch.equal(result["label"], data["label"][:, :, rows][..., columns].byte())
    assert result["case"] == "a"


@pytest.mark.parametrize(("largest", "dtype"), [(54, torch.uint8), (255, torch.uint8), (256, torch.int16)])
def test_type_of_the_label(largest: int, dtype: torch.dtype) -> None:
    label = prepared(case(largest), size=None)["label"]
    assert label.dtype == dtype and label.max() == largest


@pytest.mark.parametrize(("rule", "shift"), [("accumulated", 0.5), ("endpoints", 0.0)])
def test_geometry_follows_the_pixels(rule: str, shift: float) -> None:
    data = case()
    result = prepared(data, index_rule=rule)
    for key in ("image", "label"):
        assert result[key].meta["filename_or_obj"] == "case.nii.gz"
        first = np.array([3, -shift, -shift, 1])  # an edge of the slice, or the centre of its first pixel
        last, last_before = np.array([2, 15 + shift, 15 + shift, 1]), np.array([2, 9 + shift, 11 + shift, 1])
        np.testing.assert_allclose(result[key].affine.numpy() @ first, AFFINE @ first, atol=1e-6)
        np.testing.assert_allclose(result[key].affine.numpy() @ last, AFFINE @ last_before, atol=1e-6)
        np.testing.assert_array_equal(data[key].affine, AFFINE)


def test_plain_tensors_stay_plain() -> None:
    data = {key: value.as_tensor() for key, value in case().items() if key != "case"}
    result = prepared(data)
    assert type(result["image"]) is Tensor and type(result["label"]) is Tensor


def test_missing_label_may_be_allowed() -> None:
    data = {"image": case()["image"]}
    with pytest.raises(KeyError):
        prepared(data)
    transform = PrepareSlicesd("image", "label", SlicePreparation([8, 8]), allow_missing_keys=True)
    assert transform(data)["image"].shape == (1, 4, 8, 8)


@pytest.mark.parametrize("value", [-1.0, 40000.0, float("nan")])
def test_labels_that_cannot_be_are_refused(value: float) -> None:
    data = case()
    data["label"][0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"case\.nii\.gz holds .* a label map has whole numbers from 0 to 32767"):
        prepared(data, size=None)


@pytest.mark.parametrize("options", [{"std": -1.0}, {"mean": float("inf")}])
def test_unfit_normalisation_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        NormaliseSlicesd("image", **options)
