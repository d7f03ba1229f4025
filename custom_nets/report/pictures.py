# SPDX-License-Identifier: Apache-2.0
"""Pictures of a case: the three planes through its largest structure, as data for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from custom_nets.figures.colours import Colour
from custom_nets.figures.volumes import AXIAL, CORONAL, PLANE_NAMES, SAGITTAL, SIDE_ROOM, draw_plane
from custom_nets.report.case_volumes import CaseVolumes, LabelMap

#: The axis that a plane cuts -> those across and up.
_PLANES = {AXIAL: (SAGITTAL, CORONAL), CORONAL: (SAGITTAL, AXIAL), SAGITTAL: (CORONAL, AXIAL)}
_PIXELS, _DPI, _QUALITY = 520, 130, 80  # of the longer side of a picture; of WebP
_FILL = 0.22  # opacity inside a contour
_LEAST_AREA = 0.5  # a plane cuts the largest structure where it is at least this share of its largest area


@dataclass(frozen=True)
class Picture:
    """One plane of a case.

    Attributes:
        data: URI with the WebP picture in it.
        width: pixels.
        height: pixels.
        plane: axial, coronal or sagittal.
        position_mm: of the plane along the axis that it cuts, in RAS coordinates.
        labels: structures of the prediction in it.
    """

    data: str
    width: int
    height: int
    plane: str
    position_mm: float
    labels: tuple[int, ...]


def overlay_pictures(volumes: CaseVolumes, colours: Mapping[int, Colour]) -> list[Picture]:
    """Draw the scan in three planes with contours of the prediction, lightly filled, and of the reference, dashed.

    The planes go through the largest structure of the prediction (or of the reference, or the middle of the scan),
    where most of all structures is seen. Pictures show the body with true proportions, radiological view.

    Args:
        volumes: of the case, with an image.
        colours: of every label.
    """
    pictures = []
    for axis, index in _cuts(volumes):
        figure, axes = _drawn_scan(volumes, axis, index)
        shown = _plane_of(volumes.body, axis, index)
        drawn = _draw_labels(axes, volumes.segmentation[shown].T, colours, dashed=False)
        if volumes.reference is not None:
            _draw_labels(axes, volumes.reference[shown].T, colours, dashed=True)
        pictures.append(_picture(figure, volumes, axis, index, drawn))
    return pictures


def uncertainty_pictures(volumes: CaseVolumes) -> list[Picture]:
    """Draw the uncertainty map over the scan in the planes of :func:`overlay_pictures`; the more, the more opaque."""
    assert volumes.image is not None and volumes.uncertainty is not None
    highest = max(float(volumes.uncertainty.max()), 1e-6)
    pictures = []
    for axis, index in _cuts(volumes):
        figure, axes = _drawn_scan(volumes, axis, index)
        values = volumes.uncertainty[_plane_of(volumes.body, axis, index)].T
        opacity = np.sqrt(np.clip(values / highest, 0.0, 1.0))
        axes.imshow(
            values, cmap="inferno", vmin=0.0, vmax=highest, alpha=opacity, origin="lower", aspect=axes.get_aspect()
        )
        pictures.append(_picture(figure, volumes, axis, index, ()))
    return pictures


def figure_data(png: Path) -> str:
    """Return a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _plane_of(box: tuple[slice, ...], axis: int, index: int) -> tuple[slice | int, ...]:
    """The part of a volume that a plane shows: the box across and up, one slice of the axis that is cut."""
    return tuple(index if other == axis else part for other, part in enumerate(box))


def _cuts(volumes: CaseVolumes) -> Iterator[tuple[int, int]]:
    """Axis and slice of the three planes."""
    labels = next((one for one in (volumes.segmentation, volumes.reference) if one is not None and one.any()), None)
    if labels is None:
        yield from ((axis, volumes.segmentation.shape[axis] // 2) for axis in _PLANES)
        return
    every = labels > 0
    largest = labels == int(np.bincount(labels[every]).argmax())
    yield from ((axis, _fullest(largest, every, axis)) for axis in _PLANES)


def _fullest(largest: NDArray[np.bool_], every: NDArray[np.bool_], axis: int) -> int:
    """The slice with most of all structures among those that cut the largest structure well."""
    across = tuple({0, 1, 2} - {axis})
    area, labelled = largest.sum(axis=across), every.sum(axis=across)
    return int(np.where(area >= _LEAST_AREA * area.max(), labelled, -1).argmax())


def _drawn_scan(volumes: CaseVolumes, axis: int, index: int) -> tuple[Figure, Axes]:
    """A picture with a slice of the body, in true proportions, and the letters of its sides."""
    assert volumes.image is not None
    width, height = (
        (volumes.body[other].stop - volumes.body[other].start) * volumes.spacing[other] for other in _PLANES[axis]
    )
    width *= 1.0 + 2.0 * SIDE_ROOM
    scale = _PIXELS / _DPI / max(width, height)
    figure = Figure(figsize=(max(width * scale, 0.4), max(height * scale, 0.4)), facecolor="black", dpi=_DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    background = volumes.image[tuple(slice(None) if other == axis else part for other, part in enumerate(volumes.body))]
    draw_plane(axes, background, volumes.window, axis, index, volumes.spacing, radiological=True)
    axes.images[0].set_interpolation("bilinear")
    return figure, axes


def _draw_labels(axes: Axes, plane: LabelMap, colours: Mapping[int, Colour], dashed: bool) -> tuple[int, ...]:
    """Draw contours of the structures in a plane, rows up; return which there are."""
    found = tuple(int(value) for value in np.unique(plane) if value > 0)
    for value in found:
        colour = colours.get(value, (1.0, 1.0, 1.0))
        if not dashed:
            fill = np.where((plane == value)[..., None], to_rgba(colour, _FILL), 0.0)
            axes.imshow(fill, origin="lower", interpolation="nearest", aspect=axes.get_aspect())
        _draw_outline(axes, plane == value, "white" if dashed else colour, (0, (2, 2)) if dashed else "solid", 1.1)
    return found


def _draw_outline(axes: Axes, mask: NDArray[np.bool_], colour: Colour | str, style: object, width: float) -> None:
    if mask.any() and min(mask.shape) > 1:  # one line of voxels has no outline
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, linestyles=[style])


def _picture(figure: Figure, volumes: CaseVolumes, axis: int, index: int, labels: tuple[int, ...]) -> Picture:
    canvas = FigureCanvasAgg(figure)
    written = io.BytesIO()
    figure.savefig(written, format="webp", facecolor=figure.get_facecolor(), pil_kwargs={"quality": _QUALITY})
    width, height = canvas.get_width_height()
    middle = [index if other == axis else (size - 1) / 2 for other, size in enumerate(volumes.segmentation.shape)]
    return Picture(
        data=f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}",
        width=width,
        height=height,
        plane=PLANE_NAMES[axis],
        position_mm=float(apply_affine(volumes.affine, middle)[axis]),
        labels=labels,
    )
