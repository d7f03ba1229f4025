# SPDX-License-Identifier: Apache-2.0
"""Which way volumes are sliced, and that however a file stores a volume, the same slices are seen."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy.spatial.transform import Rotation

from custom_nets.errors import InputError
from custom_nets.slices.planes import PLANES, SlicesFirstd, axis_codes, turned
from tests import golden

#: All ways to store a volume: which axis runs along which, from which end.
STORAGES = ["".join(letters) for axes in permutations(("LR", "PA", "IS")) for letters in product(*axes)]
_SOME = STORAGES[::7]
#: Of a volume that runs to R, A, S: spacing 0.8, 0.6, 5 mm, a little oblique.
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", (7, -11, 5), degrees=True).as_matrix() * (0.8, 0.6, 5.0)
AFFINE[:3, 3] = (-30, 12, 400)


def stored(codes: str, affine: np.ndarray = AFFINE, shape: tuple[int, ...] = (5, 4, 3)) -> MetaTensor:
    """One volume, stored so that its axes run to ``codes``; 1 x X x Y x Z."""
    voxels = golden.draw("stored", shape)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    turned_affine = affine @ inv_ornt_aff(turn, shape)
    voxels = np.ascontiguousarray(apply_orientation(voxels, turn))
    return MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(turned_affine))


def spaced(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def test_there_are_48_storages() -> None:
    assert len(set(STORAGES)) == 48
    assert all("".join(aff2axcodes(stored(codes).affine)) == codes for codes in STORAGES)


@pytest.mark.parametrize(
    ("spacing", "codes"),
    [
        ((1, 1, 5), "SPL"),
        ((1, 5, 1), "PIL"),
        ((5, 1, 1), "LIP"),
        ((1, 1, 1), "SPL"),
        ((1, 1, 0.2), "PIL"),
        ((1, 0.2, 0.2), "LIP"),
        ((2, 1, 2), "SPL"),
        ((1, 3, 2.98), "SPL"),  # equal to a hundredth
        ((1, 3, 2.96), "PIL"),
        ((3, 2.98, 1), "PIL"),
    ],
)
def test_slices_lie_across_the_largest_spacing(spacing: tuple[float, ...], codes: str) -> None:
    for storage in _SOME:
        assert axis_codes(stored(storage, spaced(*spacing)).affine) == codes, storage


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("spacing", [(1, 1, 5), (5, 1, 1)])
def test_a_plane_may_be_given(plane: str, spacing: tuple[float, ...]) -> None:
    assert axis_codes(spaced(*spacing), plane) == PLANES[plane]


def test_the_views_of_radiology() -> None:
    """Axial rows run to posterior, columns to the patient's left, so left is on the image's right."""
    assert PLANES == {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}


@pytest.mark.parametrize(("degrees", "codes"), [(30, "SPL"), (-40, "SPL"), (50, "PIL"), (90, "PIL"), (180, "SPL")])
def test_oblique_slices_are_named_by_the_nearest_plane(degrees: float, codes: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix() * (1, 1, 4)
    assert axis_codes(affine) == codes


_SINGULAR = {
    "no column": np.diag([1.0, 1, 0, 1]),
    "two columns alike": np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "in a plane": np.array([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]),
    "parallel": np.array([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "NaN": np.diag([1.0, np.nan, 1, 1]),
    "infinite": np.diag([1.0, 1, np.inf, 1]),
}


@pytest.mark.parametrize("plane", ["auto", "axial"])
@pytest.mark.parametrize("fault", _SINGULAR)
def test_an_affine_without_directions_is_refused(fault: str, plane: str) -> None:
    with pytest.raises(InputError, match=r"a\.nii: its affine gives no direction for every axis"):
        axis_codes(_SINGULAR[fault], plane, "a.nii")


def test_voxels_of_any_size_have_directions() -> None:
    assert axis_codes(spaced(1e-5, 1e-5, 1e-4)) == "SPL"
    assert axis_codes(spaced(1e-3, 1, 1e3)) == "SPL"


@pytest.mark.parametrize("make", [lambda plane: axis_codes(np.eye(4), plane), lambda plane: SlicesFirstd("a", plane)])
@pytest.mark.parametrize("plane", ["transversal", "Axial", ""])
def test_another_plane_is_refused(make: Any, plane: str) -> None:
    with pytest.raises(InputError, match=f"plane is '{plane}': choose one of auto, axial, coronal, sagittal"):
        make(plane)


@pytest.mark.parametrize("plane", ["auto", *PLANES])
def test_every_storage_gives_the_same_slices(plane: str) -> None:
    transform = SlicesFirstd("image", plane)
    expected = transform({"image": stored("RAS")})["image"]
    assert "".join(aff2axcodes(expected.affine)) == PLANES["axial" if plane == "auto" else plane]
    for storage in STORAGES:
        found = transform({"image": stored(storage)})["image"]
        assert torch.equal(found.as_tensor(), expected.as_tensor()), storage
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-9, err_msg=storage)


def test_slices_rows_and_columns_run_where_they_should() -> None:
    """Of axial slices: the first voxel lies inferior, anterior, right."""
    volume = torch.zeros(1, 5, 4, 3)
    volume[0, 4, 3, 0] = 1  # of R, A, S
    found = SlicesFirstd("image", "axial")({"image": MetaTensor(volume, affine=torch.eye(4))})["image"]
    assert found.shape == (1, 3, 4, 5) and found[0, 0, 0, 0] == 1
    sagittal = SlicesFirstd("image", "sagittal")({"image": MetaTensor(volume, affine=torch.eye(4))})["image"]
    assert sagittal.shape == (1, 5, 3, 4) and sagittal[0, 0, 2, 0] == 1


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("storage", _SOME)
def test_a_point_keeps_its_voxel(storage: str, plane: str) -> None:
    before = stored(storage)
    after = SlicesFirstd("image", plane)({"image": before})["image"]
    for index in ((0, 0, 0), (0, 1, 1), tuple(size - 1 for size in before.shape[1:])):
        point = before.affine.numpy() @ (*index, 1)
        there = np.linalg.inv(after.affine.numpy()) @ point
        place = tuple(np.round(there[:3]).astype(int))
        np.testing.assert_allclose(there[:3], place, atol=1e-9)
        assert after[(0, *place)] == before[(0, *index)]


def test_the_first_key_decides_for_all() -> None:
    """A label whose header rounds another way is sliced along with its image; types, other entries, input stay."""
    data = {"image": stored("LPS"), "label": stored("LPS", spaced(5, 1, 1)).to(torch.uint8), "case": "a"}
    found = SlicesFirstd(["image", "label"])(data)
    assert found["label"].shape == found["image"].shape == (1, 3, 4, 5)
    assert found["label"].dtype == torch.uint8 and found["case"] == "a"
    assert data["image"].shape == (1, 5, 4, 3)


def test_an_error_names_the_file() -> None:
    volume = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.zeros(4, 4), meta={"filename_or_obj": "scan.nii"})
    with pytest.raises(InputError, match=r"scan\.nii: its affine"):
        SlicesFirstd("image")({"image": volume})


def test_missing_keys_may_be_allowed() -> None:
    with pytest.raises(KeyError):
        SlicesFirstd(["image", "label"])({"image": stored("RAS")})
    found = SlicesFirstd(["image", "label"], allow_missing_keys=True)({"image": stored("RAS")})
    assert list(found) == ["image"] and found["image"].shape == (1, 3, 4, 5)


@pytest.mark.parametrize("codes", PLANES.values())
def test_channels_turn_together(codes: str) -> None:
    one = stored("PIR")
    both = MetaTensor(torch.cat([one.as_tensor(), 2 * one.as_tensor()]), affine=one.affine)
    found = turned(both, codes)
    assert torch.equal(found[0].as_tensor(), turned(one, codes)[0].as_tensor())
    assert torch.equal(found[1], 2 * found[0])


def test_sagittal_slices_are_not_mirrored() -> None:
    volume = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.diag(torch.tensor([5.0, 1.0, 1.0, 1.0])))
    with pytest.raises(InputError, match=r"sagittal slices.*--mirror_probability 0"):
        SlicesFirstd("image", mirrored=True)({"image": volume})
    assert SlicesFirstd("image", "axial", mirrored=True)({"image": volume})["image"].shape == (1, 6, 5, 4)
