# SPDX-License-Identifier: Apache-2.0
"""Picture of an evaluation of spines: the Dice of every structure from the top down, and what each is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from custom_nets.figures import save_figure
from custom_nets.metrics.spine_summary import NOTHING

_BAR, _CASE = "#8fb8de", "#1f3b57"
_LINE, _MARGIN = 0.27, 2.0  # inches


def spine_figure(
    dice: Mapping[str, NDArray[np.float64]], confusion: Mapping[str, Mapping[str, int]], png_path: str | Path
) -> Path:
    """Draw a bar for the mean Dice of every structure with a dot for each case, and a table of the names beside it.

    Args:
        dice: name of a structure, from the top of the spine downwards -> Dice of the cases, 0 … 1; NaN where neither
            the reference nor the prediction has it.
        confusion: name -> name that most of its voxels are given -> number of cases.
        png_path: picture to write.

    Returns:
        ``png_path``.
    """
    height = _LINE * len(dice) + _MARGIN
    figure = Figure(figsize=(4.6 + 1.2 * height, height), layout="constrained")
    bars, table = figure.subplots(1, 2, width_ratios=(4.6, 1.2 * height))
    _draw_dice(bars, dice)
    _draw_names(table, list(dice), confusion)
    return save_figure(figure, png_path)


def _draw_dice(axes: Axes, dice: Mapping[str, NDArray[np.float64]]) -> None:
    for place, own in enumerate(dice.values()):
        known = own[np.isfinite(own)]
        if known.size:
            axes.barh(place, known.mean(), color=_BAR, height=0.75)
            axes.plot(known, np.full(known.size, place), "o", color=_CASE, markersize=3, alpha=0.6, clip_on=False)
        shown = f"{known.mean():.2f}  ({known.size})" if known.size else "in no scan"
        axes.text(1.02, place, shown, transform=axes.get_yaxis_transform(), va="center", fontsize="x-small")
    axes.set_yticks(range(len(dice)), list(dice), fontsize="small")
    axes.set_ylim(len(dice) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("Dice")
    axes.set_title("bar and number: mean (scans); dots: scans", fontsize="small")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _draw_names(axes: Axes, names: list[str], confusion: Mapping[str, Mapping[str, int]]) -> None:
    """Shares of the scans by reference (row) and by what most voxels are called (column): blue is right, red wrong."""
    columns = [*names, NOTHING]
    counts = np.array([[confusion.get(name, {}).get(other, 0) for other in columns] for name in names])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    signed = np.where(np.eye(*counts.shape) > 0, shares, -shares)
    axes.imshow(signed, cmap="RdBu", vmin=-1.3, vmax=1.3, aspect="auto")
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        shown = str(counts[row, column])
        axes.text(column, row, shown, ha="center", va="center", fontsize="x-small", color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize="small")
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylabel("structure of the reference")
    axes.set_title("what most of its voxels are called (scans): blue right, red wrong", fontsize="small")
