# SPDX-License-Identifier: Apache-2.0
"""Lesion masks as they are published, brought to the one 0/1 label map of a scan that training reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, UnusableFile, corner_shift, read_voxels
from custom_nets.errors import InputError
from custom_nets.files import written_whole

FOLDER = "merged_labels"
_MARK = b"lesion masks merged by make_datalist"  # the header's description, by which later calls know the file


def merged_path(root: Path, case: str) -> Path:
    """Where the merged mask of a case lies in the data set's folder."""
    return root / FOLDER / f"{case}_label.nii.gz"


def made_here(path: Path) -> bool:
    """Whether ``path`` is a mask that ``write_merged`` made, and no scan's own."""
    if path.parent.name != FOLDER:
        return False
    try:
        header: Any = nibabel.load(path).header
    except (OSError, nibabel.filebasedimages.ImageFileError):
        return False
    return bytes(header["descrip"].item()).startswith(_MARK)


def write_merged(
    path: Path, image: Path, masks: Sequence[Path], tolerance_mm: float = AFFINE_TOLERANCE_MM
) -> float | None:
    """Merge the masks of a scan by voxel-wise maximum and write where they are positive, whole or not at all.

    Args:
        path: the ``.nii.gz`` file to write: 0 and 1 as uint8, with the image's affine. A file that is there already
            stays as it is, whoever made it.
        image: the scan.
        masks: its masks, on the scan's grid.
        tolerance_mm: how far apart mask and scan may put a corner of the volume, in mm.

    Returns:
        The lesion volume in millilitres; None when another file has the place.

    Raises:
        InputError: a mask cannot be read or is not on the scan's grid.
    """
    scan: Any = nibabel.load(image)
    merged = np.zeros(scan.shape[:3], dtype=np.uint8)
    for mask in masks:
        merged |= _foreground(mask, scan, tolerance_mm)
    if path.exists():
        if not _holds(path, merged, scan, tolerance_mm):
            return None
    else:
        label = nibabel.Nifti1Image(merged, scan.affine, scan.header, dtype=np.uint8)
        label.header["descrip"] = _MARK
        label.header["cal_min"], label.header["cal_max"] = 0, 1
        with written_whole(path) as temporary:
            nibabel.save(label, temporary)
    return int(merged.sum()) * abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1000


def _foreground(mask: Path, scan: Any, tolerance_mm: float) -> NDArray[np.uint8]:
    try:
        stored, voxels = read_voxels(mask)
    except UnusableFile as reason:
        raise InputError(f"{mask}: {reason.found}: {reason.advice}") from None
    if voxels.shape != scan.shape[:3]:
        raise InputError(f"{mask}: shape {voxels.shape}, but its scan has {scan.shape[:3]}: resample it")
    shift = corner_shift(scan.affine, stored.affine, voxels.shape)
    if not shift <= tolerance_mm:
        raise InputError(f"{mask}: affine differs from its scan by up to {shift:.3g} mm: resample it")
    return (voxels > 0).astype(np.uint8)


def _holds(path: Path, merged: NDArray[np.uint8], scan: Any, tolerance_mm: float) -> bool:
    """Whether the file that is there is what would be written."""
    try:
        stored, voxels = read_voxels(path)
    except UnusableFile:
        return False
    same = voxels.shape == merged.shape and np.array_equal(voxels, merged)
    return same and corner_shift(scan.affine, stored.affine, merged.shape) <= tolerance_mm
