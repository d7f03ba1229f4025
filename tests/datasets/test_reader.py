# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import NibabelReader
from monai.transforms import LoadImage

from custom_nets.datasets.checks import check_case
from custom_nets.datasets.reader import SameGridReader
from custom_nets.errors import InputError
from tests.datasets import trees


def two_files(root: Path, turn: float) -> list[str]:
    """Two scans; the second one's header is turned about the third axis by ``turn`` radians."""
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    affine[:3, 3] = (-90, 126, -72)
    turned = affine.copy()
    turned[0, 1], turned[1, 0] = -turn, turn
    paths = [
        trees.write_scan(root / "a.nii.gz", 1, affine=affine),
        trees.write_scan(root / "b.nii.gz", 2, affine=turned),
    ]
    return [str(path) for path in paths]


def test_rounding_in_a_header_passes_the_checks_and_is_read(tmp_path: Path) -> None:
    paths = two_files(tmp_path, 1e-6)
    assert check_case({"image": paths}, 2) == []
    with pytest.raises(Exception, match="affine matrix of all images should be the same"):
        LoadImage(reader=NibabelReader())(paths)
    stacked = LoadImage(reader=SameGridReader())(paths)
    assert stacked.shape == (2, *trees.SHAPE)
    for channel, path in zip(stacked, paths, strict=True):
        np.testing.assert_array_equal(np.asarray(channel), nibabel.load(path).get_fdata())
    np.testing.assert_array_equal(stacked.affine.numpy(), nibabel.load(paths[0]).affine)


def test_another_grid_is_refused_as_by_the_checks(tmp_path: Path) -> None:
    paths = two_files(tmp_path, 1e-3)
    assert "by up to 0.00781 mm" in check_case({"image": paths}, 2)[0].found
    with pytest.raises(InputError, match=r"b.nii.gz: affine differs from .*a.nii.gz by up to 0.00781 mm"):
        SameGridReader().read(paths)
    assert len(SameGridReader(tolerance_mm=0.01).read(paths)) == 2


def test_single_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = trees.write_scan(tmp_path / "a.nii.gz", shape=(*trees.SHAPE, 2))
    assert LoadImage(reader=SameGridReader(), ensure_channel_first=True)(path).shape == (2, *trees.SHAPE)


def test_threads_that_share_a_reader_get_all_channels(tmp_path: Path) -> None:
    """A cache is filled by threads: one may open a label between another's opening and stacking of the modalities."""
    paths, reader = two_files(tmp_path, 1e-6), SameGridReader()
    images = reader.read(paths)
    label = reader.read(paths[1])
    assert reader.get_data(images)[0].shape == (2, *trees.SHAPE)
    assert reader.get_data(label)[0].shape == trees.SHAPE
