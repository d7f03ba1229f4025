# SPDX-License-Identifier: Apache-2.0
"""Voxels of NRRD, MetaImage and DICOM files through SimpleITK, which is optional."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.scans.dicom_geometry import LPS_TO_RAS
from custom_nets.scans.dicom_headers import INSTALL, Slice

_FORMATS = {".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}


def read_image(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """A NRRD or MetaImage file.

    SimpleITK's world runs to the left, posterior and superior, NIfTI's to the right, anterior and superior: the affine
    is turned, voxels stay where they are in the array and in the patient.

    Returns:
        X x Y x Z voxels, and the 4x4 affine of NIfTI.

    Raises:
        InputError: SimpleITK is not installed; a file that cannot be read, or is not one 3D volume of real numbers.
    """
    sitk = _simpleitk(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        kind = _FORMATS[path.suffix.lower()]
        raise InputError(
            f"{path}: is damaged, or no {kind} that can be read ({_reason(error)}): copy or download it again"
        ) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        parts = image.GetNumberOfComponentsPerPixel()
        found = f"{image.GetDimension()}D, {parts} value(s) a voxel, size {image.GetSize()}"
        raise InputError(f"{path}: {found}: save it as one 3D volume with one real value a voxel")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    voxels = sitk.GetArrayFromImage(image)
    if voxels.dtype.kind not in "biuf":
        raise InputError(f"{path}: voxels of type {voxels.dtype}: save it with one real value a voxel")
    return voxels.T, LPS_TO_RAS @ affine


def read_slices(slices: Sequence[Slice]) -> NDArray[Any]:
    """The pixels of DICOM slices, scaled by slope and intercept, as columns x rows x slices in the given order.

    Raises:
        InputError: SimpleITK is not installed; a file that cannot be read, or that holds colours.
    """
    first = slices[0].file
    sitk = _simpleitk(first)
    scalings = {one.rescale for one in slices}
    in_one_file = len({one.file for one in slices}) == 1
    if in_one_file and len(scalings) > 1:
        raise InputError(f"{first}: frames with slopes of their own: export it as a classic series, one file a slice")
    reader = sitk.ImageFileReader() if in_one_file else sitk.ImageSeriesReader()
    if in_one_file:
        reader.SetFileName(str(first))
    else:
        reader.SetFileNames([str(one.file) for one in slices])
    if len(scalings) > 1 or not all(value.is_integer() for value in scalings.pop()):
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice would decide for all, or 64 bits be taken
    try:
        image = reader.Execute()
    except RuntimeError as error:
        broken = next((one.file for one in slices if not _reads(sitk, one.file)), first)
        raise InputError(f"{broken}: DICOM file cannot be read ({_reason(error)}): copy or export it again") from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{first}: colours, no intensities: give the scan itself, not a screenshot")
    voxels = sitk.GetArrayFromImage(image).T
    frames = [one.frame for one in slices]
    return voxels[:, :, frames] if any(frames) else voxels


def _simpleitk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise InputError(f"{path}: reading this format needs SimpleITK: {INSTALL}, or convert it to NIfTI") from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _reads(sitk: Any, path: Path) -> bool:
    try:
        sitk.ReadImage(str(path))
    except RuntimeError:
        return False
    return True


def _reason(error: RuntimeError) -> str:
    """The last line that says something, without the place in SimpleITK's sources."""
    lines = [re.sub(r"^.*(?:ERROR: |\): )", "", line).strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"
