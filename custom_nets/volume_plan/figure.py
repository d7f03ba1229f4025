# SPDX-License-Identifier: Apache-2.0
"""Where lesions lie and what each crop size takes in, as a picture of three projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from custom_nets.figures import AXIAL, CORONAL, PLANE_NAMES, SAGITTAL, save_figure
from custom_nets.volume_crops import centre_start
from custom_nets.volume_plan.advice import Judged
from custom_nets.volume_plan.candidates import Size

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PROJECTIONS: dict[str, Callable[..., NDArray[np.float32]]] = {"maximum": np.max, "mean": np.mean}


def projections(
    occurrence: NDArray[np.float32], spacing: Sequence[float], judged: Sequence[Judged], png_path: str | Path
) -> Path:
    """Draw the maximum and the mean of the occurrence map along each axis, with the boxes of all candidates.

    Radiological view (the patient's right on the left), sides named, true aspect; rejected sizes are dashed.

    Args:
        occurrence: D x H x W in the order R, A, S, share of the scans with lesion, 0 … 1.
        spacing: voxel size in mm along R, A, S.
        judged: the candidates.
        png_path: picture to write.

    Returns:
        ``png_path``.
    """
    figure = Figure(figsize=(12.0, 9.0 + 0.12 * len(judged)), facecolor="black", layout="constrained")
    grid = figure.subplots(len(_PROJECTIONS), 3, squeeze=False)
    for row, (name, project) in zip(grid, _PROJECTIONS.items(), strict=True):
        flat = {axis: project(occurrence, axis=axis) for axis in (AXIAL, CORONAL, SAGITTAL)}
        most = max(float(picture.max()) for picture in flat.values())
        for axes, (axis, picture) in zip(row, flat.items(), strict=True):
            shown = axes.imshow(
                picture.T, cmap="inferno", vmin=0.0, vmax=most, origin="lower", aspect=_aspect(spacing, axis)
            )
            for index, one in enumerate(judged):
                _draw_box(axes, occurrence.shape, one, axis, index, len(judged))
            _name_sides(axes, axis, picture.shape, f"{PLANE_NAMES[axis]} projection, {name}")
        bar = figure.colorbar(shown, ax=list(row), shrink=0.8, format=PercentFormatter(1.0, decimals=None))
        bar.set_label(f"scans with lesion, {name} along the line of sight", color="white", fontsize="small")
        bar.ax.tick_params(colors="white", labelsize="small")
    lines = [
        Line2D([], [], color=_colour(index), linestyle=_style(one), label=_label(index, one))
        for index, one in enumerate(judged)
    ]
    title = "centred crops (dashed: rejected); radiological view: patient's right on the left"
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False, title=title)
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color("white")
    return save_figure(figure, png_path)


def _across_up(axis: int) -> tuple[int, int]:
    """The axes of the volume that run across and up in the projection along ``axis``."""
    across, up = (other for other in (SAGITTAL, CORONAL, AXIAL) if other != axis)
    return across, up


def _aspect(spacing: Sequence[float], axis: int) -> float:
    across, up = _across_up(axis)
    return spacing[up] / spacing[across]


def _draw_box(axes: Axes, shape: Sequence[int], one: Judged, axis: int, index: int, number: int) -> None:
    """One crop's outline and its letter, which sits on the upper edge, a different place for each crop."""
    size: Size = one.candidate.size
    start = centre_start(shape, size)
    across, up = _across_up(axis)
    left, low = start[across] - 0.5, start[up] - 0.5
    colour = _colour(index)
    axes.add_patch(
        Rectangle(
            (left, low), size[across], size[up], fill=False, edgecolor=colour, linewidth=1.3, linestyle=_style(one)
        )
    )
    axes.text(
        left + size[across] * (index + 0.5) / number,
        low + size[up],
        _letter(index),
        color="black",
        fontsize="x-small",
        ha="center",
        va="center",
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
    )


def _name_sides(axes: Axes, axis: int, extent: Sequence[int], title: str) -> None:
    across, up = _across_up(axis)
    width, height = extent
    axes.set_xlim(-0.5 - 0.09 * width, -0.5 + 1.09 * width)  # room for the letters
    axes.set_ylim(-0.5 - 0.09 * height, -0.5 + 1.09 * height)
    left, right = ("P", "A") if across == CORONAL else ("R", "L")
    if across == SAGITTAL:  # R, A, S order draws right on the right; radiologists look at the patient from the feet
        axes.invert_xaxis()
    low, high = ("P", "A") if up == CORONAL else ("I", "S")
    for x, y, side in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.02, low), (0.5, 0.98, high)):
        axes.text(x, y, side, color="white", fontsize="small", ha="center", va="center", transform=axes.transAxes)
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.45", linewidth=0.8))
    axes.set_title(title, color="white", fontsize="small")
    axes.set_axis_off()


def _letter(index: int) -> str:
    return _LETTERS[index % len(_LETTERS)]


def _colour(index: int) -> tuple[float, float, float, float]:
    return colormaps["Set3"](index % 12)


def _style(one: Judged) -> Literal["-", "--"]:
    return "-" if one.accepted else "--"


def _label(index: int, one: Judged) -> str:
    return f"{_letter(index)}  {one.candidate.name}  ({one.summary.share:.0%}, {', '.join(one.candidate.origins)})"
