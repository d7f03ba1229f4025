# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of a DICOM series lie, and whether its slices are one regular volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.scans.dicom_headers import Series, Slice

#: From mm towards left, posterior, superior, as in DICOM, to right, anterior, superior, as in NIfTI; its own inverse.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_COSINE = 1e-3  # of directions that count as equal
_SHEAR = 0.01  # sideways shift a slice, as a share of the distance: 0.6 degrees; more is a tilted gantry
_UNEVEN = 0.02  # of the distance between slices
_ROUNDING_MM = 0.01  # of positions, which are written as decimals


def ordered_slices(series: Series) -> list[Slice]:
    """The slices of a series in the order of the patient's axis on which they lie, first to last.

    Raises:
        InputError: no image with a place, slices of several sizes or orientations, two at one place, a slice missing,
            uneven gaps, a tilted gantry.
    """
    slices = list(series.slices)
    where = f"DICOM series {series.title!r} in {series.files[0].parent}"
    if len(slices) < 2:
        found = "1 slice" if slices else "no image with ImagePositionPatient"
        raise InputError(f"{where}: {found}: give the whole series of slices.")
    first = slices[0]
    for one in slices[1:]:
        if one.size != first.size or not np.allclose(one.spacing, first.spacing, rtol=1e-3):
            raise InputError(f"{where}: {_named(one)} has another size than {_named(first)}: give one series alone.")
        if not np.allclose(one.orientation, first.orientation, atol=_COSINE):
            raise InputError(f"{where}: slices in several orientations, such as a localizer's: give another series.")
    normal = _normal(first)
    slices.sort(key=lambda one: float(np.dot(normal, one.position)))
    _require_even(slices, normal, where)
    return slices


def affine_of(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """4x4 matrix of the voxels (column, row, slice) of `ordered_slices` to mm towards right, anterior, superior."""
    first, last = plane_of(slices[0]), plane_of(slices[-1])
    affine = np.eye(4)
    affine[:, [0, 1, 3]] = first
    affine[:, 2] = (last[:, 2] - first[:, 2]) / (len(slices) - 1)
    return affine


def plane_of(one: Slice) -> NDArray[np.float64]:
    """4x3 matrix of the pixels (column, row, 1) of a slice to mm towards right, anterior, superior.

    Source: DICOM PS3.3 equation C.7.6.2.1-1; its axes to the left and to posterior change their sign.
    """
    matrix = np.zeros((4, 3))
    matrix[:3, 0] = np.array(one.orientation[:3]) * one.spacing[1]  # along a row the distance is that of columns
    matrix[:3, 1] = np.array(one.orientation[3:]) * one.spacing[0]
    matrix[:, 2] = (*one.position, 1)
    return LPS_TO_RAS @ matrix


def _require_even(slices: Sequence[Slice], normal: NDArray[np.float64], where: str) -> None:
    steps = np.diff(np.array([one.position for one in slices]), axis=0)
    distances = steps @ normal
    usual = float(np.median(distances))
    tolerance = max(_UNEVEN * usual, _ROUNDING_MM)
    for number, distance in enumerate(distances):
        before, after = _named(slices[number]), _named(slices[number + 1])
        if distance < _ROUNDING_MM:
            raise InputError(
                f"{where}: {before} and {after} lie at the same place, as of several echoes, phases or times in one "
                "series: export the one wanted by itself."
            )
        if abs(distance - usual) > tolerance:
            missing = round(distance / usual) - 1 if usual >= _ROUNDING_MM else 0
            whole = missing >= 1 and abs(distance - (missing + 1) * usual) <= (missing + 1) * tolerance
            what = f"{missing} slice(s) missing" if whole else "uneven gap"
            raise InputError(
                f"{where}: {what} between {before} and {after}, {distance:.4g} mm where others lie {usual:.4g} mm "
                f"apart: {'copy or export the whole series again' if whole else 'resample it to even slices'}."
            )
    sideways = np.linalg.norm(steps - distances[:, None] * normal, axis=1)
    if sideways.max() > max(_SHEAR * usual, _ROUNDING_MM):
        angle = np.degrees(np.arctan2(sideways.max(), usual))
        raise InputError(
            f"{where}: slices are shifted against each other by {angle:.2g} degrees (a tilted gantry): resample it to "
            "an upright grid, for example with dcm2niix."
        )


def _normal(one: Slice) -> NDArray[np.float64]:
    """Unit vector at right angles to the slice."""
    normal = np.cross(one.orientation[:3], one.orientation[3:])
    length = float(np.linalg.norm(normal))
    if length < 0.5:
        raise InputError(f"{one.file}: ImageOrientationPatient {one.orientation} is no pair of directions.")
    return normal / length


def _named(one: Slice) -> str:
    return f"{one.file.name}" + (f" frame {one.frame + 1}" if one.frame else "")
