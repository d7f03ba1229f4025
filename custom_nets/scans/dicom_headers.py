# SPDX-License-Identifier: Apache-2.0
"""The headers of DICOM files, by series; no pixel is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_nets.errors import InputError

INSTALL = "pip install -e '.[dicom]'"
_MAGIC_AT, _MAGIC = 128, b"DICM"
#: Files that lie beside scans and need not be opened.
_NEVER = frozenset((".json", ".csv", ".tsv", ".txt", ".md", ".pdf", ".png", ".jpg", ".bval", ".bvec", ".zip", ".gz"))
_NO_CONTRAST = frozenset(("", "no", "none", "n", "0"))
_TAGS = [
    *("SeriesInstanceUID", "StudyInstanceUID", "SeriesDescription", "ProtocolName", "SeriesNumber", "Modality"),
    *("ImageType", "ContrastBolusAgent", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RescaleSlope", "RescaleIntercept", "SamplesPerPixel", "SpecificCharacterSet"),
]


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        file: that holds it.
        frame: its place in a file of several frames.
        position: of the first pixel's centre in mm towards left, posterior, superior.
        orientation: direction cosines along a row and along a column.
        spacing: distance of rows, and of columns, in mm.
        size: number of columns and rows.
        rescale: slope and intercept of the stored values.
    """

    file: Path
    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    rescale: tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A DICOM series.

    Attributes:
        uid: SeriesInstanceUID.
        study: StudyInstanceUID.
        description: SeriesDescription.
        protocol: ProtocolName.
        modality: MR, CT, SEG ...
        image_type: in upper case.
        contrast: whether a contrast agent is stated.
        files: in the order of their names.
        slices: with a place in the patient; empty for what is no stack of images.
    """

    uid: str
    study: str
    description: str
    protocol: str
    modality: str
    image_type: frozenset[str]
    contrast: bool
    files: tuple[Path, ...]
    slices: tuple[Slice, ...]

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return self.description or self.protocol or self.files[0].parent.name


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes or by its name."""
    suffix = path.suffix.lower()
    if suffix in _NEVER or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + 4)[_MAGIC_AT:] == _MAGIC or suffix == ".dcm"
    except OSError:
        return False


def series_files(path: Path) -> list[Path]:
    """The files of the one series that a case names, sorted by name.

    Args:
        path: a folder that holds one series, or a file of the series.

    Raises:
        InputError: as :func:`one_series`.
    """
    return list(one_series(path).files)


def one_series(path: Path) -> Series:
    """The one series in a folder, or that to which a file belongs.

    Raises:
        InputError: pydicom is not installed, no DICOM there, or a folder with several series.
    """
    folder = path if path.is_dir() else path.parent
    found = read_series(file for file in sorted(folder.iterdir()) if is_dicom(file))
    if path.is_file():
        found = [series for series in found if path in series.files]
    if len(found) > 1:
        names = ", ".join(series.title for series in found)
        raise InputError(f"{path}: holds {len(found)} DICOM series ({names}): name one file of the right one.")
    if not found:
        raise InputError(f"{path}: holds no DICOM image that can be read: copy or export it again.")
    return found[0]


def read_series(files: Iterable[Path]) -> list[Series]:
    """The series to which DICOM files belong, in the order of their first files; unreadable files are left out.

    Raises:
        InputError: pydicom is not installed.
    """
    headers: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for path in files:
        if (header := _header(path)) is not None:
            headers[str(header.get("SeriesInstanceUID", path.parent))].append((path, header))
    return [_series(uid, entries) for uid, entries in headers.items()]


def _header(path: Path) -> Any:
    try:
        import pydicom
    except ImportError:
        raise InputError(f"{path}: reading DICOM needs pydicom and SimpleITK: {INSTALL}") from None
    try:
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            return header if "Modality" in header or "Rows" in header else None
    except Exception:  # pydicom answers a damaged file with many kinds of exception
        return None


def _series(uid: str, entries: list[tuple[Path, Any]]) -> Series:
    first = entries[0][1]
    slices = [one for path, header in entries for one in _slices(path, header)]
    return Series(
        uid,
        str(first.get("StudyInstanceUID", "")),
        str(first.get("SeriesDescription", "") or ""),
        str(first.get("ProtocolName", "") or ""),
        str(first.get("Modality", "") or ""),
        frozenset(str(value).upper() for value in _several(first.get("ImageType"))),
        str(first.get("ContrastBolusAgent", "") or "").strip().lower() not in _NO_CONTRAST,
        tuple(path for path, _ in entries),
        tuple(slices),
    )


def _slices(path: Path, header: Any) -> Iterator[Slice]:
    """The images of a file that say where they lie."""
    frames = int(header.get("NumberOfFrames", 1) or 1)
    try:
        if frames == 1 and "PerFrameFunctionalGroupsSequence" not in header:
            rescale = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            yield _slice(path, 0, header, header, header, header, rescale)
            return
        shared = _several(header.get("SharedFunctionalGroupsSequence"))
        for frame, own in enumerate(_several(header.get("PerFrameFunctionalGroupsSequence"))):
            groups = [own, *shared]
            scaling = _group(groups, "PixelValueTransformationSequence")
            rescale = (1.0, 0.0) if scaling is None else (float(scaling.RescaleSlope), float(scaling.RescaleIntercept))
            place = _group(groups, "PlanePositionSequence")
            turned = _group(groups, "PlaneOrientationSequence")
            yield _slice(path, frame, header, place, turned, _group(groups, "PixelMeasuresSequence"), rescale)
    except (AttributeError, TypeError, ValueError):
        return


def _slice(
    path: Path, frame: int, header: Any, place: Any, turned: Any, measured: Any, rescale: tuple[float, float]
) -> Slice:
    return Slice(
        path,
        frame,
        tuple(float(value) for value in place.ImagePositionPatient),
        tuple(float(value) for value in turned.ImageOrientationPatient),
        tuple(float(value) for value in measured.PixelSpacing),
        (int(header.Columns), int(header.Rows)),
        rescale if np.isfinite(rescale).all() else (1.0, 0.0),
    )


def _group(groups: list[Any], name: str) -> Any:
    """A functional group of a frame, its own or that of all frames."""
    return next((group.get(name)[0] for group in groups if group.get(name)), None)


def _several(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
