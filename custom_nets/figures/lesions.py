# SPDX-License-Identifier: Apache-2.0
"""Outlines of lesions over slices of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from custom_nets.components import bounding_box
from custom_nets.figures.saving import save_figure
from custom_nets.figures.volumes import (
    AXIAL,
    CORONAL,
    PLANE_NAMES,
    SAGITTAL,
    Volume,
    canonical,
    draw_plane,
    foreground,
    grey_window,
    values_on_grid,
    view_name,
)

#: Colours of the outlines; they differ in lightness too, for readers who see few colours and for grey prints.
OUTLINES = {"reference": "#00e5ff", "prediction": "#ff5a00"}


def overlay(
    image: Any,
    label: Any | None,
    prediction: Any | None,
    png_path: str | Path,
    title: str = "",
    radiological: bool = True,
) -> Path:
    """Draw outlines of the reference and the predicted lesions over three planes and six axial slices.

    The planes cut where they meet most lesion (of the reference, or of the prediction where there is no reference). All
    pictures are brought to the anatomical axes by the affine, have the true aspect ratio and name their sides.

    Args:
        image: D x H x W; a NIfTI path, a nibabel image or a MetaTensor. The first channel or modality is drawn.
        label: the reference in the same form, on the same grid, not 0 in lesions; None draws no reference.
        prediction: likewise.
        png_path: picture to write.
        title: heading.
        radiological: the patient's right on the left of axial and coronal slices; False draws the neurological view.

    Returns:
        ``png_path``.

    Raises:
        InputError: if a file cannot be read, or if the grids differ.
    """
    upright = canonical(image, "image")
    background = foreground(upright)
    masks: dict[str, Volume] = {}
    for name, source in (("reference", label), ("prediction", prediction)):
        if source is not None:
            masks[name] = (values_on_grid(canonical(source, name), upright, name) != 0).astype(np.float32)
    shown = np.any([np.isfinite(background), *(mask > 0 for mask in masks.values())], axis=0)
    box = bounding_box(shown) if shown.any() else (slice(None),) * 3
    background, masks = background[box], {name: mask[box] for name, mask in masks.items()}
    cuts = _cuts(masks, background.shape)

    figure = Figure(figsize=(9.0, 9.6), facecolor="black", layout="constrained")
    for axes, (axis, index) in zip(figure.subplots(3, 3).flat, cuts, strict=True):
        _draw_slice(axes, background, masks, axis, index, upright.header.get_zooms()[:3], radiological)
    figure.suptitle(title, color="white", fontsize="large")
    lines = [Line2D([], [], color=OUTLINES[name], label=name) for name in masks]
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=2, frameon=False, title=view_name(radiological)
    )
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color("white")
    return save_figure(figure, png_path)


def _cuts(masks: dict[str, Volume], shape: Sequence[int]) -> list[tuple[int, int]]:
    """Nine slices as (axis, index): the three planes with most lesion, then six axial ones spread over the lesions."""
    lesion = next((mask for mask in masks.values() if mask.any()), None)
    if lesion is None:
        planes = [(axis, shape[axis] // 2) for axis in (AXIAL, CORONAL, SAGITTAL)]
        low, high = shape[AXIAL] // 4, 3 * shape[AXIAL] // 4
    else:
        sums = {axis: lesion.sum(axis=tuple({0, 1, 2} - {axis})) for axis in (AXIAL, CORONAL, SAGITTAL)}
        planes = [(axis, int(sums[axis].argmax())) for axis in (AXIAL, CORONAL, SAGITTAL)]
        low, high = np.flatnonzero(sums[AXIAL])[[0, -1]]
    return planes + [(AXIAL, round(index)) for index in np.linspace(low, high, 8)[1:-1]]


def _draw_slice(
    axes: Axes,
    background: Volume,
    masks: dict[str, Volume],
    axis: int,
    index: int,
    spacing: Sequence[float],
    radiological: bool,
) -> None:
    """Draw one slice of the image, and the outlines over it."""
    draw_plane(axes, background, grey_window(background), axis, index, spacing, radiological)
    for name, mask in masks.items():
        outline = mask.take(index, axis).T
        if outline.any() and min(outline.shape) > 1:  # one line of voxels has no outline
            axes.contour(outline, levels=[0.5], colors=OUTLINES[name], linewidths=0.9)
    axes.set_title(PLANE_NAMES[axis], color="white", fontsize="small")
