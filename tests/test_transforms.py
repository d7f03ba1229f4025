# SPDX-License-Identifier: Apache-2.0
"""The dictionary transforms: spacing without side effects, the lesion threshold, removal of small components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged, Spacingd, Transform

from custom_nets.errors import InputError
from custom_nets.transforms import LesionThresholdd, RemoveSmallComponentsd, SafeSpacingd
from tests.recipe import arrays, document

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])
SPACING = {"keys": ["image", "label"], "pixdim": [2.0, 2.0, 2.0], "mode": ["bilinear", "nearest"]}


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    """One case as MONAI Label or a data list hands it on: keys that begin with "image_" and are no metadata."""
    rng = np.random.default_rng(0)
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(rng.random((8, 9, 5), np.float32).round(), AFFINE), tmp_path / f"{name}.nii.gz")
    path = str(tmp_path / "image.nii.gz")
    return {
        "image": path,
        "label": str(tmp_path / "label.nii.gz"),
        "image_path": path,
        "image_id": 7,
        "label_raters": [1],
    }


def loaded(case: dict[str, Any], spacing: Transform) -> Compose:
    return Compose([LoadImaged(["image", "label"], ensure_channel_first=True), spacing])


def test_plain_spacingd_still_has_the_defect(case: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError) as raised:
        loaded(case, Spacingd(**SPACING))(case)
    assert "has no attribute 'update'" in str(raised.value.__cause__)


@pytest.mark.parametrize("lazy", [False, True])
def test_safe_spacingd_keeps_other_entries_and_resamples_as_spacingd(case: dict[str, Any], lazy: bool) -> None:
    result = loaded(case, SafeSpacingd(**SPACING, lazy=lazy))(case)
    assert {key: result[key] for key in case if "_" in key} == {key: case[key] for key in case if "_" in key}
    plain = loaded(case, Spacingd(**SPACING))({key: case[key] for key in ("image", "label")})
    for key in ("image", "label"):
        assert torch.equal(result[key], plain[key]) and torch.equal(result[key].affine, plain[key].affine)
    assert result["image"].pixdim.tolist() == [2.0, 2.0, 2.0]


def test_invertd_goes_back_through_safe_spacingd(case: dict[str, Any]) -> None:
    preprocessing = loaded(case, SafeSpacingd(**SPACING))
    data = preprocessing(case)
    data["pred"] = MetaTensor(torch.ones_like(data["image"]), meta=data["image"].meta)
    result = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)(data)
    assert result["pred"].shape == (1, 8, 9, 5)
    np.testing.assert_allclose(result["pred"].affine, AFFINE)


def label_of(mask: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> MetaTensor:
    return MetaTensor(torch.as_tensor(mask)[None], affine=torch.diag(torch.tensor([*spacing, 1.0])))


@pytest.mark.parametrize(("connectivity", "smallest"), [(26, 3), (26, 5), (6, 5)])
def test_removal_fulfils_the_golden_numbers(connectivity: int, smallest: int) -> None:
    golden = document("rsanet")["reference_not_official"][f"remove_small_conn{connectivity}_min{smallest}"]
    transform = RemoveSmallComponentsd("pred", min_volume=smallest, connectivity=connectivity)
    assert transform({"pred": label_of(arrays("rsanet")["mask_pred"])})["pred"].sum() == golden["voxels"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 3.0), (-1.0, 1.5, 2.0)])
def test_smallest_volume_is_in_cubic_millimetres(spacing: tuple[float, float, float]) -> None:
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[1, 1, 1] = 1
    for volume, kept in ((2.9, 1), (3.0, 1), (3.1, 0)):
        label = label_of(mask, spacing)
        assert RemoveSmallComponentsd("pred", min_volume=volume)({"pred": label})["pred"].sum() == kept
        assert label.sum() == 1, "the input is not changed"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_removal_takes_every_label_by_itself_and_keeps_type_and_metadata(dtype: torch.dtype) -> None:
    mask = np.zeros((4, 4, 6), np.uint8)
    mask[0, 0, :3], mask[0, 0, 3], mask[3, 3, :4] = 1, 2, 2  # 3 voxels of 1 that touch a single voxel of 2
    label = label_of(mask).to(dtype)
    label.meta["filename_or_obj"] = "a.nii.gz"
    result = RemoveSmallComponentsd("pred", min_volume=3)({"pred": label})["pred"]
    assert [int((result == value).sum()) for value in (1, 2)] == [3, 4]
    assert result.dtype == dtype and result.meta["filename_or_obj"] == "a.nii.gz"


def test_removal_off_returns_the_same_label() -> None:
    label = label_of(np.eye(3, dtype=np.uint8)[None])
    assert RemoveSmallComponentsd("pred")({"pred": label})["pred"] is label


def test_threshold_of_one_half_is_argmax() -> None:
    logits = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = 0.0  # ties
    probabilities = MetaTensor(logits.softmax(0), affine=torch.eye(4) * 2)
    label = LesionThresholdd("pred")({"pred": probabilities})["pred"]
    assert label.dtype == torch.uint8 and label.shape == (1, 4, 5, 6)
    assert torch.equal(label[0].long().as_tensor(), logits.argmax(0))
    assert torch.equal(label.affine, probabilities.affine)


def test_lower_threshold_finds_more() -> None:
    ramp = torch.linspace(0, 1, 11).view(1, 11, 1, 1)
    data = {"pred": torch.cat([1 - ramp, ramp])}
    assert [int(LesionThresholdd("pred", threshold=t)(data)["pred"].sum()) for t in (0.15, 0.45, 0.85)] == [9, 6, 2]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_one_channel_is_the_lesions(threshold: float) -> None:
    lesion = MetaTensor(torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(0)), affine=torch.eye(4) * 2)
    lesion[0, 0, 0, 0] = threshold  # strictly above is lesion
    transform = LesionThresholdd("pred", threshold=threshold)
    label = transform({"pred": lesion})["pred"]
    assert label.dtype == torch.uint8 and label.shape == (1, 4, 5, 6)
    assert torch.equal(label.as_tensor(), (lesion.as_tensor() > threshold).byte()) and label[0, 0, 0, 0] == 0
    assert torch.equal(label.affine, lesion.affine)
    assert torch.equal(label, transform({"pred": torch.cat([1 - lesion, lesion])})["pred"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LesionThresholdd("pred", threshold=1.5), "1.5"),
        (lambda: LesionThresholdd("pred")({"pred": torch.zeros(3, 2, 2, 2)}), "'pred' has 3"),
        (lambda: RemoveSmallComponentsd("pred", min_volume=-1), "-1 mm³"),
        (lambda: RemoveSmallComponentsd("pred", connectivity=8), "connectivity is 8"),
        (lambda: RemoveSmallComponentsd("pred", min_volume=3)({"pred": torch.zeros(2, 2, 2, 2)}), "'pred' has 2"),
    ],
)
def test_wrong_use_is_answered_with_the_value_found(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_transforms_work_from_a_config() -> None:
    config = {
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "custom_nets.transforms.LesionThresholdd", "keys": "pred", "threshold": 0.5},
                {"_target_": "custom_nets.transforms.RemoveSmallComponentsd", "keys": "pred", "min_volume": 3.0},
            ],
        }
    }
    mask = torch.as_tensor(arrays("rsanet")["mask_pred"]).float()
    result = ConfigParser(config).get_parsed_content("postprocessing")({"pred": torch.stack([1 - mask, mask])})
    assert result["pred"].sum() == 1567
