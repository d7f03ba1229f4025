# SPDX-License-Identifier: Apache-2.0
"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from custom_nets.files import written_whole


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, without Matplotlib's global state; return the path."""
    FigureCanvasAgg(figure)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor=figure.get_facecolor())
    return Path(path)
