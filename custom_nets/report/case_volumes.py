# SPDX-License-Identifier: Apache-2.0
"""The volumes of one case on the grid of its label map, along the axes of the body."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from custom_nets.components import bounding_box
from custom_nets.errors import InputError
from custom_nets.figures.volumes import Volume, canonical, foreground, grey_window, values_on_grid
from custom_nets.report.records import Record
from custom_nets.scans import ScanCase, nifti_files

LabelMap = NDArray[np.integer]
_UNREADABLE = (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError, ValueError)


@dataclass(frozen=True)
class CaseVolumes:
    """X x Y x Z in RAS order, all on one grid.

    Attributes:
        image: NaN outside the body; None where it cannot be read.
        window: values of the image that are drawn black and white.
        segmentation: the prediction, whole numbers.
        reference: whole numbers, or None.
        uncertainty: from 0 upwards, or None.
        affine: 4 x 4, voxel index -> RAS coordinates in mm.
        notes: what could not be read or compared, a sentence each.
    """

    image: Volume | None
    window: tuple[float, float]
    segmentation: LabelMap
    reference: LabelMap | None
    uncertainty: Volume | None
    affine: NDArray[np.float64]
    notes: Sequence[str]

    @cached_property
    def body(self) -> tuple[slice, ...]:
        """The smallest box that holds the body and all that is labelled, or the whole grid."""
        shown = self.segmentation > 0
        if self.image is not None:
            shown |= np.isfinite(self.image)
        if self.reference is not None:
            shown |= self.reference > 0
        return bounding_box(shown) if shown.any() else tuple(slice(0, size) for size in shown.shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the three axes, mm."""
        x, y, z = (float(size) for size in nib.affines.voxel_sizes(self.affine))
        return x, y, z


def read_volumes(
    record: Record, out_dir: Path, modality: str | None = None, reference: Path | None = None
) -> CaseVolumes:
    """Read what is drawn of a case.

    Args:
        record: of the case.
        out_dir: folder of its outputs.
        modality: the image that is drawn; None = the first.
        reference: file of the reference label map, in any order of the axes.

    Raises:
        InputError: the label map is missing or cannot be read. Of the other volumes the notes tell.
    """
    segmentation = _read(out_dir / record.outputs["segmentation"]["file"], "segmentation")
    notes: list[str] = []
    image = _image(record, modality, segmentation, notes)
    uncertainty = None
    if "uncertainty" in record.outputs:
        path = out_dir / record.outputs["uncertainty"]["file"]
        found = _on_grid(path, "uncertainty map", segmentation, notes)
        uncertainty = None if found is None else np.nan_to_num(found.astype(np.float32))
    labels = None if reference is None else _on_grid(reference, "reference", segmentation, notes)
    return CaseVolumes(
        image=image,
        window=(0.0, 1.0) if image is None else grey_window(image),
        segmentation=_whole_numbers(np.asarray(segmentation.dataobj)),
        reference=None if labels is None else _whole_numbers(labels),
        uncertainty=uncertainty,
        affine=np.asarray(segmentation.affine, dtype=np.float64),
        notes=notes,
    )


def _image(record: Record, modality: str | None, grid: nib.Nifti1Image, notes: list[str]) -> Volume | None:
    """The image of a modality, on the grid of the label map."""
    wanted = modality or next(iter(record.images), "")
    if wanted not in record.images:
        notes.append(f"No pictures of the scan: it has no {wanted or 'image'}.")
        return None
    file = record.images[wanted]["file"]
    channel = record.images[wanted].get("channel")
    channels = {} if channel is None else {wanted: int(channel)}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            files = nifti_files(ScanCase(record.case, {wanted: Path(file)}, channels=channels), Path(scratch))
            image = _read(files[0], "image")
        if image.shape != grid.shape or not np.allclose(image.affine, grid.affine, atol=1e-3):
            image = resample_from_to(image, grid, order=1)
        return foreground(nib.Nifti1Image(np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32)), grid.affine))
    except InputError as error:
        notes.append(f"No pictures of the scan: {error}")
    return None


def _on_grid(path: Path, name: str, grid: nib.Nifti1Image, notes: list[str]) -> NDArray[Any] | None:
    try:
        return values_on_grid(_read(path, name), grid, name)
    except InputError as error:
        notes.append(f"The {name} is left out: {error}")
    return None


def _read(path: Path, name: str) -> nib.Nifti1Image:
    """A volume in RAS order, its voxels read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, it is the {name}; put it back, or predict again.")
    try:
        found = canonical(path, name)
        voxels = np.array(found.dataobj)  # a copy: the file may be a temporary one
        return nib.Nifti1Image(voxels, found.affine, dtype=voxels.dtype)
    except _UNREADABLE as error:
        raise InputError(f"{path}: the {name} cannot be read ({error}); replace it, or predict again.") from error


def _whole_numbers(values: NDArray[Any]) -> LabelMap:
    """The same values as whole numbers, in the type that they have where that is one of whole numbers."""
    return values if values.dtype.kind in "iu" else np.rint(np.nan_to_num(values)).astype(np.int32)
