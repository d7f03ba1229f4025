# SPDX-License-Identifier: Apache-2.0
"""DICOM series are found by what they say, lie where the NIfTI file lies, and are refused where they are no volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from custom_nets.errors import InputError
from custom_nets.scans import find_cases, nifti_files, series_files
from tests.datasets.trees import OBLIQUE, orthogonal

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
from tests.scans.dicom_files import write_enhanced, write_series  # noqa: E402

AFFINE = orthogonal(OBLIQUE)
VOXELS = np.random.default_rng(0).integers(-5, 1000, size=(6, 7, 8)).astype(np.int16)
ONE = "spineparsenet"


def converted(source: Path, scratch: Path, bundle: str = ONE) -> list[Any]:
    (case,) = find_cases(source, bundle)
    return [nibabel.load(path) for path in nifti_files(case, scratch)]


@pytest.mark.parametrize("affine", [AFFINE, AFFINE @ np.diag([1, 1, -1, 1]), np.diag([-2.0, -1, 3, 1])])
def test_a_series_lies_where_the_nifti_file_lies(tmp_path: Path, affine: Any) -> None:
    names = [f"{number * 5 % 8}" for number in range(8)]
    source = write_series(tmp_path / "Fall ü 1" / "s", VOXELS, affine, names=names)
    (image,) = converted(source, tmp_path / "scratch")
    corners = np.array([[x, y, z, 1] for x in (0, 5) for y in (0, 6) for z in (0, 7)])
    ours = {tuple(np.round(image.affine @ corner, 2)): image.dataobj[tuple(corner[:3])] for corner in corners}
    for corner in corners:
        place = tuple(np.round(affine @ corner, 2))
        assert ours[place] == VOXELS[tuple(corner[:3])], "the same voxel within 0.01 mm"
    assert image.get_data_dtype() == np.int16
    assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    if np.linalg.det(affine) * np.linalg.det(image.affine) > 0:
        assert_array_equal(np.asarray(image.dataobj), VOXELS)
        assert_allclose(image.affine, affine, atol=1e-4)


@pytest.mark.parametrize(("rescale", "kind"), [((2.0, -3.0), np.int32), ((0.5, 0.25), np.float32)])
def test_slope_and_intercept_are_applied(tmp_path: Path, rescale: tuple[float, float], kind: Any) -> None:
    (image,) = converted(write_series(tmp_path / "s", VOXELS, AFFINE, rescale=rescale), tmp_path / "scratch")
    assert_array_equal(np.asarray(image.dataobj), VOXELS * rescale[0] + rescale[1])
    assert image.get_data_dtype() == kind


def test_slices_with_slopes_of_their_own(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOXELS, AFFINE, rescale=(1.0, 0.0))
    header = pydicom.dcmread(folder / "IM0008.dcm")
    header.RescaleSlope = 0.25
    header.save_as(folder / "IM0008.dcm")
    (image,) = converted(folder, tmp_path / "scratch")
    assert_array_equal(np.asarray(image.dataobj), VOXELS * np.array([1] * 7 + [0.25]))


def test_frames_of_one_file(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "patient/IM1", VOXELS, AFFINE)
    (image,) = converted(file.parent, tmp_path / "scratch")
    assert_array_equal(np.asarray(image.dataobj), VOXELS)
    assert_allclose(image.affine, AFFINE, atol=1e-4)


SMALL = VOXELS[..., :3]
STUDY = [
    ("t1_mprage_sag", {}),
    ("t2_tse_tra", {}),
    ("t1_mprage_sag", {"ContrastBolusAgent": "Gadovist"}),
    ("t2_tirm_tra_dark-fluid", {"ContrastBolusAgent": "Gadovist"}),
    ("ep2d_diff", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}),
    ("t2_localizer", {}),
]


@pytest.fixture(scope="module", params=["flat", "folders"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    uid, top = pydicom.uid.generate_uid(), tmp_path_factory.mktemp(request.param)
    for number, (description, elements) in enumerate(STUDY):
        names = [f"{number}_{slice_}" for slice_ in range(3)]
        folder = top / "Müller 7" / (str(number) if request.param == "folders" else "")
        write_series(folder, SMALL + number, AFFINE, description, study_uid=uid, names=names, **elements)
    return top


@pytest.mark.parametrize(
    ("bundle", "numbers"), [("s2ca_net", [0, 1, 2, 3]), ("rsanet", [0, 1, 3]), ("zoom_resunet", [0]), (ONE, [1])]
)
def test_the_series_of_a_study(study: Path, tmp_path: Path, bundle: str, numbers: list[int]) -> None:
    (case,) = find_cases(study, bundle)
    assert (case.name, case.problem) == ("Müller_7", "")
    for path, number in zip(case.images.values(), numbers, strict=True):
        assert [file.name[0] for file in series_files(path)] == [str(number)] * 3
    images = [nibabel.load(path) for path in nifti_files(case, tmp_path / "scratch")]
    for image, number in zip(images, numbers, strict=True):
        assert_array_equal(np.asarray(image.dataobj), SMALL + number)


def test_several_studies_are_several_cases(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / "apart" / name / "T2", VOXELS, AFFINE)
        write_series(tmp_path / "mixed", VOXELS, AFFINE, names=[f"{name}{number}" for number in range(8)])
    assert [case.name for case in find_cases(tmp_path / "apart", ONE)] == ["a", "b"]
    mixed = find_cases(tmp_path / "mixed", ONE)
    assert len({case.name for case in mixed}) == 2 and all(case.name.startswith("mixed_") for case in mixed)
    assert len(nifti_files(mixed[0], tmp_path / "scratch")) == 1


def test_series_that_are_missing_or_twice_are_named(tmp_path: Path) -> None:
    study = pydicom.uid.generate_uid()
    for number, description in enumerate(("T1 sag", "T1 tra", "T1 FLAIR")):
        write_series(tmp_path / "p" / str(number), VOXELS, AFFINE, description, study_uid=study)
    write_series(tmp_path / "p" / "ct", VOXELS, AFFINE, "T2", "CT", study_uid=study)
    (case,) = find_cases(tmp_path, "rsanet")
    assert "2 series for T1, T1 sag, T1 tra: name one with --T1 PATTERN" in case.problem
    assert "T2, FLAIR missing" in case.problem and "T2 (CT, not MR)" in case.problem
    (case,) = find_cases(tmp_path, "rsanet", {"T1": ["T1 tra"], "FLAIR": ["t1 flair"]})
    assert case.problem.startswith("T2 missing")
    assert case.images == {"T1": tmp_path / "p/1", "FLAIR": tmp_path / "p/2"}


def shift(folder: Path, number: int, millimetres: float) -> None:
    """Move one slice along the axis of the slices."""
    path = folder / f"IM{number:04d}.dcm"
    header = pydicom.dcmread(path)
    step = np.cross(header.ImageOrientationPatient[:3], header.ImageOrientationPatient[3:]) * millimetres
    header.ImagePositionPatient = [f"{value:.8f}" for value in np.array(header.ImagePositionPatient, float) + step]
    header.save_as(path)


def spoil(folder: Path, kind: str) -> None:
    third = folder / "IM0003.dcm"
    if kind == "missing":
        third.unlink()
    elif kind == "uneven":
        shift(folder, 3, 0.5)
    elif kind == "twice":
        (folder / "copy.dcm").write_bytes(third.read_bytes())
    elif kind == "truncated":
        third.write_bytes(third.read_bytes()[:-40])
    elif kind == "turned":
        header = pydicom.dcmread(third)
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.save_as(third)
    elif kind == "one":
        for file in sorted(folder.iterdir())[1:]:
            file.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"'T2' in .*s: 1 slice\(s\) missing between IM000[24].dcm and IM000[24].dcm, 8.716 mm where"),
        ("uneven", r"uneven gap between IM000\d.dcm and IM000\d.dcm, (3.858|4.858) mm where others lie 4.358 mm apart"),
        ("twice", r"(IM0003.dcm and copy.dcm|copy.dcm and IM0003.dcm) lie at the same place"),
        ("truncated", r"IM0003.dcm: DICOM file cannot be read"),
        ("turned", "slices in several orientations"),
        ("one", "1 slice: give the whole series"),
        ("tilted", r"shifted against each other by .* degrees \(a tilted gantry\)"),
    ],
)
def test_series_that_are_no_volume(tmp_path: Path, kind: str, message: str) -> None:
    affine = AFFINE.copy()
    if kind == "tilted":
        affine[:3, 2] += 0.5 * affine[:3, 0]
    folder = write_series(tmp_path / "s", VOXELS, affine)
    spoil(folder, kind)
    (case,) = find_cases(folder, ONE)
    with pytest.raises(InputError, match=message):
        nifti_files(case, tmp_path / "scratch")


@pytest.mark.parametrize("module", ["pydicom", "SimpleITK"])
def test_without_the_readers(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series(tmp_path / "s", VOXELS, AFFINE)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    wanted = r"needs .*SimpleITK: pip install -e '\.\[dicom\]'"
    with pytest.raises(InputError, match=wanted):
        converted(folder, tmp_path / "scratch")
    (tmp_path / "a.nii").touch()
    found = find_cases(tmp_path, ONE)
    assert [case.name for case in found] == ["a", "dicom" if module == "pydicom" else "s"], "NIfTI goes on"


def test_a_file_of_a_series_stands_for_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "patient" / "s", VOXELS, AFFINE)
    (case,) = find_cases(folder / "IM0004.dcm", ONE)
    assert (case.name, case.images) == ("s", {"T2": folder})
    (tmp_path / "junk.dcm").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"junk.dcm: is no DICOM file that can be read"):
        find_cases(tmp_path / "junk.dcm", ONE)
