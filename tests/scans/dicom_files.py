# SPDX-License-Identifier: Apache-2.0
"""DICOM series written from an array and an affine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence as Items  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

_STORAGE = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
}


def write_series(
    folder: Path,
    array: NDArray[Any],
    affine: Any,
    description: str = "T2",
    modality: str = "MR",
    *,
    study_uid: str = "",
    series_number: int = 1,
    names: Sequence[str] = (),
    rescale: tuple[float, float] | None = None,
    **elements: Any,
) -> Path:
    """Write one DICOM series, one file a slice of the array's last axis.

    Args:
        folder: where the files go; made if it is not there.
        array: X x Y x Z voxels of a NIfTI file; rounded to int16.
        affine: 4x4, voxel index to mm towards right, anterior, superior (RAS); its first two axes at right angles.
        description: SeriesDescription.
        modality: "MR" or "CT".
        study_uid: StudyInstanceUID, for several series of one study; new when empty.
        series_number: SeriesNumber.
        names: file name of each slice in the order of the array; IM0001.dcm ... when empty.
        rescale: RescaleSlope and RescaleIntercept, written with the stored values untouched.
        elements: further elements by keyword, such as ContrastBolusAgent="Gd" or ImageType=[...].

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = study_uid or generate_uid(), generate_uid(), generate_uid()
    for number in range(array.shape[2]):
        file = folder / (names[number] if names else f"IM{number + 1:04d}.dcm")
        image = _header(file, modality, _STORAGE[modality], (study, series, frame), description, series_number)
        image.InstanceNumber = number + 1
        _place(image, affine, number)
        _plane(image, affine)
        if rescale is not None:
            image.RescaleSlope, image.RescaleIntercept = rescale
        for keyword, value in elements.items():
            setattr(image, keyword, value)
        _pixels(image, array[:, :, number : number + 1])
        image.save_as(file, enforce_file_format=True)
    return folder


def write_enhanced(file: Path, array: NDArray[Any], affine: Any, description: str = "T2") -> Path:
    """Write an enhanced MR image: all slices as frames of one file, last slice first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    uids = generate_uid(), generate_uid(), generate_uid()
    image = _header(file, "MR", _STORAGE["enhanced MR"], uids, description, 1)
    image.InstanceNumber, image.NumberOfFrames = 1, array.shape[2]
    shared, turned, measured, scaled = Dataset(), Dataset(), Dataset(), Dataset()
    _plane(measured, affine)
    turned.ImageOrientationPatient = measured.ImageOrientationPatient
    del measured.ImageOrientationPatient
    scaled.RescaleSlope, scaled.RescaleIntercept, scaled.RescaleType = 1, 0, "US"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([turned]), Items([measured])
    shared.PixelValueTransformationSequence = Items([scaled])
    image.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for number in reversed(range(array.shape[2])):
        place, own = Dataset(), Dataset()
        _place(place, affine, number)
        own.PlanePositionSequence = Items([place])
        frames.append(own)
    image.PerFrameFunctionalGroupsSequence = Items(frames)
    _pixels(image, array[:, :, ::-1])
    image.save_as(file, enforce_file_format=True)
    return file


def _header(
    file: Path, modality: str, storage: str, uids: tuple[str, str, str], description: str, series_number: int
) -> FileDataset:
    """What all images of a series say."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Case", "P1", "", ""
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = uids
    image.StudyID, image.StudyDate, image.StudyTime, image.AccessionNumber = "1", "20200101", "120000", ""
    image.ReferringPhysicianName, image.Manufacturer, image.PositionReferenceIndicator = "", "", ""
    image.Modality, image.SeriesDescription, image.SeriesNumber = modality, description, series_number
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    return image


def _place(image: Dataset, affine: Any, number: int) -> None:
    position = (_lps(affine) @ (0, 0, number, 1))[:3]
    image.ImagePositionPatient = [float(f"{value:.8f}") for value in position]


def _plane(image: Dataset, affine: Any) -> None:
    lps = _lps(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.ImageOrientationPatient = [float(f"{value:.10f}") for value in (lps[:3, :2] / spacing[:2]).T.ravel()]
    image.PixelSpacing = [float(f"{spacing[1]:.9f}"), float(f"{spacing[0]:.9f}")]  # rows, then columns
    image.SliceThickness = float(f"{spacing[2]:.9f}")


def _pixels(image: FileDataset, array: NDArray[Any]) -> None:
    """Frames x rows x columns from X x Y x Z."""
    pixels = np.ascontiguousarray(np.round(array).astype(np.int16).T)
    image.Rows, image.Columns = pixels.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = pixels.tobytes()


def _lps(affine: Any) -> NDArray[np.float64]:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=float)
