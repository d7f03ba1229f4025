# SPDX-License-Identifier: Apache-2.0
"""Whole volumes: the published labels, on the scan's own grid, however the scan is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.nets.s2anet import S2aNet
from custom_nets.precision import MixedPrecisionInferer
from custom_nets.slices.inferer import SliceStackInferer
from custom_nets.slices.planes import PLANES, SlicesFirstd, turned
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.resize import resize_nearest
from tests import golden
from tests.recipe import arrays
from tests.slices.test_planes import STORAGES
from tests.test_s2anet import published, small

GOLDEN = arrays("s2anet")
AXIAL = np.diag([0.7, 0.9, 4.0, 1.0])  # of R, A, S
AXIAL[:3, :3] = Rotation.from_euler("xyz", (6, -4, 3), degrees=True).as_matrix() @ AXIAL[:3, :3]
AXIAL[:3, 3] = (-40, 25, 300)


@cache
def network() -> S2aNet:
    return published("s2anet_c5_fs8")[0]


def golden_slices() -> np.ndarray:
    """5 slices of 30 x 28, int16, of which the golden labels are."""
    return np.round(300 + 120 * golden.draw("infer_volume", (5, 30, 28))).astype(np.int16)


def stored(slices: np.ndarray, codes: str = "RAS", seen: str = "SPL", meta: Any = None) -> MetaTensor:
    """A scan whose slices, seen along ``seen``, are these; stored so that its axes run to ``codes``: 1 x X x Y x Z."""
    ras = apply_orientation(slices, ornt_transform(axcodes2ornt(seen), axcodes2ornt("RAS")))
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    voxels = np.ascontiguousarray(apply_orientation(ras, turn))
    affine = torch.from_numpy(AXIAL @ inv_ornt_aff(turn, ras.shape))
    return MetaTensor(torch.from_numpy(voxels)[None], affine=affine, meta=meta or {})


def labelled(scan: Tensor, of: Any = None, **options: Any) -> Tensor:
    """The label map of one scan."""
    inferer = SliceStackInferer(**{"roi_size": (64, 64)} | options)
    with torch.inference_mode():
        return inferer(scan[None], of or network())[0]


def logits(windows: Tensor) -> Tensor:
    """A quick network of 4 classes for windows of three slices: each class looks at another place."""
    a, b, c = windows.unbind(1)
    return torch.stack([a * 0, b, F.pad(b, (2, 0))[..., :-2] + 0.2 * c, -0.5 * a + F.pad(b, (0, 0, 3, 0))[:, :-3]], 1)


def windows_of_three(prepared: Tensor) -> Tensor:
    """Of three slices: 3 x 3 x H x W."""
    return torch.stack([prepared[[0, 0, 1]], prepared[[0, 1, 2]], prepared[[1, 2, 2]]])


def rough(shape: tuple[int, ...], name: str = "rough") -> np.ndarray:
    return np.round(300 + 120 * golden.draw(name, shape)).astype(np.int16)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_golden_labels(batch_size: int, dtype: torch.dtype) -> None:
    found = labelled(stored(golden_slices(), "LPS").to(dtype), batch_size=batch_size)
    assert found.dtype == torch.uint8 and found.shape == (1, 28, 30, 5)
    assert (found[0].numpy().transpose(2, 1, 0) == GOLDEN["volume_labels"]).mean() >= 0.998


def test_golden_logits() -> None:
    """Of the first slice, whose window is (0, 0, 1)."""
    expected = GOLDEN["volume_logits_slice0"]
    inferer = SliceStackInferer((64, 64))
    scan = turned(stored(golden_slices()), PLANES["axial"]).as_tensor()
    with torch.inference_mode():
        first = next(inferer._logits(scan, network()))
    np.testing.assert_allclose(first[0], expected, rtol=0, atol=3e-5 * expected.std())


@pytest.mark.parametrize("plane", PLANES)
def test_however_it_is_stored_a_scan_gets_the_same_labels(plane: str) -> None:
    slices = rough((4, 12, 10))
    expected = labelled(stored(slices, PLANES[plane], PLANES[plane]), logits, roi_size=(16, 16), plane=plane)
    assert len(expected.unique()) == 4
    for codes in STORAGES:
        scan = stored(slices, codes, PLANES[plane])
        found = labelled(scan, logits, roi_size=(16, 16), plane=plane)
        assert torch.equal(turned(found, PLANES[plane]).as_tensor(), expected.as_tensor()), codes
        assert found.shape == scan.shape and torch.equal(found.affine, scan.affine)


@pytest.mark.parametrize("turn", [(45, 0, 0), (0, 45, 0), (45, 45, 0), (30, 45, 90), (-45, 135, 45)], ids=str)
@pytest.mark.parametrize("plane", ["auto", *PLANES])
def test_scans_halfway_between_two_planes_get_their_labels_back_in_place(turn: Any, plane: str) -> None:
    """Which axis is which is a tie there; the label of a voxel must not depend on it."""

    def own_value(windows: Tensor) -> Tensor:
        return torch.stack([-windows[:, 1], windows[:, 1]], dim=1)

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * (1, 1, 3)
    voxels = torch.from_numpy(rough((6, 6, 6)))[None]
    found = labelled(
        MetaTensor(voxels, affine=torch.from_numpy(affine)),
        own_value,
        roi_size=(6, 6),
        plane=plane,
        preparation=SlicePreparation(mean=0.5, intensity="none"),
    )
    assert torch.equal(found.as_tensor(), (voxels > 127).to(torch.uint8))


@pytest.mark.parametrize(("spacing", "axis"), [((1, 1, 4), 2), ((1, 4, 1), 1), ((4, 1, 1), 0), ((1, 1, 1), 2)])
def test_slices_lie_across_the_largest_spacing_or_as_told(spacing: tuple[float, ...], axis: int) -> None:
    seen: list[int] = []

    def count(windows: Tensor) -> Tensor:
        seen.append(len(windows))
        return windows

    scan = MetaTensor(torch.zeros(1, 3, 4, 5), affine=torch.diag(torch.tensor([*spacing, 1.0])))
    labelled(scan, count, roi_size=(8, 8), batch_size=99)
    for told in ("sagittal", "coronal", "axial"):
        labelled(scan, count, roi_size=(8, 8), batch_size=99, plane=told)
    assert seen == [(3, 4, 5)[axis], 3, 4, 5]


@pytest.mark.parametrize(("classes", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int16)])
@pytest.mark.parametrize("resize_back", ["labels", "probabilities", "none"])
def test_type_of_the_labels(classes: int, dtype: torch.dtype, resize_back: str) -> None:
    def last_wins(windows: Tensor) -> Tensor:
        return torch.arange(classes).float()[None, :, None, None].expand(len(windows), -1, *windows.shape[2:])

    found = labelled(stored(rough((2, 5, 6))), last_wins, roi_size=(8, 8), resize_back=resize_back)
    assert found.dtype == dtype and (found == classes - 1).all()


def test_metadata_are_the_scans() -> None:
    meta = {"filename_or_obj": "scan.nii.gz", "descrip": "T2"}
    scan = stored(rough((3, 10, 9)), "PIR", meta=meta)
    before = scan.clone()
    found = labelled(scan, logits, roi_size=(8, 8))
    assert isinstance(found, MetaTensor)
    assert {key: found.meta[key] for key in meta} == meta
    assert torch.equal(found.affine, scan.affine) and found.shape == scan.shape
    assert torch.equal(scan.as_tensor(), before.as_tensor()) and torch.equal(scan.affine, before.affine)


def test_plain_tensors_count_as_right_anterior_superior() -> None:
    slices = rough((3, 10, 9))
    scan = stored(slices)
    found = labelled(scan.as_tensor(), logits, roi_size=(8, 8), plane="axial")
    assert type(found) is Tensor
    assert torch.equal(found, labelled(scan, logits, roi_size=(8, 8)).as_tensor())


@pytest.mark.parametrize("rule", ["accumulated", "endpoints"])
def test_labels_come_back_by_the_nearest_pixel(rule: str) -> None:
    """By the rule by which the slices went."""
    slices, preparation = rough((3, 10, 12)), SlicePreparation([16, 8], index_rule=rule)
    expected = logits(windows_of_three(preparation(torch.from_numpy(slices)))).argmax(1).to(torch.uint8)
    options = {"roi_size": (16, 8), "preparation": SlicePreparation(index_rule=rule)}
    assert torch.equal(labelled(stored(slices), logits, resize_back="none", **options)[0].as_tensor(), expected)
    found = turned(labelled(stored(slices), logits, **options), "SPL")
    assert torch.equal(found[0].as_tensor(), resize_nearest(expected, (10, 12), rule))


@pytest.mark.parametrize("tta", [False, True])
def test_probabilities_come_back_bilinearly(tta: bool) -> None:
    slices = rough((3, 10, 12))
    windows = windows_of_three(SlicePreparation([16, 8])(torch.from_numpy(slices)))
    probabilities = logits(windows).softmax(1)
    if tta:
        mirrored = SlicePreparation([16, 8])(torch.from_numpy(slices).flip(-1))
        probabilities = (probabilities + logits(windows_of_three(mirrored)).softmax(1).flip(-1)) / 2
    smooth = F.interpolate(probabilities, size=(10, 12), mode="bilinear")
    scan, options = stored(slices, "IRA"), {"roi_size": (16, 8), "resize_back": "probabilities", "tta": tta}
    found = turned(labelled(scan, logits, **options), "SPL")
    assert torch.equal(found[0].as_tensor(), smooth.argmax(1).to(torch.uint8))
    assert not torch.equal(found.as_tensor(), turned(labelled(stored(slices), logits, roi_size=(16, 8)), "SPL"))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("rule", ["accumulated", "endpoints"])
def test_without_a_way_back_the_geometry_is_that_of_prepared_slices(codes: str, rule: str) -> None:
    """As a validation prepares its reference."""
    scan = stored(rough((3, 10, 12)), codes, meta={"filename_or_obj": "scan.nii"})
    preparation = SlicePreparation(index_rule=rule)
    found = labelled(scan, logits, roi_size=(16, 8), resize_back="none", preparation=preparation)
    slices = SlicesFirstd("image")({"image": scan})["image"]
    expected = SlicePreparation([16, 8], index_rule=rule).affine(slices.affine, (10, 12), (16, 8))
    assert found.shape == (1, 3, 16, 8) and found.meta["filename_or_obj"] == "scan.nii"
    np.testing.assert_allclose(found.affine, expected, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"intensity": "percentile"}, {"mean": 0.4, "std": 0.1}], ids=str)
@pytest.mark.parametrize("size", [None, [5, 7]], ids=str)
def test_slices_are_prepared_as_told_whatever_size_is_told(options: dict[str, Any], size: Any) -> None:
    seen: list[Tensor] = []

    def keep(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    slices = rough((3, 10, 12))
    labelled(stored(slices), keep, roi_size=(16, 8), preparation=SlicePreparation(size, **options), batch_size=3)
    assert torch.equal(seen[0][:, 1], SlicePreparation([16, 8], **options)(torch.from_numpy(slices)))


@pytest.mark.parametrize("windows", ["resized", "sliding"])
@pytest.mark.parametrize("resize_back", ["labels", "probabilities"])
def test_a_mirrored_patient_gets_mirrored_labels_whose_sides_are_exchanged(windows: str, resize_back: str) -> None:
    """With test-time augmentation; without it the network's own asymmetry shows."""
    slices = rough((4, 16, 24))  # thrice as many columns: then the index rule knows no side
    pairs = [(1, 2)]
    options = {"roi_size": (8, 8), "windows": windows, "resize_back": resize_back, "pairs": pairs}

    def both(tta: bool) -> tuple[Tensor, Tensor]:
        scans = (stored(slices, "LIP"), stored(np.ascontiguousarray(slices[:, :, ::-1]), "LIP"))
        straight, mirrored = (turned(labelled(scan, logits, tta=tta, **options), "SPL") for scan in scans)
        return straight.as_tensor(), torch.tensor([0, 2, 1, 3])[mirrored.long()].flip(-1).as_tensor()

    straight, mirrored = both(tta=True)
    assert len(straight.unique()) >= 3
    assert (straight == mirrored).float().mean() > 0.99, "ties of two probabilities apart"
    straight, mirrored = both(tta=False)
    assert (straight == mirrored).float().mean() < 0.9


def test_probabilities_of_both_views_are_averaged() -> None:
    slices = rough((3, 8, 8))
    prepared = SlicePreparation()(torch.from_numpy(slices))
    windows = windows_of_three(prepared)
    mirrored = logits(windows.flip(-1)).softmax(1).flip(-1)[:, [0, 1, 3, 2]]
    expected = (logits(windows).softmax(1) + mirrored).argmax(1)
    found = labelled(stored(slices), logits, roi_size=(8, 8), tta=True, pairs=[(2, 3)])
    assert torch.equal(turned(found, "SPL")[0].as_tensor(), expected.to(torch.uint8))


@pytest.mark.parametrize("plane", PLANES)
def test_a_mirror_image_needs_left_and_right_in_the_slice(plane: str) -> None:
    scan = stored(rough((3, 8, 8)))
    if plane != "sagittal":
        assert labelled(scan, logits, roi_size=(8, 8), tta=True, plane=plane).shape == scan.shape
        return
    with pytest.raises(InputError, match=r"tta mirrors left and right.*sagittal.*--tta False"):
        labelled(scan, logits, roi_size=(8, 8), tta=True, plane=plane)


@pytest.mark.parametrize("resize_back", ["labels", "none"])
def test_a_batch_is_its_volumes(resize_back: str) -> None:
    """Each by its own affine; they come as MONAI's loaders batch them."""
    scans = [stored(rough((6, 6, 6), f"scan{number}"), codes) for number, codes in enumerate(("RAS", "LPI", "ASL"))]
    batch = list_data_collate([{"image": scan} for scan in scans])["image"]
    options = {"roi_size": (8, 8), "resize_back": resize_back}
    with torch.inference_mode():
        found = decollate_batch(SliceStackInferer(**options)(batch, logits))
    for one, scan in zip(found, scans, strict=True):
        alone = labelled(scan, logits, **options)
        assert torch.equal(one.as_tensor(), alone.as_tensor())
        np.testing.assert_allclose(one.affine, alone.affine, atol=1e-9)


def test_several_channels_a_slice() -> None:
    """Channels of one slice stay together, as in training."""
    seen: list[Tensor] = []

    def keep(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    first, second = rough((3, 8, 8)), rough((3, 8, 8), "second")
    scan = MetaTensor(torch.cat([stored(one).as_tensor() for one in (first, second)]), affine=stored(first).affine)
    labelled(scan, keep, roi_size=(8, 8), batch_size=1)
    one, two = (SlicePreparation()(torch.from_numpy(slices)) for slices in (first, second))
    assert torch.equal(seen[1][0], torch.stack([one[0], two[0], one[1], two[1], one[2], two[2]]))


def test_a_network_of_two_channels_shares_its_maps_too() -> None:
    both = small(in_channels=2, feature_scale=16)
    scan = torch.cat([torch.from_numpy(rough((6, 7, 5), name)).float()[None] for name in ("one", "two")])
    found = labelled(scan, both, roi_size=(16, 16))
    assert found.shape == (1, 6, 7, 5)
    assert (found == labelled(scan, lambda windows: both(windows), roi_size=(16, 16))).float().mean() > 0.99


@pytest.mark.parametrize(("num_slices", "count"), [(1, 1), (1, 4), (3, 1), (5, 2)])
def test_thin_stacks_and_2d(num_slices: int, count: int) -> None:
    seen: list[Tensor] = []

    def keep(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    found = labelled(stored(rough((count, 6, 7))), keep, roi_size=(8, 8), num_slices=num_slices, batch_size=9)
    assert seen[0].shape == (count, num_slices, 8, 8) and found.shape == (1, 7, 6, count)


@pytest.mark.parametrize("size", [(20, 12), (5, 9)], ids=str)
def test_sliding_windows_see_slices_as_they_are(size: tuple[int, int]) -> None:
    """Around slices smaller than a window lies what black becomes."""
    slices = rough((3, *size))
    prepared = SlicePreparation()(torch.from_numpy(slices))
    windows = windows_of_three(prepared)
    sliding = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian", cval=-0.196 / 0.205)
    expected = sliding(windows, logits).argmax(1)
    found = labelled(stored(slices, "AIR"), logits, roi_size=(8, 8), windows="sliding", overlap=0.5)
    assert (turned(found, "SPL")[0].as_tensor() == expected).float().mean() > 0.999


@pytest.mark.parametrize(("mean", "std"), [(0.196, 0.205), (0.4, 0.1)])
def test_around_a_slice_is_black(mean: float, std: float) -> None:
    seen: list[Tensor] = []

    def keep(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    preparation = SlicePreparation(mean=mean, std=std)
    labelled(stored(rough((1, 4, 8))), keep, roi_size=(8, 8), windows="sliding", preparation=preparation)
    outside = torch.cat([seen[0][:, :, :2], seen[0][:, :, 6:]], dim=2)
    torch.testing.assert_close(outside, torch.full_like(outside, -mean / std))


class Wrapper(nn.Module):
    """Around a network, as DistributedDataParallel is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("gradients of all processes are for training")


@pytest.mark.parametrize("wrap", [lambda net: net, Wrapper], ids=["bare", "wrapped"])
@pytest.mark.parametrize("enabled", [False, True])
def test_under_mixed_precision(
    monkeypatch: pytest.MonkeyPatch, wrap: Callable[[nn.Module], nn.Module], enabled: bool
) -> None:
    """Labels stay labels, and every slice is encoded once through all wrappers."""
    encoded: list[int] = []
    encode = S2aNet.encode
    monkeypatch.setattr(S2aNet, "encode", lambda self, x, *more: encoded.append(len(x)) or encode(self, x, *more))
    scan = stored(golden_slices(), "LPS")
    inferer = MixedPrecisionInferer(SliceStackInferer((64, 64), batch_size=2), enabled=enabled)
    with torch.inference_mode():
        found = inferer(scan[None], wrap(network()))[0]
    assert encoded == [3, 2]
    assert found.dtype == torch.uint8 and torch.equal(found.affine, scan.affine)
    same = (found[0].numpy().transpose(2, 1, 0) == GOLDEN["volume_labels"]).mean()
    assert same > (0.9 if enabled else 0.998)


def test_the_metadata_do_not_reach_the_network() -> None:
    def plain(windows: Tensor) -> Tensor:
        assert type(windows) is Tensor
        return windows

    for windows in ("resized", "sliding"):
        labelled(stored(rough((2, 9, 9))), plain, roi_size=(8, 8), windows=windows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "transversal"}, "plane is 'transversal': choose one of auto"),
        ({"windows": "whole"}, "windows is 'whole': choose one of resized, sliding"),
        ({"resize_back": "bilinear"}, "resize_back is 'bilinear': choose one of labels, probabilities, none"),
        ({"num_slices": 2}, "num_slices is 2: give an odd number"),
        ({"num_slices": -1}, "num_slices is -1: give an odd number"),
        ({"batch_size": 0}, "batch_size is 0: give at least 1"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SliceStackInferer((64, 64), **options)


def test_a_scan_without_directions_is_refused_by_name() -> None:
    scan = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.zeros(4, 4), meta={"filename_or_obj": "scan.nii"})
    with pytest.raises(InputError, match=r"scan\.nii: its affine"):
        labelled(scan, logits)


def test_the_bar_counts_slices(capsys: pytest.CaptureFixture[str]) -> None:
    labelled(stored(rough((7, 8, 8))), logits, roi_size=(8, 8))
    assert capsys.readouterr().err == ""
    labelled(stored(rough((7, 8, 8))), logits, roi_size=(8, 8), progress=True)
    assert "/7" in capsys.readouterr().err
