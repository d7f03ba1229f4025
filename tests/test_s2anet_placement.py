# SPDX-License-Identifier: Apache-2.0
"""Segmentations of s2anet: every label lies on the scan where it belongs, however the scan is stored and sliced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from torch import nn

from tests.bundle_runs import Runs, bright_slices, list_cases, write

pytestmark = pytest.mark.parametrize("bundle_name", ["s2anet"], indirect=True, scope="session")

#: Axial slices, turned a little about the patient's long axis: of R, A, S.
TURNED = np.array([[0.96, -0.28, 0, -20], [0.28, 0.96, 0, 30], [0, 0, 1, -40], [0, 0, 0, 1]]) @ np.diag([1, 0.9, 6, 1])


class Bright(nn.Module):
    """In the place of the network: one label where the middle slice is bright, or of a side on each side."""

    def __init__(self, num_slices: int, out_channels: int, **others: Any) -> None:
        super().__init__()
        self.middle, self.classes = num_slices // 2, out_channels
        self.labels = nn.Parameter(torch.tensor([7.0, 7.0]))  # on the patient's right and left

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        bright = 200 * (windows[:, self.middle] - 1.5)
        logits = torch.stack([torch.zeros_like(bright), *[torch.full_like(bright, -999.0)] * (self.classes - 1)], dim=1)
        half = bright.shape[-1] // 2
        logits[:, int(self.labels[0]), :, :half] = bright[..., :half]
        logits[:, int(self.labels[1]), :, half:] = bright[..., half:]
        return logits


def bright(folder: Path, right: int = 7, left: int = 7) -> dict[str, Any]:
    """Options with which a run labels what is bright."""
    torch.save({"labels": torch.tensor([float(right), float(left)])}, folder / "bright.pt")
    return {"checkpoint": str(folder / "bright.pt"), "network_def___target_": f"{__name__}.Bright"}


def one_scan(runs: Runs, image: np.ndarray, affine: Any = None) -> Runs:
    """Runs on one scan to segment."""
    write(runs.folder / "data" / "scan.nii.gz", image, affine)
    list_cases(runs.folder / "data", testing=[{"image": "scan.nii.gz"}])
    return Runs(runs.name, runs.folder / "data", runs.folder)


def predicted(runs: Runs, **options: Any) -> nibabel.Nifti1Image:
    """The label map of the one scan."""
    runs.run("inference", **options)
    (path,) = runs.eval.rglob("*_seg.nii.gz")
    return nibabel.load(path)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "RSA", "SPR"])
@pytest.mark.parametrize(
    "options",
    [{"windows": "sliding"}, {"patch_size": [48, 40]}, {"patch_size": [48, 40], "num_slices": 1, "tta": True}],
    ids=["sliding", "resized", "2D mirrored"],
)
def test_the_result_lies_voxel_for_voxel_on_the_scan(runs: Runs, codes: str, options: dict[str, Any]) -> None:
    """Oblique, flipped, and with thick slices along any axis of the file; whole slices that have the network's size."""
    image = noise((40, 48, 5))
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = TURNED @ inv_ornt_aff(turn, image.shape)
    scan = one_scan(runs, apply_orientation(image, turn), affine)
    found = predicted(scan, **bright(runs.folder), **options)
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    assert found.get_data_dtype() == np.uint8
    expected = apply_orientation(7 * bright_slices(image.astype(float), 1.5), turn)
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


@pytest.mark.parametrize("resize_back", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(61, 90, 4), (20, 9, 1)], ids=str)
def test_resized_slices_return_to_their_size(runs: Runs, resize_back: str, shape: tuple[int, int, int]) -> None:
    """A bright box, to a pixel of the network."""
    image = np.zeros(shape, np.int16)
    x, y = shape[0] // 4, shape[1] // 3
    image[x : 2 * x, y : 2 * y] = 100
    scan = one_scan(runs, image, TURNED)
    found = np.asarray(predicted(scan, resize_back=resize_back, **bright(runs.folder)).dataobj) > 0
    assert found.shape == shape
    inner, outer = np.zeros((2, *shape), bool)
    for box, more in ((inner, -3), (outer, 3)):
        box[max(x - more, 0) : 2 * x + more, max(y - more, 0) : 2 * y + more] = True
    assert found[inner].all() and not found[~outer].any() and found.any()


def test_mirrored_slices_keep_left_and_right(runs: Runs) -> None:
    """Labels 11 and 12 are left and right of one structure; the scan's first axis runs to the patient's left."""
    image = noise((40, 48, 5))
    scan = one_scan(runs, image, np.diag([-1, 1, 6, 1]))
    expected = bright_slices(image.astype(float), 1.5) * np.where(np.arange(40) < 20, 12, 11)[:, None, None]
    for tta in (False, True):
        found = predicted(scan, tta=tta, patch_size=[48, 40], **bright(runs.folder, right=12, left=11))
        np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


@pytest.mark.parametrize("workflow", ["inference", "evaluate"])
def test_sagittal_slices_have_no_mirror_image(trained: Runs, runs: Runs, workflow: str) -> None:
    given = {"checkpoint": str(trained.models / "model.pt"), "plane": "sagittal", "tta": True}
    assert "tta" in runs.refusal(workflow, **given)
    assert not runs.eval.exists()


def test_the_largest_piece_of_each_label(runs: Runs) -> None:
    image = np.zeros((40, 48, 5), np.int16)
    image[5:15, 5:15] = image[5:15, 30:34] = image[25:35, 30:38] = image[25:35, 5:7] = 100
    scan = one_scan(runs, image, np.diag([-1, 1, 6, 1]))
    options = {"patch_size": [48, 40], **bright(runs.folder, right=12, left=11)}
    expected = np.zeros(image.shape)
    expected[5:15, 5:15], expected[25:35, 30:38] = 12, 11
    assert (np.asarray(predicted(scan, **options).dataobj) > 0).sum() == (image > 0).sum()
    np.testing.assert_array_equal(np.asarray(predicted(scan, keep_largest=True, **options).dataobj), expected)


def test_intensities_that_were_scaled_before(runs: Runs) -> None:
    """As they are, and not by the limits of each slice."""
    image = noise((32, 32, 3)) % 256
    found = predicted(one_scan(runs, image, np.diag([1, 1, 6, 1])), intensity="none", **bright(runs.folder))
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0, (image / 255 - 0.196) / 0.205 > 1.5)
