# SPDX-License-Identifier: Apache-2.0
"""Learning curves from a table of metrics per epoch."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.figures.saving import save_figure


def learning_curves(csv_path: str | Path, png_path: str | Path) -> Path:
    """Draw a table of metrics per epoch, one panel a group of columns.

    All columns that end in ``loss`` share the first panel; the others are grouped by their name up to the first
    underscore (``val_mean_dice`` and ``val_lesion_f1``; ``beta_coronal``, ``beta_sagittal`` and ``beta_axial``), those
    in ml, in mm or of counts apart from the rest. Empty cells, as in epochs without validation, are skipped; columns
    without a number are left out.

    Args:
        csv_path: table with a header and a column ``epoch``.
        png_path: picture to write.

    Returns:
        ``png_path``.

    Raises:
        InputError: if the table cannot be read, has no column ``epoch`` or no number.
    """
    epochs, columns = _read_table(Path(csv_path))
    panels: dict[str, list[str]] = {}
    for name in columns:
        panels.setdefault(_panel(name), []).append(name)
    panels = dict(sorted(panels.items(), key=lambda panel: panel[0] != "loss"))
    figure = Figure(figsize=(7.0, 2.6 * len(panels) + 0.6), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (panel, names) in zip(grid, panels.items(), strict=True):
        for name in names:
            known = np.isfinite(columns[name])
            axes.plot(epochs[known], columns[name][known], marker=".", markersize=4, linewidth=1.2, label=name)
        axes.set_ylabel(panel if len(names) > 1 else names[0])
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize="small")
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    return save_figure(figure, png_path)


def _panel(name: str) -> str:
    """What shares an axis: losses, or what a group of names measures in one unit."""
    if name.endswith("loss"):
        return "loss"
    group, *words = name.split("_")
    unit = next((unit for unit in ("ml", "mm", "count", "hd", "hd95", "assd") if unit in words), "")
    return f"{group} {'mm' if unit in ('hd', 'hd95', 'assd') else unit}".strip()


def _read_table(path: Path) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """The epochs, and every other column that holds a number; empty and non-numeric cells become NaN."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"cannot read the table of metrics {path}: {error.strerror}") from error
    table = {
        name: np.array([_number(row[name]) for row in rows]) for name in (rows[0] if rows else ()) if name is not None
    }
    if "epoch" not in table:
        raise InputError(f"{path} has no rows or no column 'epoch'; its columns are {sorted(table)}")
    epochs = table.pop("epoch")
    columns = {name: values for name, values in table.items() if np.isfinite(values).any()}
    if not columns:
        raise InputError(f"{path} has no number beside 'epoch'; wait for the first epoch to end")
    return epochs, columns


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")
