# SPDX-License-Identifier: Apache-2.0
"""Picture of a few regions: the Dice of every case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from custom_nets.figures import save_figure

_BOX, _CASE, _MEAN = "#8fb8de", "#1f3b57", "#d1495b"
_SPREAD = 0.2  # of the cases beside the middle of a box


def region_figure(values: Mapping[str, NDArray[np.float64]], png_path: str | Path) -> Path:
    """Draw the Dice of every region: a box of the quartiles and the median, a dot for each case, a rhomb for the mean.

    Args:
        values: name of a region -> Dice of the cases, 0 … 1; what is not finite is left out.
        png_path: picture to write.

    Returns:
        ``png_path``.
    """
    figure = Figure(figsize=(1.4 * len(values) + 1.6, 4.4), layout="constrained")
    axes = figure.subplots()
    known = [own[np.isfinite(own)] for own in values.values()]
    places = range(len(known))
    axes.boxplot(
        known,
        positions=places,
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": _BOX, "edgecolor": _CASE, "alpha": 0.6},
        medianprops={"color": _CASE, "linewidth": 1.5},
    )
    for place, own in zip(places, known, strict=True):
        # spread evenly in the order of the cases: the same picture every time
        across = place + np.linspace(-_SPREAD, _SPREAD, own.size) if own.size > 1 else [place] * own.size
        axes.plot(across, own, "o", color=_CASE, markersize=3, alpha=0.6, clip_on=False, zorder=3)
        if own.size:
            axes.plot(place, own.mean(), "D", color=_MEAN, markersize=6, markeredgecolor="white", zorder=4)
    labels = [
        f"{name}\n{own.mean():.3f} ({own.size})" if own.size else f"{name}\nno case"
        for name, own in zip(values, known, strict=True)
    ]
    axes.set_xticks(places, labels)
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("Dice")
    axes.set_title("box: median and quartiles; rhomb and number: mean (cases)", fontsize="small")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return save_figure(figure, png_path)
