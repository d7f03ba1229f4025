# SPDX-License-Identifier: Apache-2.0
"""MetaImage files become NIfTI once, with the same voxels at the same places."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.datasets.metaimage import convert_folder, to_nifti
from custom_nets.errors import InputError
from tests.datasets import trees

VOXELS = np.random.default_rng(0).integers(-5, 1000, size=trees.SHAPE).astype(np.int16)


@pytest.mark.parametrize("kind", ["int16", "uint8", "float32"])
def test_oblique_volume_has_the_same_world_coordinates(tmp_path: Path, kind: str) -> None:
    itk = pytest.importorskip("itk")
    path = trees.write_metaimage(tmp_path / "a.mha", VOXELS.astype(kind))
    written = nibabel.load(to_nifti(path, tmp_path / "out/a.nii.gz"))
    np.testing.assert_array_equal(np.asarray(written.dataobj), VOXELS.astype(kind))
    assert written.get_data_dtype() == kind
    np.testing.assert_allclose(written.affine, trees.orthogonal(trees.OBLIQUE), atol=1e-5)
    for code in ("qform_code", "sform_code"):
        assert written.header[code] == 1
    np.testing.assert_allclose(written.get_qform(), written.get_sform(), atol=1e-5)
    image = itk.imread(str(path))
    for place in ((0, 0, 0), (5, 6, 7), (2, 1, 3)):
        left, posterior, superior = image.TransformIndexToPhysicalPoint([*place])
        world = written.affine @ (*place, 1)
        np.testing.assert_allclose(world[:3], (-left, -posterior, superior), atol=1e-4)


def test_itk_reads_it_as_nifti_too(tmp_path: Path) -> None:
    itk = pytest.importorskip("itk")
    path = trees.write_metaimage(tmp_path / "a.mha", VOXELS)
    one, other = itk.imread(str(path)), itk.imread(str(to_nifti(path, tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(itk.array_view_from_image(one), itk.array_view_from_image(other))
    for part in ("GetOrigin", "GetSpacing"):
        np.testing.assert_allclose([*getattr(one, part)()], [*getattr(other, part)()], atol=1e-4)
    np.testing.assert_allclose(np.asarray(one.GetDirection()), np.asarray(other.GetDirection()), atol=1e-6)


def test_converted_once(tmp_path: Path) -> None:
    pytest.importorskip("itk")
    trees.spider(tmp_path, 2)
    pattern = r"(?:images|masks)/\d+_t2"
    written, there = convert_folder(tmp_path, pattern, progress=False)
    names = [f"{folder}/{number}_t2.nii.gz" for folder in ("images", "masks") for number in (1, 2)]
    assert written == [tmp_path / "nifti" / name for name in names]
    assert there == 0
    (tmp_path / "nifti/masks/2_t2.nii.gz").unlink()
    times = [path.stat().st_mtime_ns for path in written[:3]]
    assert convert_folder(tmp_path, pattern, progress=False) == ([written[3]], 3)
    assert [path.stat().st_mtime_ns for path in written[:3]] == times
    assert sorted(path for path in (tmp_path / "nifti").rglob("*") if path.is_file()) == sorted(written)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "is damaged, or no MetaImage"),
        ("truncated", "is damaged, or no MetaImage"),
        ("gone", "does not exist"),
        (VOXELS[0], r"2D, shape \(7, 8\), int16: save it as a 3D volume"),
        (VOXELS.astype(np.int64), "is damaged, or no MetaImage|int64"),
    ],
)
def test_files_that_cannot_be_converted(tmp_path: Path, content: bytes | str | np.ndarray, message: str) -> None:
    pytest.importorskip("itk")
    path = tmp_path / "a.mha"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        trees.write_metaimage(path, content, np.eye(4)) if content.ndim == 3 else write_flat(path, content)
    elif content == "truncated":
        trees.write_metaimage(path, VOXELS)
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"a.mha: {message}"):
        to_nifti(path, tmp_path / "out/a.nii.gz")
    assert not list(tmp_path.rglob("*.nii.gz"))


def write_flat(path: Path, voxels: np.ndarray) -> None:
    header = "ObjectType = Image\nNDims = 2\nBinaryData = True\nElementSpacing = 1 1\n"
    text = f"{header}DimSize = {voxels.shape[0]} {voxels.shape[1]}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(text.encode() + voxels.tobytes(order="F"))


def test_without_itk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    path = trees.write_metaimage(tmp_path / "a.mha", VOXELS)
    with pytest.raises(InputError, match=r"a.mha: reading .mha needs ITK: pip install itk"):
        to_nifti(path, tmp_path / "a.nii.gz")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("itk")
    path = trees.write_metaimage(tmp_path / "a.mha", VOXELS)

    def full(_: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(OSError, match="no space"):
        to_nifti(path, tmp_path / "out/a.nii.gz")
    assert list((tmp_path / "out").iterdir()) == []
