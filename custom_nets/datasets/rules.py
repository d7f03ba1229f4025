# SPDX-License-Identifier: Apache-2.0
"""What is compared in the files of a case, one rule a function; each reports through ``add``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from nibabel.orientations import io_orientation

from custom_nets.datasets import spine_labels, tumour_labels
from custom_nets.datasets.problems import Severity
from custom_nets.datasets.volumes import BRIGHT_PERCENTILE, Volume, corner_shift

Add = Callable[..., None]  # file, what was found, advice, severity ("error" unless given)

_SHOWN_VALUES = 5
_MOST_MASK_VALUES = 16  # lesions are numbered at most up to here; more values look like an image
_THRESHOLD = "threshold it, and resample labels with nearest neighbour"
_SAME_GRID = "resample it onto that file's grid, or copy that file's header if the voxels already correspond"


def check_number(paths: Sequence[str], images: Sequence[Volume], names: Sequence[str], add: Add) -> None:
    """Whether there is one image a modality: files of their own, or the channels of one file."""
    wanted = f"{len(names)} modalities ({', '.join(names)})"
    if len(paths) == 1 and images:
        volume, channels = images[0], images[0].shape[3:]
        if len(volume.shape) < 3 or len(channels) > 1:
            add(
                volume.path,
                f"{len(volume.shape)}D, shape {volume.shape}",
                "save it as 3D, or 4D with one channel a modality",
            )
        elif (channels or (1,)) != (len(names),):
            add(volume.path, f"{(channels or (1,))[0]} channel(s), shape {volume.shape}", f"give {wanted}")
        return
    if len(paths) != len(names):
        add(paths[0], f"{len(paths)} image files", f"give {wanted}, one file each in this order")
    for volume in images:
        if len(volume.shape) != 3:
            add(volume.path, f"{len(volume.shape)}D, shape {volume.shape}", "save it as a 3D volume of one modality")


def check_twice(images: Sequence[Volume], names: Sequence[str], add: Add) -> None:
    """Whether a modality is given in place of another one."""
    seen: dict[bytes, str] = {}
    files: set[str] = set()
    titled = zip((c for v in images for c in v.channels), (v for v in images for _ in v.channels), strict=True)
    for number, (channel, volume) in enumerate(titled):
        title = names[number] if number < len(names) else f"channel {number}"
        if channel.digest in seen:
            same_file = os.path.realpath(volume.path) in files and len(volume.channels) == 1
            what = "the same file as" if same_file else "voxel for voxel the same as"
            add(volume.path, f"{title} is {what} {seen[channel.digest]}", f"give the file of {title}")
        seen.setdefault(channel.digest, title)
        files.add(os.path.realpath(volume.path))


def check_affine(volume: Volume, add: Add) -> None:
    """Whether the file says where its voxels lie, and says it once."""
    if not np.isfinite(volume.affine).all():
        add(volume.path, "affine holds NaN or infinite values", "write the header again from the original scan")
    elif abs(np.linalg.det(volume.affine[:3, :3])) < 1e-9:
        add(
            volume.path,
            f"singular affine, spacing {_by(volume.spacing)} mm",
            "write the header again from the original scan",
        )
    elif not volume.oriented:
        found = "neither qform nor sform, orientation unknown"
        add(volume.path, found, "take the header from the original scan", "warning")
    elif len(volume.shape) >= 3 and not np.allclose(volume.header_spacing, volume.spacing, rtol=1e-3):
        found = f"header says {_by(volume.header_spacing)} mm a voxel, its affine {_by(volume.spacing)} mm"
        add(volume.path, found, "readers differ in which they believe: write the header again", "warning")


def check_intensities(volume: Volume, names: Sequence[str], bright: tuple[float, float] | None, add: Add) -> None:
    """Whether an image has finite values that differ, and with ``bright`` whether its 99.9th percentile lies there."""
    for number, channel in enumerate(volume.channels):
        several = len(volume.channels) > 1
        title = f"channel {number} ({names[number] if number < len(names) else '?'}) " if several else ""
        if channel.non_finite:
            add(volume.path, f"{title}{channel.non_finite} NaN or infinite voxels", "replace them, for example by 0")
        if channel.low == channel.high:
            add(volume.path, f"{title}every voxel is {channel.low:g}", "check the export, the scan holds no image")
        elif bright is not None and channel.bright is not None and not bright[0] <= channel.bright <= bright[1]:
            found = (
                f"{title}{BRIGHT_PERCENTILE}th percentile is {channel.bright:.4g}, but the network divides by 255 "
                f"and expects {bright[0]:g} to {bright[1]:g}"
            )
            add(volume.path, found, "add --intensity percentile or --intensity zscore", "warning")


def check_label(
    volume: Volume, labels: Sequence[int], empty: Severity | None, add: Add, convention: str = "", graph: str = ""
) -> None:
    """Whether a label map is 3D, holds only the stated values, and some foreground.

    For the advice: ``convention`` is that of a brain tumour's labels, ``graph`` the name of a spine's label graph;
    empty strings for other labels.
    """
    values = volume.values or {}
    stated = ", ".join(str(label) for label in labels)
    fractional = {value: count for value, count in values.items() if not value.is_integer()}
    unknown = {value: count for value, count in values.items() if value.is_integer() and value not in labels}
    _check_map(volume, empty, add)
    if fractional:
        add(volume.path, f"fractional label values {_listed(fractional)}", _THRESHOLD)
    if unknown:
        advice = f"map them to the stated labels {stated}"
        if convention:
            advice = tumour_labels.advice_on_values(values, convention)
        elif graph:
            advice = spine_labels.advice_on_values(values, graph)
        add(volume.path, f"unknown label values {_listed(unknown)}", advice)


def check_mask(volume: Volume, empty: Severity | None, add: Add) -> None:
    """As ``check_label`` for a mask in which every positive value is lesion, such as 0 and 255."""
    values = volume.values or {}
    negative = {value: count for value, count in values.items() if value < 0}
    fractional = {value: count for value, count in values.items() if not value.is_integer()}
    _check_map(volume, empty, add)
    if negative:
        add(volume.path, f"negative mask values {_listed(negative)}", "save a mask of 0 and one positive value")
    elif fractional and (len(values) > 1 or not all(np.isfinite(list(values)))):  # a single fraction is a scaled 1
        add(volume.path, f"fractional mask values {_listed(fractional)}", _THRESHOLD)
    elif len(values) > _MOST_MASK_VALUES:
        add(volume.path, f"{len(values)} different values, like an image", "check that it is the mask", "warning")


def _check_map(volume: Volume, empty: Severity | None, add: Add) -> None:
    if len(volume.shape) != 3:
        add(volume.path, f"label is {len(volume.shape)}D, shape {volume.shape}", "save one 3D label map")
    if not volume.values and empty is not None:
        add(volume.path, "label is empty, no foreground voxel", "check that it belongs to this scan", empty)


def check_grids(volumes: Sequence[Volume], tolerance_mm: float, add: Add) -> None:
    """Compare every file with the first one; files that are no volumes were reported already."""
    sound = [volume for volume in volumes if len(volume.shape) >= 3 and np.isfinite(volume.affine).all()]
    for volume in sound[1:]:
        first = sound[0]
        if volume.grid != first.grid:
            add(volume.path, f"shape {volume.grid}, but {first.path.name} has {first.grid}", _SAME_GRID)
            continue
        shift = corner_shift(first.affine, volume.affine, first.grid)
        if shift > tolerance_mm:
            found = f"affine differs from {first.path.name} by up to {shift:.3g} mm (allowed {tolerance_mm:g} mm)"
            add(volume.path, found, _SAME_GRID)


def check_patch(
    volume: Volume, patch_size: Sequence[int] | None, spacing: Sequence[float] | None, small: Severity, add: Add
) -> None:
    """Whether the volume, resampled to ``spacing`` (mm along R, A, S), is at least as large as the patch."""
    if patch_size is None or len(volume.shape) < 3 or not np.isfinite(volume.affine).all():
        return
    if not volume.spacing.all():
        return
    order = [int(axis) for axis in np.argsort(io_orientation(volume.affine)[:, 0])]  # file axes as R, A, S
    size = [volume.grid[axis] for axis in order]
    if spacing is not None:
        stored = [volume.spacing[axis] for axis in order]
        size = [round(n * old / new) for n, old, new in zip(size, stored, spacing, strict=True)]
    if any(n < patch for n, patch in zip(size, patch_size, strict=True)):
        found = f"{'x'.join(map(str, size))} voxels, smaller than the patch {'x'.join(map(str, patch_size))}"
        add(volume.path, found, "it will be padded; a smaller patch_size avoids that", small)


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _listed(counts: Mapping[float, int]) -> str:
    shown = ", ".join(f"{value:g} ({count} voxels)" for value, count in list(counts.items())[:_SHOWN_VALUES])
    return shown + (f" and {len(counts) - _SHOWN_VALUES} more" if len(counts) > _SHOWN_VALUES else "")
