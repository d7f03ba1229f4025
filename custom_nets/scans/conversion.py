# SPDX-License-Identifier: Apache-2.0
"""The files of a case as checked NIfTI files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.datasets.checks import check_case
from custom_nets.datasets.problems import Problem, errors_of
from custom_nets.datasets.volumes import require_voxels
from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.scans.dicom_geometry import affine_of, ordered_slices
from custom_nets.scans.dicom_headers import is_dicom, one_series
from custom_nets.scans.file_names import CONVERTED, is_nifti
from custom_nets.scans.scan_case import ScanCase
from custom_nets.scans.simpleitk_images import read_image, read_slices

_SHOWN_PROBLEMS = 3
_INT32 = np.iinfo(np.int32)


def nifti_files(case: ScanCase, scratch: Path) -> list[Path]:
    """The images of a case as NIfTI files on one grid, each read to its last voxel and checked.

    Args:
        case: as found by :func:`~custom_nets.scans.cases.find_cases`.
        scratch: folder for what is converted, uncompressed, in the voxels' type; slope and intercept are applied.

    Returns:
        One 3D file a modality, in the bundle's order; those that are NIfTI are passed through.

    Raises:
        InputError: what keeps the case from being segmented, in one line: its ``problem``, a file that cannot be read,
            is 2D or 4D, holds NaN or one value only, or lies on another grid than the first.
    """
    if case.problem:
        raise InputError(case.problem)
    outputs = [scratch / f"{case.name}_{modality}.nii" for modality in case.images]
    paths = list(case.images.values())
    files = _channels(case, outputs) if case.channels else list(map(_converted, paths, outputs))
    sources = {str(file): str(path) for file, path in zip(files, paths, strict=True)}
    problems = list(_no_volumes(case.name, files))
    if not problems:
        problems = check_case({"case": case.name, "image": [str(path) for path in files]}, list(case.images))
    if errors := errors_of(problems):
        lines = [f"{sources.get(one.file, one.file)}: {one.found}: {one.advice}" for one in errors[:_SHOWN_PROBLEMS]]
        more = f" ({len(errors) - len(lines)} more problems)" if len(errors) > len(lines) else ""
        raise InputError("; ".join(lines) + more)
    return files


def _channels(case: ScanCase, outputs: Sequence[Path]) -> list[Path]:
    """The modalities of one 4D file, which is read once."""
    (path,) = set(case.images.values())
    image, voxels = require_voxels(path)
    if voxels.ndim != 4 or voxels.shape[3] <= max(case.channels.values()):
        raise InputError(
            f"{path}: {voxels.ndim}D, shape {voxels.shape}: give one file a modality, or all of them as 4D channels"
        )
    places, affine = [case.channels[modality] for modality in case.images], np.asarray(image.affine, dtype=np.float64)
    return [_write(voxels[..., place], affine, output) for place, output in zip(places, outputs, strict=True)]


def _converted(path: Path, output: Path) -> Path:
    if path.is_dir() or (not is_nifti(path) and is_dicom(path)):
        slices = ordered_slices(one_series(path))
        return _write(read_slices(slices), affine_of(slices), output)
    if path.name.lower().endswith(CONVERTED):
        if not path.is_file():
            raise InputError(f"{path}: does not exist: correct the path or bring the file back")
        return _write(*read_image(path), output)
    if _stored_shape(path)[3:] == (1,):
        image, voxels = require_voxels(path)
        return _write(voxels[..., 0], np.asarray(image.affine, dtype=np.float64), output)
    return path  # NIfTI, or what the checks refuse by name


def _write(voxels: NDArray[Any], affine: NDArray[np.float64], output: Path) -> Path:
    image = nibabel.Nifti1Image(_storable(voxels), affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    with written_whole(output) as temporary:
        nibabel.save(image, temporary)
    return output


def _storable(voxels: NDArray[Any]) -> NDArray[Any]:
    """The voxels in a type that all readers of NIfTI know: 64-bit integers become 32-bit ones, or floats."""
    if voxels.dtype.kind == "b":
        return voxels.astype(np.uint8)
    if voxels.dtype in (np.int64, np.uint64):
        fits = voxels.size == 0 or (voxels.min() >= _INT32.min and voxels.max() <= _INT32.max)
        return voxels.astype(np.int32 if fits else np.float64)
    return voxels


def _no_volumes(name: str, files: Sequence[Path]) -> Iterator[Problem]:
    """What headers alone show to be no 3D volume: a single slice is a 2D image whatever its header says."""
    for path in files:
        shape = _stored_shape(path)
        if shape and len(shape) != 3:
            advice = "save it as one 3D volume; a data list can name the modalities of a 4D file's channels"
            yield Problem(name, str(path), f"{len(shape)}D, shape {shape}", advice)
        elif shape and min(shape) == 1:
            yield Problem(name, str(path), f"a single slice, shape {shape}", "give the whole volume")


def _stored_shape(path: Path) -> tuple[int, ...]:
    """The size of all axes by the header; empty where that cannot be read, which is for the checks to say."""
    try:
        return tuple(int(size) for size in nibabel.Nifti1Image.from_filename(path).shape)
    except Exception:  # nibabel answers a broken header with many kinds of exception
        return ()
