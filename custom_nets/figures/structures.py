# SPDX-License-Identifier: Apache-2.0
"""Many structures at once, as filled colours over slices of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from numpy.typing import NDArray

from custom_nets.components import bounding_box
from custom_nets.figures.colours import Colour, structure_colours
from custom_nets.figures.saving import save_figure
from custom_nets.figures.volumes import (
    PLANE_NAMES,
    SIDE_ROOM,
    Volume,
    canonical,
    foreground,
    grey_window,
    name_sides,
    values_on_grid,
    view_name,
)
from custom_nets.metrics.slice_overlap import overlap_counts, slice_dice
from custom_nets.slices.planes import PLANES, axis_codes

#: Slices that are drawn, and structures that the legend names unless told otherwise.
MOST_SLICES, MOST_NAMED = 6, 16

_OPAQUE = 0.6
_MARGIN_MM = 20.0  # around the structures
_PANEL, _LEAST, _MOST = 3.0, 0.8, 9.0  # inches: the side of a square as large as one slice; limits of its sides
_CAPTION, _LEGEND_LINE = 0.6, 0.22  # inches
_NAME, _NARROWEST = 2.5, 5.0  # inches: width of a name in the legend, least width of the picture
_SHAPE = 1.3  # width by height of the picture, as far as the slices let it
_OPPOSITE = dict(zip("RASLPI", "LPIRAS", strict=True))

LabelMap = NDArray[np.int64]


@dataclass(frozen=True)
class _Stack:
    """The slices that are drawn, all S x rows x columns.

    Attributes:
        background: the image, NaN outside the body.
        maps: "reference" and "prediction", those given.
        positions: what each slice is called.
        spacing: of rows and columns, mm.
        sides: letters on the left and on the right.
        window: values that are black and white.
    """

    background: Volume
    maps: dict[str, LabelMap]
    positions: list[str]
    spacing: tuple[float, float]
    sides: tuple[str, str]
    window: tuple[float, float]

    @property
    def view(self) -> str:
        """What the legend says about the sides."""
        if "A" in self.sides:
            return f"patient's front on the {'left' if self.sides[0] == 'A' else 'right'}"
        return view_name(radiological=self.sides[0] == "R")

    @property
    def panel(self) -> tuple[float, float]:
        """Width and height of one slice with the letters of its sides, inches."""
        rows, columns = self.background.shape[1:]
        tall = rows * self.spacing[0] / (columns * (1.0 + 2.0 * SIDE_ROOM) * self.spacing[1])
        width, height = (_PANEL * factor for factor in (tall**-0.5, tall**0.5))
        return min(max(width, _LEAST), _MOST), min(max(height, _LEAST), _MOST)


def structure_overlay(
    image: Any,
    label: Any | None,
    prediction: Any | None,
    png_path: str | Path,
    title: str = "",
    names: Mapping[int, str] | None = None,
    plane: str = "auto",
    radiological: bool = True,
    most_named: int = MOST_NAMED,
) -> Path:
    """Draw up to six slices: the image alone, with the reference and with the prediction as filled colours.

    The slices are spread over those in which the reference or the prediction has a structure, and cut to the structures
    with some room around them. Every picture is brought to the anatomical axes by the affine, has the true aspect ratio
    and names its sides. With both label maps the mean Dice of the slice stands below it, over the structures that the
    reference has there. The colour of a label depends on ``names`` alone: see
    :func:`~custom_nets.figures.colours.structure_colours`.

    Args:
        image: D x H x W; a NIfTI path, a nibabel image or a MetaTensor. The first channel or modality is drawn.
        label: the reference in the same form, on the same grid, whole numbers, 0 or below is background; None draws no
            reference.
        prediction: likewise.
        png_path: picture to write.
        title: heading.
        names: label value -> name: the largest structures drawn get a legend, left and right partners like hues.
        plane: axial, coronal or sagittal; "auto" slices along the axis with one voxel or else with the largest spacing,
            axially where they are equal. Slices are counted from the feet, from the front, from the patient's right.
        radiological: the patient's right on the left of axial and coronal slices; False draws the neurological view.
        most_named: structures that the legend names, the largest.

    Returns:
        ``png_path``.

    Raises:
        InputError: if a file cannot be read, the grids differ, the plane is unknown, or two names are the same
            structure and side.
    """
    upright = canonical(image, "image")
    sources = {"reference": label, "prediction": prediction}
    maps = {
        name: _whole_numbers(values_on_grid(canonical(source, name), upright, name))
        for name, source in sources.items()
        if source is not None
    }
    stack = _stack(upright, maps, _view(upright, plane, radiological))
    largest = _largest_first(stack.maps)
    colours = structure_colours(sorted(largest), names)
    named = sorted(largest[:most_named]) if names else []
    figure, rows = _figure(stack, len(named))
    for index, (row, caption) in enumerate(zip(rows, _captions(stack), strict=True)):
        panels = row.subplots(1, 1 + len(stack.maps), squeeze=False)[0]
        for axes, name in zip(panels, ("image", *stack.maps), strict=True):
            _draw_slice(axes, stack, index, stack.maps.get(name), colours)
            axes.set_title(name, color="white", fontsize="small")
        row.supxlabel(caption, color="white", fontsize="small")
    figure.suptitle(title, color="white", fontsize="large")
    some = f"\nthe {len(named)} largest of {len(largest)} structures drawn" if 0 < len(named) < len(largest) else ""
    _legend(figure, {(names or {}).get(value, f"label {value}"): colours[value] for value in named}, stack.view + some)
    return save_figure(figure, png_path)


def _whole_numbers(values: NDArray[Any]) -> LabelMap:
    """Labels, what is no structure as 0."""
    return np.maximum(np.rint(np.nan_to_num(values)), 0).astype(np.int64)


def _view(image: nib.Nifti1Image, plane: str, radiological: bool) -> str:
    """Where slices, rows and columns run to, such as "SPL"."""
    thin = [PLANE_NAMES[axis] for axis, size in enumerate(image.shape) if size == 1]
    codes = axis_codes(image.affine, thin[0] if plane == "auto" and len(thin) == 1 else plane)
    return codes if radiological else codes[:2] + _OPPOSITE[codes[2]]


def _stack(image: nib.Nifti1Image, maps: dict[str, LabelMap], codes: str) -> _Stack:
    """Turn everything to the view, choose the slices and cut them to the structures."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    background = apply_orientation(foreground(image), turn)
    turned = {name: apply_orientation(values, turn) for name, values in maps.items()}
    along = [next(axis for axis in range(3) if code in ("RL", "AP", "SI")[axis]) for code in codes]
    _, row_mm, column_mm = (float(image.header.get_zooms()[axis]) for axis in along)
    labelled = np.any([np.zeros(background.shape, dtype=bool), *(one > 0 for one in turned.values())], axis=0)
    box = bounding_box(labelled if labelled.any() else np.isfinite(background))
    slices = _spread(box[0] if box[0].stop else slice(0, len(background)))
    rows, columns = (
        _widened(span, size, math.ceil(_MARGIN_MM / mm))
        for span, size, mm in zip(box[1:], background.shape[1:], (row_mm, column_mm), strict=True)
    )
    plane = next(plane for plane, known in PLANES.items() if known[0] == codes[0])
    return _Stack(
        background=background[slices, rows, columns],
        maps={name: one[slices, rows, columns] for name, one in turned.items()},
        positions=[f"{plane} slice {index + 1} of {len(background)}" for index in slices],
        spacing=(row_mm, column_mm),
        sides=(_OPPOSITE[codes[2]], codes[2]),
        window=grey_window(background),
    )


def _spread(span: slice) -> list[int]:
    """Up to six different slices: the middles of as many equal parts of a span."""
    count = span.stop - span.start
    drawn = min(MOST_SLICES, count)
    return [span.start + int((part + 0.5) * count / drawn) for part in range(drawn)]


def _widened(span: slice, size: int, margin: int) -> slice:
    """A span with room on both sides, all of the axis where it is empty."""
    return slice(max(span.start - margin, 0), min(span.stop + margin, size)) if span.stop else slice(0, size)


def _largest_first(maps: Mapping[str, LabelMap]) -> list[int]:
    """The labels that are drawn, by the pixels in all label maps together."""
    values, pixels = np.unique(np.concatenate([[0], *(one.ravel() for one in maps.values())]), return_counts=True)
    return [int(values[index]) for index in np.argsort(-pixels, kind="stable") if values[index]]


def _captions(stack: _Stack) -> list[str]:
    """Which slice it is and, with both label maps, how well they agree there."""
    if len(stack.maps) < 2:
        return stack.positions
    values = np.unique([0, *_largest_first(stack.maps)])  # numbered anew: a count for every value up to 60000 is slow
    reference, prediction = (
        torch.from_numpy(np.searchsorted(values, stack.maps[name])) for name in ("reference", "prediction")
    )
    counts = overlap_counts(prediction, reference, len(values))
    dice, there = slice_dice(counts)[:, 1:], counts.reference[:, 1:] > 0
    invented = ((counts.predicted[:, 1:] > 0) & ~there).sum(dim=1)
    captions = []
    for position, scores, known, more in zip(stack.positions, dice, there, invented.tolist(), strict=True):
        count = int(known.sum())
        noun = "structure" if count == 1 else "structures"
        mean = f"mean Dice {float(scores[known].mean()):.3f} over {count} {noun}" if count else "no structure"
        captions.append(f"{position}\n{mean} in the reference" + (f", {more} in the prediction only" if more else ""))
    return captions


def _figure(stack: _Stack, named: int) -> tuple[Figure, list[SubFigure]]:
    """An empty picture with a place for every slice, in as many columns as make it neither wide nor tall."""
    count = len(stack.positions)
    width, height = stack.panel[0] * (1 + len(stack.maps)), stack.panel[1] + _CAPTION

    def size(blocks: int) -> tuple[float, float]:
        across = max(width * blocks, _NARROWEST)
        lines = math.ceil(named / _names_across(across))
        return across, height * math.ceil(count / blocks) + _LEGEND_LINE * (lines + 2) + _CAPTION

    even = {math.ceil(count / lines) for lines in range(1, count + 1)}  # 3 and 3, not 5 and 1
    blocks = min(even, key=lambda number: abs(math.log(size(number)[0] / size(number)[1] / _SHAPE)))
    figure = Figure(figsize=size(blocks), facecolor="black", layout="constrained")
    places = figure.subfigures(math.ceil(count / blocks), blocks, squeeze=False)
    for place in places.flat:
        place.set_facecolor("black")
    return figure, list(places.flat)[:count]


def _names_across(width: float) -> int:
    """How many names of a legend stand side by side."""
    return max(int(width / _NAME), 1)


def _draw_slice(axes: Axes, stack: _Stack, index: int, labels: LabelMap | None, colours: Mapping[int, Colour]) -> None:
    """Draw the image, and the structures over it."""
    aspect = stack.spacing[0] / stack.spacing[1]
    low, high = stack.window
    axes.imshow(stack.background[index], cmap="gray", vmin=low, vmax=high, aspect=aspect)
    if labels is not None:
        values, positions = np.unique(labels[index], return_inverse=True)
        palette = np.array([(*colours[value], _OPAQUE) if value else (0.0, 0.0, 0.0, 0.0) for value in values.tolist()])
        axes.imshow(palette[positions.reshape(labels[index].shape)], interpolation="nearest", aspect=aspect)
    name_sides(axes, stack.background.shape[2], *stack.sides)


def _legend(figure: Figure, named: Mapping[str, Colour], title: str) -> None:
    """Name structures in the order of their labels, so that left and right stand together."""
    legend = figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in named.items()],
        loc="outside lower center",
        ncols=_names_across(figure.get_figwidth()),
        frameon=False,
        fontsize="small",
        title=title,
        title_fontsize="small",
    )
    legend.get_title().set_multialignment("center")
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color("white")
