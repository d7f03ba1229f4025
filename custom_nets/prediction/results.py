# SPDX-License-Identifier: Apache-2.0
"""The files of a case: label map, probabilities, uncertainty, each whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from custom_nets.files import written_whole


def write_label(label: MetaTensor, path: Path) -> None:
    """Write a label map, 1 x X x Y x Z, on the grid of its scan."""
    values = label.as_tensor()[0].numpy()
    _save(nib.Nifti1Image(values.astype(np.uint8 if values.max() < 256 else np.int16), label.affine.numpy()), path)


def write_probabilities(maps: NDArray[np.uint8], affine: NDArray[Any], path: Path) -> None:
    """Write C x X x Y x Z in steps of 1/255 as a NIfTI file X x Y x Z x C whose header scales them to 0 to 1."""
    image = nib.Nifti1Image(np.moveaxis(maps, 0, -1), affine)
    image.header.set_slope_inter(1 / 255, 0)
    _save(image, path)


def write_uncertainty(spread: NDArray[np.float32], affine: NDArray[Any], path: Path) -> None:
    """Write X x Y x Z."""
    _save(nib.Nifti1Image(spread.astype(np.float32, copy=False), affine), path)


def _save(image: Any, path: Path) -> None:
    image.header.set_xyzt_units("mm")
    with written_whole(path) as temporary:
        nib.save(image, temporary)
