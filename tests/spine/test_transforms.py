# SPDX-License-Identifier: Apache-2.0
"""The preparation of sagittal scans: golden volumes, ways back, any size, and windows of slices."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, NormalizeIntensityd

from custom_nets.errors import InputError
from custom_nets.spine.cropping import central_rows, slice_padding
from custom_nets.spine.transforms import CropCentrald, PadSlicesd, RandSliceWindowd, ResizeInPlaned
from custom_nets.training.reproducible import ReproducibleCacheDataset
from custom_nets.transforms import SafeSpacingd
from tests.golden import draw
from tests.recipe import arrays, document

GOLDEN = document("spineparsenet")["preprocess"]
ARRAYS = arrays("spineparsenet")
AFFINE = torch.tensor([[4.4, 0, 0, -30], [0, 0.7, 0, 5], [0, 0, 0.7, 9], [0, 0, 0, 1]], dtype=torch.float64)
NORMALISE = NormalizeIntensityd("image", subtrahend=466.0, divisor=379.0)


def meta(array: Any) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array), affine=AFFINE, meta={"filename_or_obj": "case.nii.gz"})


@cache
def golden_case(name: str) -> dict[str, MetaTensor]:
    """Volume and label map of the recipe, which has the slices last."""
    rows, columns, slices = GOLDEN[name]["volume_shape_HWD"]
    volume = 466 + 379 * draw("volume", (rows, columns, slices))
    label = np.clip(np.rint(5 * draw("volume_label", (rows // 8, columns // 8, slices)) + 9.5), 0, 19)
    label = label.repeat(8, 0).repeat(8, 1)
    slices_first = {"image": volume.astype(np.float32), "label": label.astype(np.uint8)}
    return {key: meta(np.moveaxis(array, -1, 0)[None].copy()) for key, array in slices_first.items()}


def chain(stage: str) -> Compose:
    keys, modes = ["image", "label"], ["spline", "nearest"]
    if stage == "coarse":
        return Compose(
            [CropCentrald(keys), ResizeInPlaned(keys, [128, 256], modes), PadSlicesd(keys, slices=18), NORMALISE]
        )
    resize = ResizeInPlaned(keys, [256, 512], modes)
    steps = [NORMALISE, resize] if stage == "fine_train" else [resize, NORMALISE]
    return Compose([CropCentrald(keys), *steps])


@pytest.mark.parametrize("stage", ["coarse", "fine_test", "fine_train"])
@pytest.mark.parametrize("name", ["up", "down"])
def test_golden_volumes(name: str, stage: str) -> None:
    golden = GOLDEN[name][stage]
    found = chain(stage)(golden_case(name))["image"][0].double()
    rows, columns = (n // 16 for n in golden["shape"][1:])
    np.testing.assert_allclose(found[:, ::rows, ::columns], ARRAYS[f"prep_{name}_{stage}_s"], atol=1e-4)
    assert list(found.shape) == golden["shape"]
    numbers = [found.mean(), found.std(correction=0), found.min(), found.max()]
    np.testing.assert_allclose(numbers, [golden[key] for key in ("mean", "std", "min", "max")], atol=1e-4)
    assert found.norm().item() == pytest.approx(golden["l2"], rel=1e-5)


@pytest.mark.parametrize("name", ["up", "down"])
def test_golden_labels(name: str) -> None:
    label = chain("coarse")(golden_case(name))["label"]
    counts = np.bincount(label.numpy().ravel(), minlength=20)
    counts[0] -= (18 - golden_case(name)["label"].shape[1]) * 128 * 256  # the recipe counts before the padding
    assert counts.tolist() == GOLDEN[name]["coarse_label_hist"]
    assert label.dtype == torch.uint8


@pytest.mark.parametrize("name", ["up", "down"])
def test_golden_crop_and_padding(name: str) -> None:
    rows, _, slices = GOLDEN[name]["volume_shape_HWD"]
    first, end = GOLDEN[name]["crop"]
    assert central_rows(rows) == (first, rows + end)
    assert list(slice_padding(slices)) == GOLDEN[name]["pad"]


@pytest.mark.parametrize(
    ("height", "share", "rows"),
    [(7, 0.5, (1, 6)), (196, 0.5, (49, 147)), (10, 1, (0, 10)), (20, 0.9, (1, 19)), (1, 0.5, (0, 1)), (9, 0.2, (3, 6))],
)
def test_central_rows(height: int, share: float, rows: tuple[int, int]) -> None:
    assert central_rows(height, share) == rows


@pytest.mark.parametrize(("count", "padding"), [(17, (1, 0)), (18, (0, 0)), (25, (0, 0)), (1, (9, 8)), (12, (3, 3))])
def test_slice_padding(count: int, padding: tuple[int, int]) -> None:
    assert slice_padding(count) == padding


@pytest.mark.parametrize(("slices", "height"), [(5, 16), (4, 19), (9, 10)])
def test_crop_and_padding_have_a_way_back(slices: int, height: int) -> None:
    image = meta(torch.rand(1, slices, height, 6))
    there = Compose([CropCentrald("image"), PadSlicesd("image", 8)])
    found = there({"image": image})
    first, end = central_rows(height)
    assert found["image"].shape == (1, max(8, slices), end - first, 6)
    found["pred"] = meta(found["image"].as_tensor() * 2)
    back = Invertd("pred", there, "image", nearest_interp=False, to_tensor=True)(found)["pred"]
    expected = torch.zeros(1, slices, height, 6)
    expected[:, :, first:end] = image[:, :, first:end].as_tensor() * 2
    assert torch.equal(back.as_tensor(), expected)
    torch.testing.assert_close(back.affine, AFFINE)


def test_affines_follow() -> None:
    image = meta(torch.rand(1, 3, 40, 20))
    found = Compose([CropCentrald("image"), ResizeInPlaned("image", [40, 10]), PadSlicesd("image", 6)])(
        {"image": image}
    )
    corner = torch.tensor([-0.5, -0.5, -0.5, 1.0], dtype=torch.float64)
    there = found["image"].affine @ (corner + torch.tensor([2.0, 0, 0, 0]))
    torch.testing.assert_close(there, AFFINE @ (corner + torch.tensor([0, 10.0, 0, 0])))
    assert found["image"].pixdim.tolist() == pytest.approx([4.4, 0.35, 1.4])
    assert image.affine is not found["image"].affine and torch.equal(image.affine, AFFINE)


@pytest.mark.parametrize("height", [98, 103, 107, 161, 196, 392, 412])
def test_any_size_becomes_the_size_wanted(height: int) -> None:
    """The published arithmetic misses by a pixel for these."""
    case = {"image": torch.rand(1, 2, height, 103), "label": torch.randint(0, 20, (1, 2, height, 103)).byte()}
    found = Compose([CropCentrald(["image", "label"]), ResizeInPlaned(["image", "label"], (128, 256), "nearest")])(case)
    assert found["image"].shape == found["label"].shape == (1, 2, 128, 256)
    assert found["label"].dtype == torch.uint8


def test_whole_numbers_become_floating_point() -> None:
    found = ResizeInPlaned("image", (8, 8))({"image": torch.full((1, 2, 4, 4), 300, dtype=torch.int16)})["image"]
    assert found.dtype == torch.float32 and (found[..., 3:5, 3:5] - 300).abs().max() < 15


def test_slices_alone_are_resampled() -> None:
    image = meta(torch.rand(1, 5, 8, 9))
    found = SafeSpacingd("image", pixdim=[2.2, float("nan"), float("nan")], mode="bilinear")({"image": image})["image"]
    assert found.shape == (1, 9, 8, 9) and found.pixdim.tolist() == pytest.approx([2.2, 0.7, 0.7])
    torch.testing.assert_close(found[:, ::2].as_tensor(), image.as_tensor(), atol=1e-6, rtol=0)


def test_windows_of_slices_are_shared_and_differ_between_epochs() -> None:
    ramp = torch.arange(30.0).reshape(1, 30, 1, 1).expand(1, 30, 2, 2)
    cases = [{"image": meta(ramp.clone()), "label": ramp.clone()} for _ in range(2)]
    dataset = ReproducibleCacheDataset(
        cases, Compose([RandSliceWindowd(["image", "label"], 18)]), seed=1, progress=False
    )
    starts = []
    for epoch in (0, 1, 2, 3, 0):
        dataset.epoch = epoch
        for index in (0, 1):
            found = dataset[index]
            start = int(found["image"][0, 0, 0, 0])
            assert torch.equal(found["image"].as_tensor(), ramp[:, start : start + 18])
            assert torch.equal(found["label"].as_subclass(torch.Tensor), ramp[:, start : start + 18])
            starts.append(start)
    assert starts[:2] == starts[-2:] and len(set(starts)) > 4
    assert found["image"].affine[0, 3] == pytest.approx(-30 + 4.4 * starts[-1])


def test_all_windows_are_drawn_and_few_slices_stay() -> None:
    transform = RandSliceWindowd("image", 3).set_random_state(0)
    starts = {int(transform({"image": torch.arange(5).reshape(1, 5, 1, 1)})["image"].min()) for _ in range(40)}
    assert starts == {0, 1, 2}
    whole = torch.rand(1, 3, 2, 2)
    assert transform({"image": whole})["image"] is whole


def test_unfit_options_are_refused() -> None:
    with pytest.raises(InputError, match="crop_share is 0: give a share of the rows above 0"):
        CropCentrald("image", share=0)
    with pytest.raises(InputError, match="the number of slices is 0: give a whole number of at least 1"):
        PadSlicesd("image", 0)
    with pytest.raises(InputError, match=r"the size of slices is \[0, 256\]: give rows and columns"):
        ResizeInPlaned("image", [0, 256])
    with pytest.raises(InputError, match="the resizing is 'cubic': choose spline"):
        ResizeInPlaned("image", [8, 8], "cubic")
    with pytest.raises(InputError, match="volumes of 4 and 5 slices cannot share a window"):
        RandSliceWindowd(["image", "label"], 3)({"image": torch.rand(1, 5, 2, 2), "label": torch.rand(1, 4, 2, 2)})
