# SPDX-License-Identifier: Apache-2.0
"""Files become checked NIfTI files in the bundle's order; what is broken is refused by name and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.scans import conversion, find_cases, nifti_files
from tests.datasets.trees import OBLIQUE, orthogonal
from tests.scans.foreign_files import write_foreign

AFFINE = orthogonal(OBLIQUE)
ONE, LESIONS = "spineparsenet", "rsanet"


def voxels(seed: int = 0, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-5, 1000, size=shape or (6, 7, 8)).astype(np.int16)


def write(path: Path, array: np.ndarray, affine: Any = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.mark.parametrize("extension", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("kind", ["int16", "float32", "int64"])
def test_other_formats_lie_where_the_nifti_file_lies(tmp_path: Path, extension: str, kind: str) -> None:
    array = voxels().astype(kind)
    path = write_foreign(tmp_path / f"Fall ü/a b.{extension}", array)
    (case,) = find_cases(path.parent, ONE)
    (file,) = nifti_files(case, tmp_path / "scratch")
    image = nibabel.load(file)
    assert_allclose(image.affine, AFFINE, atol=1e-4)
    assert_array_equal(np.asarray(image.dataobj), array)
    assert image.get_data_dtype() == ("int32" if kind == "int64" else kind)
    assert file.parent == tmp_path / "scratch" and file.suffix == ".nii"


def test_nifti_is_passed_through_in_the_bundles_order(tmp_path: Path) -> None:
    for seed, name in enumerate(("flair", "t2", "t1")):
        write(tmp_path / f"ä {name}.nii.gz", voxels(seed))
    (case,) = find_cases(tmp_path, LESIONS)
    assert nifti_files(case, tmp_path / "scratch") == [tmp_path / f"ä {name}.nii.gz" for name in ("t1", "t2", "flair")]
    assert not (tmp_path / "scratch").exists()


def test_channels_of_a_4d_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    voxels_of = conversion.require_voxels
    monkeypatch.setattr(conversion, "require_voxels", lambda path: (read.append(path), voxels_of(path))[1])
    stacked = voxels(0, 6, 7, 8, 4)
    write(tmp_path / "a.nii.gz", stacked)
    modality = {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
    write_json(tmp_path / "datalist.json", {"modality": modality, "testing": [{"image": "a.nii.gz"}]})
    (case,) = find_cases(tmp_path, "s2ca_net")
    for file, channel in zip(nifti_files(case, tmp_path / "scratch"), (1, 3, 2, 0), strict=True):
        assert_array_equal(np.asarray(nibabel.load(file).dataobj), stacked[..., channel])
    assert read == [tmp_path / "a.nii.gz"], "once"


def test_a_single_volume_with_a_fourth_axis(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", voxels(0, 6, 7, 8, 1))
    (file,) = nifti_files(find_cases(tmp_path, ONE)[0], tmp_path / "scratch")
    assert_array_equal(np.asarray(nibabel.load(file).dataobj), voxels(0, 6, 7, 8, 1)[..., 0])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    write(path, voxels())
    path.write_bytes(path.read_bytes()[:-50])


def with_nan(path: Path) -> None:
    array = voxels().astype(np.float32)
    array[1, 2, 3] = np.nan
    write(path, array)


def singular(path: Path) -> None:
    image = nibabel.Nifti1Image(voxels(), None)
    image.set_sform(np.diag([1, 1, 0, 1]), code=1, update_affine=False)
    image.set_qform(None, code=0, update_affine=False)
    image.header["srow_z"] = 0
    nibabel.save(image, path)


BROKEN = {
    "4D": (lambda path: write(path, voxels(0, 6, 7, 8, 2)), r"4D, shape \(6, 7, 8, 2\)"),
    "5D": (lambda path: write(path, voxels(0, 6, 7, 8, 1, 2)), r"5D, shape \(6, 7, 8, 1, 2\)"),
    "2D": (lambda path: write(path, voxels(0, 6, 7)), r"2D, shape \(6, 7\)"),
    "slice": (lambda path: write(path, voxels(0, 6, 7, 1)), r"a single slice, shape \(6, 7, 1\)"),
    "truncated": (truncated, "truncated or damaged gzip file"),
    "nan": (with_nan, "1 NaN or infinite voxels: replace them"),
    "constant": (lambda path: write(path, np.full((6, 7, 8), 3, np.int16)), "every voxel is 3"),
    "empty": (empty, "empty, 0 bytes"),
    "text": (lambda path: path.write_text("hello"), "not gzip-compressed, against its name"),
    "singular": (singular, "singular affine"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_and_the_others_are_not(tmp_path: Path, kind: str) -> None:
    spoil, message = BROKEN[kind]
    write(tmp_path / "sound.nii.gz", voxels())
    spoil(tmp_path / "broken.nii.gz")
    broken, sound = find_cases(tmp_path, ONE)
    assert nifti_files(sound, tmp_path / "scratch") == [tmp_path / "sound.nii.gz"]
    with pytest.raises(InputError, match=rf"broken.nii.gz: .*{message}") as caught:
        nifti_files(broken, tmp_path / "scratch")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (voxels(1, 6, 7, 9), AFFINE, r"t2.nii.gz: shape \(6, 7, 9\), but a_t1.nii.gz has \(6, 7, 8\): resample it"),
        (voxels(1), AFFINE @ np.diag([-1, 1, 1, 1]), r"t2.nii.gz: affine differs from a_t1.nii.gz by up to"),
        (voxels(0), AFFINE, r"t2.nii.gz: T2 is voxel for voxel the same as T1: give the file of T2"),
        (voxels(1, 6, 7, 8, 3), AFFINE, r"t2.nii.gz: 4D, shape \(6, 7, 8, 3\)"),
    ],
)
def test_modalities_that_do_not_fit_together(tmp_path: Path, array: Any, affine: Any, message: str) -> None:
    for seed, name in ((0, "t1"), (2, "flair")):
        write(tmp_path / f"a_{name}.nii.gz", voxels(seed))
    write(tmp_path / "a_t2.nii.gz", array, affine)
    (case,) = find_cases(tmp_path, LESIONS)
    with pytest.raises(InputError, match=message):
        nifti_files(case, tmp_path / "scratch")


def test_a_problem_that_was_found_is_what_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a_t1.nii.gz", voxels())
    (case,) = find_cases(tmp_path, LESIONS)
    with pytest.raises(InputError, match=r"T2, FLAIR missing"):
        nifti_files(case, tmp_path / "scratch")


@pytest.mark.parametrize("extension", ["nrrd", "mha"])
def test_foreign_files_that_cannot_be_used(tmp_path: Path, extension: str) -> None:
    write_foreign(tmp_path / f"flat.{extension}", voxels(0, 6, 7))
    (tmp_path / f"junk.{extension}").write_bytes(b"hello")
    write_foreign(tmp_path / f"half.{extension}", voxels())
    half = tmp_path / f"half.{extension}"
    half.write_bytes(half.read_bytes()[:-200])
    messages = {"flat": r"2D, 1 value\(s\) a voxel", "junk": "is damaged, or no", "half": "is damaged, or no"}
    for case in find_cases(tmp_path, ONE):
        with pytest.raises(InputError, match=rf"{case.name}.{extension}: {messages[case.name]}"):
            nifti_files(case, tmp_path / "scratch")


def test_a_broken_converted_file_goes_by_its_own_name(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "a.mha", np.zeros((4, 5, 6), np.int16))
    with pytest.raises(InputError, match=rf"{path}: every voxel is 0"):
        nifti_files(find_cases(path, ONE)[0], tmp_path / "scratch")


def test_nifti_needs_no_simpleitk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = write_foreign(tmp_path / "b.nrrd", voxels())
    for module in ("SimpleITK", "pydicom"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    write(tmp_path / "a.nii.gz", voxels())
    sound, other = find_cases(tmp_path, ONE)
    assert nifti_files(sound, tmp_path) == [tmp_path / "a.nii.gz"]
    with pytest.raises(InputError, match=rf"{foreign}: reading this format needs SimpleITK: pip install -e"):
        nifti_files(other, tmp_path)
