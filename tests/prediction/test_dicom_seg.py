# SPDX-License-Identifier: Apache-2.0
"""Label maps as DICOM segmentations, read back by pydicom and highdicom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.prediction.dicom_seg import _MAY_BE_EMPTY, write_dicom_seg
from custom_nets.prediction.segment_codes import segment_codes
from custom_nets.registry import available

highdicom = pytest.importorskip("highdicom")
import pydicom  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402

from tests.scans.dicom_files import write_enhanced, write_series  # noqa: E402

SHAPE = (9, 7, 6)
NAMES = {0: "background", 1: "Femur, left", 2: "L4/L5", 4: "Vastus medialis and a name of any length", 9: "lesion"}


def rotated(spacing: tuple[float, float, float], *angles: float) -> np.ndarray:
    """An oblique grid."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (index for index in range(3) if index != axis)
        step = np.eye(3)
        step[[one, one, two, two], [one, two, one, two]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, (12.3, -45.6, 7.8)
    return affine


GRIDS = {
    "axial": np.diag([-0.7, -0.9, 3, 1]),
    "descending": np.diag([-0.7, -0.9, -3, 1]),
    "oblique": rotated((0.7, 0.9, 3.0), 0.3, -0.4, 0.2),
    "sagittal": np.array([[0, 0, 4.0, 3], [0.8, 0, 0, -20], [0, -0.6, 0, 5], [0, 0, 0, 1]]),
}


@pytest.fixture(params=GRIDS)
def series(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A series, a label map on its grid, and the affine; the files' names are in another order than the slices."""
    affine = GRIDS[request.param]
    label = np.random.default_rng(0).choice([0, 0, 0, 1, 2, 9], SHAPE).astype(np.uint8)
    names = [f"{(5 * number) % SHAPE[2]}.dcm" for number in range(SHAPE[2])]
    folder = write_series(tmp_path / "a series", 100 * label, affine, names=names)
    return folder, label, affine


def saved(path: Path, label: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(label, affine), path)
    return path


def write(label_file: Path, folder: Any, destination: Path) -> Path | None:
    return write_dicom_seg(label_file, folder, NAMES, destination, "spineparsenet", "0.2.0")


def read_back(file: Path, label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The label map by the places in mm that the file gives its frames."""
    content = highdicom.seg.segread(file)
    result = np.zeros_like(label)
    to_label = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    shared = content.SharedFunctionalGroupsSequence[0]
    orientation = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    values = {1: 1, 2: 2, 3: 9}
    for frame, about in zip(content.pixel_array, content.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(about.PlanePositionSequence[0].ImagePositionPatient, float)
        segment = about if "SegmentIdentificationSequence" in about else shared  # one segment: the same for all frames
        number = segment.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        rows, columns = np.nonzero(frame)
        places = position + np.outer(columns, orientation[0]) * spacing[1] + np.outer(rows, orientation[1]) * spacing[0]
        voxels = np.column_stack([places, np.ones(len(places))]) @ to_label.T
        assert np.abs(voxels - np.round(voxels)).max() < 1e-3
        result[tuple(np.round(voxels[:, :3]).astype(int).T)] = values[number]
    return result


def test_every_voxel_is_in_its_place(series: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    folder, label, affine = series
    file = write(saved(tmp_path / "label.nii.gz", label, affine), folder, tmp_path / "out" / "seg.dcm")
    assert file == tmp_path / "out" / "seg.dcm"
    assert np.array_equal(read_back(file, label, affine), label)


def test_a_label_map_with_other_axes_goes_to_the_same_pixels(
    series: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """As tools do that store NIfTI in RAS."""
    folder, label, affine = series
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(label, affine))
    nibabel.save(image, tmp_path / "label.nii")
    file = write(tmp_path / "label.nii", folder, tmp_path / "seg.dcm")
    assert file is not None and np.array_equal(read_back(file, label, affine), label)


def test_what_a_viewer_shows(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[1:3], label[4], label[7] = 1, 4, 9
    folder = write_series(tmp_path / "series", label, GRIDS["axial"], series_number=7)
    file = write(saved(tmp_path / "label.nii", label, GRIDS["axial"]), folder, tmp_path / "seg.dcm")
    assert file is not None
    content = highdicom.seg.segread(file)
    left, other, lesion = content.SegmentSequence
    assert [one.SegmentLabel for one in content.SegmentSequence] == [NAMES[1], NAMES[4], NAMES[9]]
    assert [one.SegmentNumber for one in content.SegmentSequence] == [1, 2, 3]
    assert other.SegmentDescription == f"{NAMES[4]}, value 4 in the label map"
    kind = left.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("71341001", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert other.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MSB"
    assert lesion.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert {one.SegmentAlgorithmType for one in content.SegmentSequence} == {"AUTOMATIC"}
    algorithm = left.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("spineparsenet", "0.2.0")
    assert (content.Modality, content.SegmentationType, content.SeriesNumber) == ("SEG", "BINARY", 799)
    source = highdicom.imread(next(folder.iterdir()))
    assert content.FrameOfReferenceUID == source.FrameOfReferenceUID and content.PatientID == source.PatientID
    assert content.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_an_enhanced_file_holds_all_slices(tmp_path: Path) -> None:
    label = np.random.default_rng(1).choice([0, 1, 2, 9], SHAPE).astype(np.uint8)
    source = write_enhanced(tmp_path / "enhanced.dcm", label, GRIDS["oblique"])
    file = write(saved(tmp_path / "label.nii", label, GRIDS["oblique"]), source, tmp_path / "out" / "seg.dcm")
    assert file is not None and np.array_equal(read_back(file, label, GRIDS["oblique"]), label)


def test_anonymised_series(tmp_path: Path) -> None:
    label = np.ones(SHAPE, np.uint8)
    folder = write_series(tmp_path / "series", label, GRIDS["axial"])
    for keywords in (_MAY_BE_EMPTY, ["FrameOfReferenceUID"]):
        for path in folder.iterdir():
            image = pydicom.dcmread(path)
            for keyword in keywords:
                image.pop(keyword, None)
            image.save_as(path)
        if keywords is _MAY_BE_EMPTY:
            file = write(saved(tmp_path / "label.nii", label, GRIDS["axial"]), folder, tmp_path / "seg.dcm")
            assert file is not None and np.array_equal(read_back(file, label, GRIDS["axial"]), label)
    with pytest.raises(InputError, match="has no FrameOfReferenceUID, to which"):
        write(tmp_path / "label.nii", folder, tmp_path / "seg.dcm")


def test_one_file_names_its_series_where_several_lie_together(tmp_path: Path) -> None:
    label = np.ones(SHAPE, np.uint8)
    affine = GRIDS["axial"]
    write_series(tmp_path / "study", label, rotated((1, 1, 2), 0.2), names=[f"a{n}" for n in range(SHAPE[2])])
    folder = write_series(tmp_path / "study", label, affine, names=[f"b{n}.dcm" for n in range(SHAPE[2])])
    file = write(saved(tmp_path / "label.nii", label, affine), folder / "b3.dcm", tmp_path / "seg.dcm")
    assert file is not None and np.array_equal(read_back(file, label, affine), label)


def test_nothing_found_is_no_file(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    folder = write_series(tmp_path / "series", label, GRIDS["axial"])
    (tmp_path / "seg.dcm").write_bytes(b"of an earlier run")
    assert write(saved(tmp_path / "label.nii", label, GRIDS["axial"]), folder, tmp_path / "seg.dcm") is None
    assert not (tmp_path / "seg.dcm").exists()


def test_bad_input_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.ones(SHAPE, np.uint8)
    folder = write_series(tmp_path / "series", label, GRIDS["axial"])
    (folder / "notes.txt").write_text("no DICOM")
    good = saved(tmp_path / "label.nii", label, GRIDS["axial"])
    for number, grid in enumerate((GRIDS["oblique"], np.diag([-0.7, -0.9, 3.1, 1]))):
        elsewhere = saved(tmp_path / f"{number}.nii", label, grid)
        with pytest.raises(InputError, match=rf"{number}\.nii: its grid is not that of the DICOM file"):
            write(elsewhere, folder, tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="its grid is not that"):
        write(
            saved(tmp_path / "longer.nii", np.ones((*SHAPE[:2], 7), np.uint8), GRIDS["axial"]), folder, tmp_path / "a"
        )
    with pytest.raises(InputError, match="has the value 3, which has no name"):
        write(saved(tmp_path / "3.nii", 3 * label, GRIDS["axial"]), folder, tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="is no label map"):
        write(saved(tmp_path / "half.nii", label / 2.0, GRIDS["axial"]), folder, tmp_path / "seg.dcm")
    write_series(tmp_path / "series", label, GRIDS["axial"], names=[f"b{number}" for number in range(SHAPE[2])])
    with pytest.raises(InputError, match="series: holds 2 DICOM series"):
        write(good, folder, tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="gone: holds no DICOM image"):
        write(good, tmp_path / "gone", tmp_path / "seg.dcm")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match="highdicom, which is not installed"):
        write(good, folder, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize("bundle", sorted(available()))
def test_every_structure_of_a_bundle_has_codes_that_exist(bundle: str) -> None:
    for value, name in available()[bundle].labels.items():
        about = segment_codes(name)
        if value:
            assert about.keyword is None or hasattr(codes.SCT, about.keyword), name
            assert 0 < len(about.kind[0]) <= 16 and 0 < len(about.kind[2]) <= 64
    if bundle == "spineparsenet":
        assert all(segment_codes(name).keyword for value, name in available()[bundle].labels.items() if value)
