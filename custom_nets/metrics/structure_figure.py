# SPDX-License-Identifier: Apache-2.0
"""Pictures of many structures: one line a structure, sorted by how well it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from custom_nets.figures import save_figure
from custom_nets.metrics.structure_summary import structure_means

_BAR, _CASE = "#8fb8de", "#1f3b57"
_MARKERS = "osD^vPX*"


def structure_figure(values: Mapping[str, NDArray[np.float64]], png_path: str | Path) -> Path:
    """Draw the Dice of every structure: a bar for the mean over cases, a dot for each case, the best on top.

    Args:
        values: name of a structure -> Dice of the cases, 0 … 1; NaN where the reference lacks it.
        png_path: picture to write.

    Returns:
        ``png_path``.
    """
    names = list(values)
    means = np.array([float(structure_means(own[:, None])[0]) for own in values.values()])
    order = _best_first(means)
    figure, axes = _axes([names[index] for index in order])
    counted = means[np.isfinite(means)]
    axes.barh(range(len(order)), np.nan_to_num(means[order]), color=_BAR, height=0.75, label="mean over cases")
    for position, index in enumerate(order):
        own = values[names[index]]
        known = own[np.isfinite(own)]
        label = "one case" if position == 0 else None
        place = np.full(len(known), position)
        axes.plot(known, place, "o", color=_CASE, markersize=3, alpha=0.6, clip_on=False, zorder=3, label=label)
        shown = f"{means[index]:.2f}  ({len(known)})" if known.size else "in no reference"
        axes.text(1.02, position, shown, transform=axes.get_yaxis_transform(), va="center", fontsize="x-small")
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("Dice")
    mean = f"mean of {len(counted)} structures {counted.mean():.3f}" if counted.size else "no structure to average"
    axes.set_title(f"{mean}; right: mean (cases)", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return save_figure(figure, png_path)


def comparison_figure(
    names: Sequence[str], models: Mapping[str, NDArray[np.float64]], metric: str, title: str, png_path: str | Path
) -> Path:
    """Draw the case means of every structure for several models, sorted by their mean over the models.

    Args:
        names: of the structures.
        models: name of a model -> one value a structure; NaN draws nothing.
        metric: named at the axis.
        title: heading.
        png_path: picture to write.

    Returns:
        ``png_path``.
    """
    table = np.stack(list(models.values()))
    order = _best_first(structure_means(table))
    figure, axes = _axes([names[index] for index in order])
    colours = colormaps["tab10"]
    for number, (model, own) in enumerate(models.items()):
        marker, colour = _MARKERS[number % len(_MARKERS)], colours(number % 10)
        axes.plot(
            own[order], range(len(order)), marker, color=colour, markersize=5, alpha=0.8, linestyle="none", label=model
        )
    axes.set_xlabel(f"{metric}, mean over cases")
    axes.set_title(title, fontsize="medium")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return save_figure(figure, png_path)


def _best_first(means: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices from the largest mean to the smallest, structures without a value last."""
    return np.argsort(-means, kind="stable")


def _axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A line of fixed height for every name, the first on top."""
    figure = Figure(figsize=(8.0, 0.19 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", alpha=0.15)
    axes.set_axisbelow(True)
    return figure, axes
