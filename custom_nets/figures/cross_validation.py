# SPDX-License-Identifier: Apache-2.0
"""Every case's score in the fold that had not seen it, one panel a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from custom_nets.figures.saving import save_figure
from custom_nets.metrics.statistics import mean_and_deviation

#: What is drawn, most telling first: a metric of that name, else all whose name begins with it and an underscore.
_SHOWN = (
    *("mean_dice", "dice", "iou", "lf1", "lesion_f1", "mean_lesion_dice", "mean_hd95", "hd95", "assd"),
    *("tpr", "sensitivity", "recall", "ppv", "precision", "ltpr", "lfpr", "accuracy"),
)
_MOST_PANELS, _COLUMNS = 9, 3
_WIDTH, _HEIGHT = 3.6, 2.9  # inches, of a panel
_EXPLANATION = "points: cases; bars: means of the folds; line and band: mean of these ± standard deviation"
_SPREAD = 0.24  # of a fold's points to the sides


def shown_metrics(metrics: Sequence[str]) -> list[str]:
    """Choose the metrics that are drawn and printed: scores and distances, no counts and no volumes.

    Args:
        metrics: names of columns, as evaluations have them.

    Returns:
        At most nine; all of them up to nine where no name is known.
    """
    chosen: list[str] = []
    for wanted in _SHOWN:
        own = [wanted] if wanted in metrics else [key for key in metrics if key.startswith(f"{wanted}_")]
        chosen += [key for key in own if key not in chosen]
    return (chosen or list(metrics))[:_MOST_PANELS]


def cross_validation_figure(folds: Sequence[Sequence[Mapping[str, Any]]], path: str | Path, title: str = "") -> Path:
    """Draw the scores of all cases by fold, the folds' means, and the mean of these with its deviation.

    Args:
        folds: for each fold one row a case; a value that is not finite does not exist and is counted in the caption.
        path: picture to write, PNG.
        title: above all panels.

    Returns:
        ``path``.
    """
    metrics = shown_metrics([key for key, value in folds[0][0].items() if isinstance(value, int | float)])
    columns = min(_COLUMNS, len(metrics))
    lines = math.ceil(len(metrics) / columns)
    width = max(_WIDTH * columns, 5.0)
    figure = Figure(figsize=(width, _HEIGHT * lines + 0.7), layout="constrained")
    if title:
        figure.suptitle(title)
    figure.supxlabel(_EXPLANATION, fontsize="small")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        _panel(axes, [[float(row[metric]) for row in fold] for fold in folds], metric)
    for axes in grid[len(metrics) :]:
        axes.set_axis_off()
    return save_figure(figure, path)


def _panel(axes: Axes, folds: Sequence[Sequence[float]], metric: str) -> None:
    """Points are cases, bars are the folds' means, the line and the band are their mean and deviation."""
    means = []
    for place, values in enumerate(folds, start=1):
        finite = np.sort([value for value in values if math.isfinite(value)])
        if finite.size:
            offsets = np.linspace(-_SPREAD, _SPREAD, finite.size) if finite.size > 1 else [0.0]
            axes.plot(place + np.asarray(offsets), finite, "o", color="tab:blue", alpha=0.6, markersize=4)
            means.append(float(finite.mean()))
            axes.hlines(means[-1], place - 0.35, place + 0.35, color="black", linewidth=1.8)
    if means:
        over_folds = mean_and_deviation(means)
        mean, deviation = over_folds["mean"], over_folds["std"]
        axes.axhline(mean, color="tab:orange", linewidth=1.2, zorder=0)
        axes.axhspan(mean - deviation, mean + deviation, color="tab:orange", alpha=0.2, linewidth=0, zorder=0)
        axes.set_title(f"{metric}  {mean:.3g} ± {deviation:.3g}", fontsize="medium")
    else:
        axes.set_title(f"{metric}  no value", fontsize="medium")
    missing = sum(not math.isfinite(value) for values in folds for value in values)
    axes.set_xlabel("fold" + (f" ({missing} cases without a value)" if missing else ""), fontsize="small")
    axes.set_xlim(0.4, len(folds) + 0.6)
    axes.set_xticks(range(1, len(folds) + 1))
    axes.grid(axis="y", alpha=0.3)
