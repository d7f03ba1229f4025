# SPDX-License-Identifier: Apache-2.0
"""Whether the files of a case can be used together: every check that is cheaper now than after a night of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from tqdm import tqdm

from custom_nets.datasets.problems import Problem, Severity, report, require_sound
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, UnusableFile, Volume, corner_shift, read_volume

__all__ = [
    "CaseReport",
    "CheckOptions",
    "Problem",
    "check_case",
    "check_cases",
    "examine_cases",
    "report",
    "require_sound",
]

_MOST_THREADS = 8  # decompression releases the interpreter's lock; more readers than this only compete for the disk
_SHOWN_VALUES = 5
_SAME_GRID = "resample it onto that file's grid, or copy that file's header if the voxels already correspond"


@dataclass(frozen=True)
class CheckOptions:
    """How strict the checks are.

    Attributes:
        patch_size: training patch in voxels along R, A, S; None skips the comparison.
        spacing: voxel size in mm to which the bundle resamples before it cuts patches, along R, A, S; None = as stored.
        small: severity of a volume that is smaller than the patch.
        empty_label: severity of a label without foreground; None = not a problem.
        affine_tolerance_mm: how far apart two files of a case may put a corner of the volume, in mm.
    """

    patch_size: Sequence[int] | None = None
    spacing: Sequence[float] | None = None
    small: Severity = "warning"
    empty_label: Severity | None = "warning"
    affine_tolerance_mm: float = AFFINE_TOLERANCE_MM


@dataclass(frozen=True)
class CaseReport:
    """What the examination of one case gave.

    Attributes:
        problems: what is wrong with it.
        grid: size in voxels along the file's axes; None when no image could be read.
        spacing: voxel size in mm along the file's axes; None when no image could be read.
        foreground_ml: volume of the label's foreground in millilitres; None without a readable label.
    """

    problems: list[Problem]
    grid: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    foreground_ml: float | None


def check_case(
    case: Mapping[str, Any],
    modalities: int | Sequence[str],
    labels: Sequence[int] | None = None,
    options: CheckOptions | None = None,
) -> list[Problem]:
    """Check one case of a data list, reading each file completely and once.

    Args:
        case: ``{"image": path or [paths], "label": path}``; ``case`` gives its name, else the first image does.
        modalities: the names of the input channels in order, or their number. One 4D file may hold all of them.
        labels: the values that the label may hold; None = labels are neither needed nor read.
        options: how strict to be.

    Returns:
        The problems found; an empty list means that the case can be used.
    """
    return _examine(case, _names(modalities), labels, options or CheckOptions()).problems


def check_cases(
    cases: Sequence[Mapping[str, Any]],
    modalities: int | Sequence[str],
    labels: Sequence[int] | None = None,
    options: CheckOptions | None = None,
    *,
    progress: bool = True,
) -> list[Problem]:
    """``check_case`` for many cases, some at a time; the problems come in the order of the cases."""
    reports = examine_cases(cases, modalities, labels, options, progress=progress)
    return [problem for one in reports for problem in one.problems]


def examine_cases(
    cases: Sequence[Mapping[str, Any]],
    modalities: int | Sequence[str],
    labels: Sequence[int] | None = None,
    options: CheckOptions | None = None,
    *,
    progress: bool = True,
) -> list[CaseReport]:
    """As ``check_cases``, with size, spacing and label volume of each case.

    A case without the key ``label`` is checked without one; that a label has to be there is for the data list to say.
    """
    names, strictness = _names(modalities), options or CheckOptions()

    def examine(case: Mapping[str, Any]) -> CaseReport:
        return _examine(case, names, labels if "label" in case else None, strictness)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        done = pool.map(examine, cases)
        return list(
            tqdm(done, total=len(cases), desc="checking cases", unit="case", disable=None if progress else True)
        )


def case_name(case: Mapping[str, Any]) -> str:
    """The name under which a case is reported: its ``case`` entry, else folder and stem of its first image."""
    if "case" in case:
        return str(case["case"])
    first = Path(_images(case)[0])
    return f"{first.parent.name}/{first.name.split('.')[0]}"


def _examine(
    case: Mapping[str, Any], names: Sequence[str], labels: Sequence[int] | None, options: CheckOptions
) -> CaseReport:
    name, problems = case_name(case), list[Problem]()

    def add(file: str | Path, found: str, advice: str, severity: Severity = "error") -> None:
        problems.append(Problem(name, str(file), found, advice, severity))

    images = [volume for path in _images(case) if (volume := _read(path, False, add))]
    _check_number(_images(case), images, names, add)
    _check_twice(images, names, add)
    for volume in images:
        _check_affine(volume, add)
        _check_intensities(volume, names, add)
    label = _read(case["label"], True, add) if labels is not None else None
    if label is not None:
        _check_affine(label, add)
        _check_label(label, labels or (), options.empty_label, add)
    _check_grids([*images, *([label] if label else [])], options.affine_tolerance_mm, add)
    if images:
        _check_patch(images[0], options, add)
    return CaseReport(
        problems,
        images[0].grid if images else None,
        tuple(float(size) for size in images[0].spacing) if images else None,
        label.foreground_ml if label else None,
    )


_Add = Callable[..., None]


def _read(path: str, label: bool, add: _Add) -> Volume | None:
    try:
        return read_volume(path, label=label)
    except UnusableFile as reason:
        add(path, reason.found, reason.advice)
        return None


def _check_number(paths: Sequence[str], images: Sequence[Volume], names: Sequence[str], add: _Add) -> None:
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


def _check_twice(images: Sequence[Volume], names: Sequence[str], add: _Add) -> None:
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


def _check_affine(volume: Volume, add: _Add) -> None:
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


def _check_intensities(volume: Volume, names: Sequence[str], add: _Add) -> None:
    for number, channel in enumerate(volume.channels):
        several = len(volume.channels) > 1
        title = f"channel {number} ({names[number] if number < len(names) else '?'}) " if several else ""
        if channel.non_finite:
            add(volume.path, f"{title}{channel.non_finite} NaN or infinite voxels", "replace them, for example by 0")
        if channel.low == channel.high:
            add(volume.path, f"{title}every voxel is {channel.low:g}", "check the export, the scan holds no image")


def _check_label(volume: Volume, labels: Sequence[int], empty: Severity | None, add: _Add) -> None:
    values = volume.values or {}
    stated = ", ".join(str(label) for label in labels)
    fractional = {value: count for value, count in values.items() if not value.is_integer()}
    unknown = {value: count for value, count in values.items() if value.is_integer() and value not in labels}
    if len(volume.shape) != 3:
        add(volume.path, f"label is {len(volume.shape)}D, shape {volume.shape}", "save one 3D label map")
    if fractional:
        advice = "threshold it, and resample labels with nearest neighbour"
        add(volume.path, f"fractional label values {_listed(fractional)}", advice)
    if unknown:
        add(volume.path, f"unknown label values {_listed(unknown)}", f"map them to the stated labels {stated}")
    if not values and empty is not None:
        add(volume.path, "label is empty, no foreground voxel", "check that it belongs to this scan", empty)


def _check_grids(volumes: Sequence[Volume], tolerance_mm: float, add: _Add) -> None:
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


def _check_patch(volume: Volume, options: CheckOptions, add: _Add) -> None:
    if options.patch_size is None or len(volume.shape) < 3 or not np.isfinite(volume.affine).all():
        return
    if not volume.spacing.all():
        return
    order = [int(axis) for axis in np.argsort(io_orientation(volume.affine)[:, 0])]  # file axes as R, A, S
    size = [volume.grid[axis] for axis in order]
    if options.spacing is not None:
        stored = [volume.spacing[axis] for axis in order]
        size = [round(n * old / new) for n, old, new in zip(size, stored, options.spacing, strict=True)]
    if any(n < patch for n, patch in zip(size, options.patch_size, strict=True)):
        found = f"{'x'.join(map(str, size))} voxels, smaller than the patch {'x'.join(map(str, options.patch_size))}"
        add(volume.path, found, "it will be padded; a smaller patch_size avoids that", options.small)


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _listed(counts: Mapping[float, int]) -> str:
    shown = ", ".join(f"{value:g} ({count} voxels)" for value, count in list(counts.items())[:_SHOWN_VALUES])
    return shown + (f" and {len(counts) - _SHOWN_VALUES} more" if len(counts) > _SHOWN_VALUES else "")


def _images(case: Mapping[str, Any]) -> list[str]:
    image = case["image"]
    return [str(path) for path in image] if isinstance(image, list | tuple) else [str(image)]


def _names(modalities: int | Sequence[str]) -> list[str]:
    return [f"channel {n}" for n in range(modalities)] if isinstance(modalities, int) else list(modalities)
