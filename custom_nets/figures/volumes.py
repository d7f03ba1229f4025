# SPDX-License-Identifier: Apache-2.0
"""Volumes as they are drawn: along the axes of the body, on one grid, their sides named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from monai.data import MetaTensor
from numpy.typing import NDArray

from custom_nets.errors import InputError

AXIAL, CORONAL, SAGITTAL = 2, 1, 0  # axis of an array in RAS order that a plane cuts
PLANE_NAMES = {AXIAL: "axial", CORONAL: "coronal", SAGITTAL: "sagittal"}

#: Room on each side of a slice for the letter of that side, as a share of its width.
SIDE_ROOM = 0.06

Volume = NDArray[np.float32]


def canonical(source: Any, name: str) -> nib.Nifti1Image:
    """Bring a path, a nibabel image or a MetaTensor (first channel) to RAS order, three-dimensional.

    Raises:
        InputError: if the file cannot be read; ``name`` says which.
    """
    if isinstance(source, MetaTensor):
        values = source.numpy(force=True).astype(np.float32)
        values = values[0] if values.ndim == 4 else values
        loaded: Any = nib.Nifti1Image(values, source.affine.numpy(force=True))
    elif isinstance(source, nib.Nifti1Image):
        loaded = source
    else:
        try:
            loaded = nib.load(source)
        except (OSError, nib.filebasedimages.ImageFileError) as error:
            raise InputError(f"cannot read the {name} {source}: {error}") from error
    return nib.as_closest_canonical(loaded.slicer[..., 0] if loaded.ndim == 4 else loaded)


def foreground(image: nib.Nifti1Image) -> Volume:
    """The values of an image, NaN outside the body: there they equal the corner's, also after a z-score."""
    values = np.array(image.dataobj, dtype=np.float32)
    values[values == values[0, 0, 0]] = np.nan
    return values


def values_on_grid(label: nib.Nifti1Image, image: nib.Nifti1Image, name: str) -> NDArray[Any]:
    """The values of a label map, once its grid is known to be the image's.

    Raises:
        InputError: if it is not; ``name`` says whose.
    """
    if label.shape != image.shape or not np.allclose(label.affine, image.affine, atol=1e-3):
        raise InputError(
            f"the {name}'s grid {label.shape} is not the image's {image.shape}, or its affine differs;"
            " resample it first"
        )
    return np.asarray(label.dataobj)


def grey_window(background: Volume) -> tuple[float, float]:
    """The values that are drawn black and white."""
    inside = background[np.isfinite(background)]
    low, high = np.percentile(inside, (1, 99.9)) if inside.size else (0.0, 1.0)
    return float(low), float(high)


def draw_plane(
    axes: Axes,
    background: Volume,
    window: tuple[float, float],
    axis: int,
    index: int,
    spacing: Sequence[float],
    radiological: bool,
) -> None:
    """Draw one slice of a volume in RAS order: right-left, or front-back when sagittal, across; head, or front, up.

    Args:
        axes: to draw into.
        background: X x Y x Z, NaN where nothing is drawn.
        window: values that are drawn black and white.
        axis: that the plane cuts: AXIAL, CORONAL or SAGITTAL.
        index: of the slice.
        spacing: along the three axes, mm.
        radiological: the patient's right on the left of axial and coronal slices.
    """
    across, up = (other for other in (SAGITTAL, CORONAL, AXIAL) if other != axis)
    low, high = window
    aspect = spacing[up] / spacing[across]
    axes.imshow(background.take(index, axis).T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
    left, right = ("P", "A") if across == CORONAL else ("L", "R")
    if radiological:  # RAS order draws right on the right; radiologists look at the patient from the feet
        left, right = right, left
    name_sides(axes, background.shape[across], left, right)
    if radiological:
        axes.invert_xaxis()


def name_sides(axes: Axes, width: int, left: str, right: str) -> None:
    """Write letters beside a slice that is ``width`` pixels wide."""
    axes.set_xlim(-0.5 - SIDE_ROOM * width, -0.5 + (1.0 + SIDE_ROOM) * width)
    for x, side in ((0.02, left), (0.98, right)):
        axes.text(x, 0.5, side, color="white", fontsize="small", ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def view_name(radiological: bool) -> str:
    """What a legend says about left and right."""
    if radiological:
        return "radiological view: patient's right on the left"
    return "neurological view: patient's right on the right"
