# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.datasets.merged_masks import made_here, merged_path, write_merged
from custom_nets.errors import InputError
from tests.datasets import trees

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]])


def scan_with_masks(root: Path) -> tuple[Path, list[Path]]:
    image = trees.write_scan(root / "t1.nii.gz", affine=AFFINE)
    second = trees.write_voxels(root / "two.nii", trees.second_mask(), AFFINE)
    return image, [trees.write_label(root / "one.nii.gz", 3, 255, affine=AFFINE), second]


def test_merging_is_the_maximum_as_0_and_1_on_the_scans_grid(tmp_path: Path) -> None:
    image, masks = scan_with_masks(tmp_path)
    path = merged_path(tmp_path, "a_t01")
    assert path == tmp_path / "merged_labels/a_t01_label.nii.gz"
    assert write_merged(path, image, masks) == pytest.approx(5 * 3 / 1000)  # 3 + 3 - 1 voxels of 3 mm³
    merged = nibabel.load(path)
    voxels = np.asanyarray(merged.dataobj)
    assert voxels.dtype == np.uint8
    expected = np.zeros(trees.SHAPE)
    expected[0, 0, :5] = 1
    np.testing.assert_array_equal(voxels, expected)
    np.testing.assert_array_equal(merged.affine, nibabel.load(image).affine)
    assert [path.name for path in path.parent.iterdir()] == ["a_t01_label.nii.gz"]


@pytest.mark.parametrize("value", [1, 2, 255, 0.00392, 1.0000001])
def test_every_positive_value_is_lesion(tmp_path: Path, value: float) -> None:
    image = trees.write_scan(tmp_path / "t1.nii.gz")
    mask = trees.write_label(tmp_path / "mask.nii.gz", 4, value)
    write_merged(tmp_path / "out.nii.gz", image, [mask])
    assert np.unique(nibabel.load(tmp_path / "out.nii.gz").get_fdata(), return_counts=True)[1].tolist() == [332, 4]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    image, masks = scan_with_masks(tmp_path)
    path = merged_path(tmp_path, "a")
    assert write_merged(path, image, masks) is not None
    before = path.stat().st_mtime_ns
    assert write_merged(path, image, masks) is not None, "what it would write is there already"
    assert path.stat().st_mtime_ns == before
    for content in (lambda: trees.write_label(path, 9, affine=AFFINE), lambda: path.write_bytes(b"mine")):
        content()
        mine = path.read_bytes()
        assert write_merged(path, image, masks) is None
        assert path.read_bytes() == mine


def test_made_here_knows_its_own_files_only(tmp_path: Path) -> None:
    image, masks = scan_with_masks(tmp_path)
    path = merged_path(tmp_path, "a")
    write_merged(path, image, masks)
    assert made_here(path)
    assert not made_here(trees.write_label(path.with_name("mine_label.nii.gz")))
    path.with_name("text.nii.gz").write_text("x")
    assert not made_here(path.with_name("text.nii.gz"))
    assert not made_here(image)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [((6, 7, 9), AFFINE, r"two.nii.gz: shape \(6, 7, 9\)"), (trees.SHAPE, np.eye(4), "two.nii.gz: affine differs")],
)
def test_a_mask_on_another_grid_writes_nothing(
    tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray, message: str
) -> None:
    image, masks = scan_with_masks(tmp_path)
    masks[1] = trees.write_label(tmp_path / "two.nii.gz", 3, 255, shape, affine)
    with pytest.raises(InputError, match=message):
        write_merged(merged_path(tmp_path, "a"), image, masks)
    masks[1].write_bytes(masks[1].read_bytes()[:50])
    with pytest.raises(InputError, match=r"two.nii.gz: truncated"):
        write_merged(merged_path(tmp_path, "a"), image, masks)
    assert not (tmp_path / "merged_labels").exists()
