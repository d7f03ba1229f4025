# SPDX-License-Identifier: Apache-2.0
"""Pictures of a training run: learning curves, and lesions drawn over slices of the image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from monai.data import MetaTensor
from numpy.typing import NDArray

from custom_nets.components import bounding_box
from custom_nets.errors import InputError
from custom_nets.files import written_whole

#: Colours of the outlines; they differ in lightness too, for readers who see few colours and for grey prints.
OUTLINES = {"reference": "#00e5ff", "prediction": "#ff5a00"}

AXIAL, CORONAL, SAGITTAL = 2, 1, 0  # axis of an array in RAS order that a plane cuts
PLANE_NAMES = {AXIAL: "axial", CORONAL: "coronal", SAGITTAL: "sagittal"}

Volume = NDArray[np.float32]


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
    canonical = _canonical(image, "image")
    background = np.array(canonical.dataobj, dtype=np.float32)
    background[background == background[0, 0, 0]] = np.nan  # what is outside the head, also after a z-score
    masks: dict[str, Volume] = {}
    for name, source in (("reference", label), ("prediction", prediction)):
        if source is not None:
            masks[name] = _mask_on_grid(_canonical(source, name), canonical, name)
    shown = np.any([np.isfinite(background), *(mask > 0 for mask in masks.values())], axis=0)
    box = bounding_box(shown) if shown.any() else (slice(None),) * 3
    background, masks = background[box], {name: mask[box] for name, mask in masks.items()}
    cuts = _cuts(masks, background.shape)

    figure = Figure(figsize=(9.0, 9.6), facecolor="black", layout="constrained")
    for axes, (axis, index) in zip(figure.subplots(3, 3).flat, cuts, strict=True):
        _draw_slice(axes, background, masks, axis, index, canonical.header.get_zooms()[:3], radiological)
    figure.suptitle(title, color="white", fontsize="large")
    lines = [Line2D([], [], color=OUTLINES[name], label=name) for name in masks]
    view = (
        "radiological view: patient's right on the left"
        if radiological
        else "neurological view: patient's right on the right"
    )
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, title=view)
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color("white")
    return save_figure(figure, png_path)


def _canonical(source: Any, name: str) -> nib.Nifti1Image:
    """Bring a path, a nibabel image or a MetaTensor (first channel) to RAS order, three-dimensional."""
    if isinstance(source, MetaTensor):
        values = source.numpy(force=True).astype(np.float32)
        values = values[0] if values.ndim == 4 else values
        loaded: Any = nib.Nifti1Image(values, source.affine.numpy(force=True))
    elif isinstance(source, nib.Nifti1Image):
        loaded = source
    else:
        try:
            loaded = nib.load(source)
        except (OSError, nib.filebasedimages.ImageFileError) as error:
            raise InputError(f"cannot read the {name} {source}: {error}") from error
    return nib.as_closest_canonical(loaded.slicer[..., 0] if loaded.ndim == 4 else loaded)


def _mask_on_grid(mask: nib.Nifti1Image, image: nib.Nifti1Image, name: str) -> Volume:
    if mask.shape != image.shape or not np.allclose(mask.affine, image.affine, atol=1e-3):
        raise InputError(
            f"the {name}'s grid {mask.shape} is not the image's {image.shape}, or its affine differs; resample it first"
        )
    return (np.asarray(mask.dataobj) != 0).astype(np.float32)


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
    """Draw one slice: right-left, or front-back in the sagittal plane, across; head up, or front up when axial."""
    across, up = (other for other in (SAGITTAL, CORONAL, AXIAL) if other != axis)
    inside = background[np.isfinite(background)]
    low, high = np.percentile(inside, (1, 99.9)) if inside.size else (0.0, 1.0)
    aspect = spacing[up] / spacing[across]
    axes.imshow(background.take(index, axis).T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
    for name, mask in masks.items():
        outline = mask.take(index, axis).T
        if outline.any() and min(outline.shape) > 1:  # one line of voxels has no outline
            axes.contour(outline, levels=[0.5], colors=OUTLINES[name], linewidths=0.9)
    width = background.shape[across]
    axes.set_xlim(-0.5 - 0.06 * width, -0.5 + 1.06 * width)  # room for the letters
    left, right = ("P", "A") if across == CORONAL else ("L", "R")
    if radiological:  # RAS order draws right on the right; radiologists look at the patient from the feet
        axes.invert_xaxis()
        left, right = right, left
    for x, side in ((0.02, left), (0.98, right)):
        axes.text(x, 0.5, side, color="white", fontsize="small", ha="center", va="center", transform=axes.transAxes)
    axes.set_title(PLANE_NAMES[axis], color="white", fontsize="small")
    axes.set_axis_off()


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, without Matplotlib's global state; return the path."""
    FigureCanvasAgg(figure)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor=figure.get_facecolor())
    return Path(path)
