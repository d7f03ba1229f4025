# SPDX-License-Identifier: Apache-2.0
"""A label map as a DICOM segmentation that refers to the series it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.prediction.segment_codes import Code, segment_codes
from custom_nets.scans.dicom_geometry import plane_of
from custom_nets.scans.dicom_headers import INSTALL, Slice, one_series

#: How far a voxel of the label map may lie from one of the series, in voxels: headers have rounded numbers.
_TOLERANCE = 0.01
#: What a segmentation takes over from its source: it may be empty, it may not.
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "Manufacturer"),
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
_MANUFACTURER = "mri-seg-bundles"


def write_dicom_seg(
    label_file: str | Path,
    series: str | Path,
    names: Mapping[int, str],
    destination: str | Path,
    bundle_name: str,
    version: str,
) -> Path | None:
    """Write a label map as a binary DICOM segmentation, whole or not at all.

    Every label voxel goes back to the pixel of the source slice at the same place, whatever the order of the slices or
    the axes of the NIfTI file; nothing is resampled. Segments are the structures that were found, numbered from 1 in
    the order of their values as DICOM wants it; their descriptions name the value in the label map.

    Args:
        label_file: NIfTI, X x Y x Z, on the grid of the series.
        series: folder of the files of one series, or one file of it where others lie beside it.
        names: label value -> name; 0, background, is left out.
        destination: the file to write.
        bundle_name: what made the label map, for the segments' algorithm.
        version: of the bundle.

    Returns:
        The file. None where nothing is labelled: a segmentation needs a segment, so none is written, and one of an
        earlier run is removed.

    Raises:
        InputError: highdicom is not installed, the folder holds no series or several, or the label map is on another
            grid or has a value without a name.
    """
    require_highdicom()
    slices = one_series(Path(series)).slices
    if not slices:
        raise InputError(f"{series}: its images do not say where they lie in the patient: give the scan's own series.")
    frames = _frames(Path(label_file), slices)
    found = [int(value) for value in np.unique(frames) if value]
    unknown = [value for value in found if value not in names]
    if unknown:
        raise InputError(f"{label_file}: has the value {unknown[0]}, which has no name; they are {sorted(names)}.")
    if not found:
        Path(destination).unlink(missing_ok=True)
        return None
    numbers = np.zeros(max(found) + 1, np.uint8)
    numbers[found] = np.arange(1, len(found) + 1)
    segmentation = _segmentation(_headers(slices), numbers[frames], found, names, bundle_name, version)
    with written_whole(destination) as temporary:
        segmentation.save_as(temporary)
    return Path(destination)


def require_highdicom() -> None:
    """Refuse, in one line, to go on without what writes DICOM segmentations.

    Raises:
        InputError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401  an optional extra
    except ImportError as error:
        raise InputError(
            f"dicom_seg needs highdicom, which is not installed: {INSTALL}, or leave that option out."
        ) from error


def _headers(slices: Sequence[Slice]) -> list[Any]:
    """All that the files of a series say beside their pixels, in the order of its slices."""
    import pydicom

    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in dict.fromkeys(one.file for one in slices)]
    missing = [keyword for keyword in _NEEDED if keyword not in headers[0]]
    if missing:
        raise InputError(
            f"{slices[0].file}: has no {', '.join(missing)}, to which a DICOM segmentation has to refer: leave out "
            "dicom_seg, or export the series with them."
        )
    for header in headers:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:  # as anonymising leaves it
                setattr(header, keyword, None)
    return headers


def _frames(label_file: Path, slices: Sequence[Slice]) -> NDArray[Any]:
    """The label map as slices x rows x columns of the series."""
    image = nibabel.load(label_file)
    assert isinstance(image, nibabel.Nifti1Image)
    label = np.asarray(image.dataobj)
    if label.ndim != 3 or not np.array_equal(label, np.round(label)) or label.min(initial=0) < 0:
        raise InputError(f"{label_file}: is no label map of three axes with whole numbers from 0; predict again.")
    label = label.astype(np.uint8 if label.max(initial=0) < 256 else np.uint16)
    to_label = np.linalg.inv(np.asarray(image.affine, dtype=np.float64))
    if sum(one.size[0] * one.size[1] for one in slices) != label.size:
        raise _other_grid(label_file, slices[0])
    return np.stack([_frame(label, to_label @ plane_of(one), one, label_file) for one in slices])


def _frame(label: NDArray[Any], matrix: NDArray[np.float64], slice_: Slice, label_file: Path) -> NDArray[Any]:
    """One slice, rows x columns: its own axes are two of the label map's, maybe backwards."""
    columns, rows = slice_.size
    whole = np.round(matrix[:3])
    corners = np.array([[0, columns - 1, 0, columns - 1], [0, 0, rows - 1, rows - 1], [1, 1, 1, 1]])
    wanted = whole.astype(int) @ corners
    inside = (wanted >= 0).all() and (wanted < np.reshape(label.shape, (3, 1))).all()
    if not inside or np.abs(matrix[:3] @ corners - wanted).max() > _TOLERANCE:
        raise _other_grid(label_file, slice_)
    index = [
        axis[2] + axis[0] * np.arange(columns)[None, :] + axis[1] * np.arange(rows)[:, None]
        for axis in whole.astype(int)
    ]
    return label[index[0], index[1], index[2]]


def _other_grid(label_file: Path, slice_: Slice) -> InputError:
    return InputError(
        f"{label_file}: its grid is not that of the DICOM file {slice_.file}: give the series from which the label map "
        "was made."
    )


def _segmentation(
    headers: Sequence[Any],
    frames: NDArray[np.uint8],
    found: Sequence[int],
    names: Mapping[int, str],
    bundle_name: str,
    version: str,
) -> Any:
    import highdicom

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=bundle_name, version=version, family=_coded(("123110", "DCM", "Artificial Intelligence"))
    )
    descriptions = [_description(number, value, names[value], algorithm) for number, value in enumerate(found, 1)]
    return highdicom.seg.Segmentation(
        source_images=list(headers),
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=_series_number(headers[0]),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=bundle_name,
        software_versions=version,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=f"{bundle_name} {version}"[:64],
        series_description=f"Segmentation by {bundle_name}"[:64],
    )


def _description(number: int, value: int, name: str, algorithm: Any) -> Any:
    """One segment: what it is, and the value that it has in the label map."""
    import highdicom
    from pydicom.sr.codedict import codes

    about = segment_codes(name)
    known = getattr(codes.SCT, about.keyword, None) if about.keyword else None
    kind = _coded((known.value, known.scheme_designator, known.meaning[:64]) if known else about.kind)
    if about.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_coded(about.side)]
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=_coded(about.category),
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    description.SegmentDescription = f"{name}, value {value} in the label map"
    return description


def _coded(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(*code)


def _series_number(header: Any) -> int:
    """Beside the source's, as derived series usually are numbered."""
    return int(header.get("SeriesNumber") or 0) % 1_000_000 * 100 + 99
