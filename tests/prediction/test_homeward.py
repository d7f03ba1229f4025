# SPDX-License-Identifier: Apache-2.0
"""Scores brought back plane by plane and class by class are those of MONAI's windows and inverse transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Compose,
    CropForegroundd,
    DivisiblePadd,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    SpatialPadd,
)
from scipy.spatial.transform import Rotation

from custom_nets.prediction.homeward import Homeward
from custom_nets.prediction.native_grid import native_grid
from custom_nets.prediction.receivers import (
    AboveThreshold,
    ProbabilityMaps,
    Regions,
    RunningMaximum,
    SpreadMap,
    oriented,
)
from custom_nets.prediction.windows import StreamedWindows
from custom_nets.transforms import LesionThresholdd, SafeSpacingd
from custom_nets.tumours.transforms import RegionsFromLogitsd

AFFINES = {
    "upright": np.diag([1.3, 0.9, 2.0, 1.0]),
    "flipped": np.array([[-1.3, 0, 0, 30], [0, -0.9, 0, 11], [0, 0, 2.0, -7], [0, 0, 0, 1.0]]),
    "turned": np.array([[0, -1.2, 0, 10], [0, 0, 2.5, -5], [1.1, 0, 0, 2], [0, 0, 0, 1.0]]),
    "oblique": np.eye(4),
}
SHAPE = (23, 31, 12)
_ROTATION = Rotation.from_euler("xyz", [8, -5, 96], degrees=True).as_matrix()
AFFINES["oblique"][:3, :3] = _ROTATION @ np.diag([1.5, 1.2, 2.0])


def _steps(spacing: Any, crop: bool, pad: bool) -> Compose:
    steps: list[Any] = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="SAR", labels=None),
    ]
    steps += [SafeSpacingd("image", pixdim=spacing, mode="bilinear")] if spacing else []
    steps += [CropForegroundd("image", source_key="image", margin=2, allow_smaller=True)] if crop else []
    steps += [EnsureTyped("image", dtype=torch.float32)]
    steps += [DivisiblePadd("image", k=8), SpatialPadd("image", spatial_size=[24, 40, 24])] if pad else []
    return Compose(steps)


@pytest.fixture(scope="module", params=list(AFFINES))
def scan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    voxels = np.random.default_rng(0).random(SHAPE, dtype=np.float32) + 1
    voxels[:5], voxels[:, -6:] = 0, 0
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, AFFINES[request.param]), path)
    return str(path)


def _network(classes: int) -> Any:
    torch.manual_seed(1)
    layer = torch.nn.Conv3d(1, classes, 3, padding=1)
    return lambda windows: layer(windows).mul(3)


@pytest.mark.parametrize("crop", [False, True], ids=["whole", "cropped"])
@pytest.mark.parametrize("pad", [False, True], ids=["", "padded"])
@pytest.mark.parametrize(
    "spacing", [None, [1.0, 1.0, 1.0], [1.4, float("nan"), 0.8]], ids=["as it is", "1 mm", "mixed"]
)
@torch.no_grad()
def test_scores_and_labels_are_those_of_the_full_computation(
    scan: str, spacing: Any, crop: bool, pad: bool, tmp_path: Path
) -> None:
    preparation = _steps(spacing, crop, pad)
    prepared = preparation({"image": scan})
    network, windows = _network(5), SlidingWindowInferer([16, 16, 8], 2, 0.5, mode="gaussian")
    whole = windows(prepared["image"][None], network)[0]
    inverse = Invertd("pred", transform=preparation, orig_keys="image", nearest_interp=False)
    wanted = inverse({"pred": whole, **prepared})["pred"]

    grid = native_grid(prepared["image"])
    assert grid is not None
    best, maps, spread = RunningMaximum(), ProbabilityMaps(tmp_path / "maps", torch.sigmoid), SpreadMap()
    home = Homeward(grid, [best, maps], spread=spread)
    five = StreamedWindows(windows, home)
    five(prepared["image"][None], lambda some: torch.cat([network(some), network(some)[:, 2:3]], dim=1))

    assert wanted.shape[1:] == SHAPE
    found = grid.as_read(oriented(spread.map, 0))
    torch.testing.assert_close(found[0], wanted[2].as_tensor(), rtol=0, atol=3e-6)
    labels = grid.as_read(oriented(best.label, 0))[0]
    assert torch.equal(labels.long(), wanted.as_tensor().argmax(dim=0))
    probabilities = grid.as_read(oriented(maps.maps, 0))
    torch.testing.assert_close(probabilities / 255, wanted.as_tensor().sigmoid(), rtol=0, atol=0.5 / 255 + 1e-5)
    np.testing.assert_allclose(grid.affine, nib.load(scan).affine, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [(20, 33, 18), (9, 40, 16), (16, 16, 16), (7, 5, 3)])
@torch.no_grad()
def test_windows_along_any_axis_add_up_to_monais(axis: int, size: tuple[int, ...]) -> None:
    image = torch.rand(1, 1, *size)
    network, windows = _network(3), SlidingWindowInferer([16, 16, 16], 3, 0.6, mode="gaussian")
    blocks: list[Any] = []
    StreamedWindows(windows, lambda block: blocks.append(block.clone()), axis)(image, network)
    found = torch.cat(blocks, dim=1).movedim(1, axis + 1)
    wanted = windows(image, network)[0]
    if axis == 0:
        assert torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_decisions_are_those_of_the_transforms(threshold: float) -> None:
    scores = torch.randn(4, 6, 5, 3)
    scores[:, 0, 0, 0] = 0.0  # where the sigmoid is 0.5
    for receiver, transform, values in (
        (AboveThreshold(threshold), LesionThresholdd("pred", threshold), scores[:2].sigmoid()),
        (Regions(threshold), RegionsFromLogitsd("pred", threshold), scores),
    ):
        receiver.start(values.shape[1:], len(values))
        for planes in (slice(0, 4), slice(4, 6)):
            for number, one in enumerate(values):
                receiver.take(planes, number, one[planes])
        assert torch.equal(receiver.label, transform({"pred": values})["pred"])


def test_a_sheared_scan_is_left_to_monai(tmp_path: Path) -> None:
    affine = np.array([[0.1, -1.2, 0.05, 10], [1.5, 0.1, 0.02, -5], [0.03, 0.1, 2.0, 2], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), affine), tmp_path / "scan.nii.gz")
    prepared = _steps([1.0, 1.0, 1.0], False, False)({"image": str(tmp_path / "scan.nii.gz")})
    assert native_grid(prepared["image"]) is None
