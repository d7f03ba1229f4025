# SPDX-License-Identifier: Apache-2.0
"""Whether the files of a case can be used together: every check that is cheaper now than after a night of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_nets.datasets.problems import Problem, Severity, report, require_sound
from custom_nets.datasets.rules import (
    Add,
    check_affine,
    check_grids,
    check_intensities,
    check_label,
    check_mask,
    check_number,
    check_patch,
    check_twice,
)
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, UnusableFile, Volume, read_volume

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

#: Sees a case, its image files and the modality of each of their channels.
Look = Callable[[Mapping[str, Any], Sequence[Volume], Sequence[str]], None]

_MOST_THREADS = 8  # decompression releases the interpreter's lock; more readers than this only compete for the disk


@dataclass(frozen=True)
class CheckOptions:
    """How strict the checks are.

    Attributes:
        patch_size: training patch in voxels along R, A, S; None skips the comparison.
        spacing: voxel size in mm to which the bundle resamples before it cuts patches, along R, A, S; None = as stored.
        small: severity of a volume that is smaller than the patch.
        empty_label: severity of a label without foreground; None = not a problem.
        affine_tolerance_mm: how far apart two files of a case may put a corner of the volume, in mm.
        bright: the range in which a network without normalisation expects the 99.9th percentile of an image; outside
            of it is a warning. None = not computed.
        lesion_masks: a label may hold any positive values, all of which are foreground, and a case several labels.
        label_convention: of a brain tumour's labels, for the advice about other values; an empty string for others.
        label_graph: name or file of a spine's label graph, likewise.
        look: is called for each case without errors, from several threads, with samples of its images; None = none are
            kept.
    """

    patch_size: Sequence[int] | None = None
    spacing: Sequence[float] | None = None
    small: Severity = "warning"
    empty_label: Severity | None = "warning"
    affine_tolerance_mm: float = AFFINE_TOLERANCE_MM
    bright: tuple[float, float] | None = None
    lesion_masks: bool = False
    label_convention: str = ""
    label_graph: str = ""
    look: Look | None = None


@dataclass(frozen=True)
class CaseReport:
    """What the examination of one case gave.

    Attributes:
        problems: what is wrong with it.
        grid: size in voxels along the file's axes; None when no image could be read.
        spacing: voxel size in mm along the file's axes; None when no image could be read.
        foreground_ml: volume of the label's foreground in millilitres, of several labels the sum; None without a
            readable label.
        label_values: the values other than 0 in the labels.
    """

    problems: list[Problem]
    grid: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    foreground_ml: float | None
    label_values: frozenset[float] = frozenset()


def check_case(
    case: Mapping[str, Any],
    modalities: int | Sequence[str],
    labels: Sequence[int] | None = None,
    options: CheckOptions | None = None,
) -> list[Problem]:
    """Check one case of a data list, reading each file completely and once.

    Args:
        case: ``{"image": path or [paths], "label": path or [paths]}``; ``case`` gives its name, else the first image
            does.
        modalities: the names of the input channels in order, or their number. One 4D file may hold all of them.
        labels: the values that the label may hold; None = labels are neither needed nor read.
        options: how strict to be.

    Returns:
        The problems found; an empty list means that the case can be used.
    """
    return _examine(case, named_channels(modalities), labels, options or CheckOptions()).problems


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
    names, strictness = named_channels(modalities), options or CheckOptions()

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
    first = Path(_paths(case["image"])[0])
    return f"{first.parent.name}/{first.name.split('.')[0]}"


def _examine(
    case: Mapping[str, Any], names: Sequence[str], labels: Sequence[int] | None, options: CheckOptions
) -> CaseReport:
    name, problems = case_name(case), list[Problem]()

    def add(file: str | Path, found: str, advice: str, severity: Severity = "error") -> None:
        problems.append(Problem(name, str(file), found, advice, severity))

    paths = _paths(case["image"])
    asked = {"bright": options.bright is not None, "samples": options.look is not None}
    images = [volume for path in paths if (volume := _read(path, add, **asked))]
    check_number(paths, images, names, add)
    check_twice(images, names, add)
    for volume in images:
        check_affine(volume, add)
        check_intensities(volume, names, options.bright, add)
    label_paths = _paths(case["label"]) if labels is not None else []
    label_volumes = [volume for path in label_paths if (volume := _read(path, add, label=True))]
    for volume in label_volumes:
        check_affine(volume, add)
        if options.lesion_masks:
            check_mask(volume, options.empty_label, add)
        else:
            kind = options.label_convention, options.label_graph
            check_label(volume, labels or (), options.empty_label, add, *kind)
    check_grids([*images, *label_volumes], options.affine_tolerance_mm, add)
    if images:
        check_patch(images[0], options.patch_size, options.spacing, options.small, add)
    if options.look is not None and not any(problem.severity == "error" for problem in problems):
        options.look(case, images, names)
    return CaseReport(
        problems,
        images[0].grid if images else None,
        tuple(float(size) for size in images[0].spacing) if images else None,
        sum(volume.foreground_ml for volume in label_volumes) if label_volumes else None,
        frozenset(value for volume in label_volumes for value in volume.values or {}),
    )


def _read(path: str, add: Add, **asked: bool) -> Volume | None:
    try:
        return read_volume(path, **asked)
    except UnusableFile as reason:
        add(path, reason.found, reason.advice)
        return None


def _paths(entry: Any) -> list[str]:
    """The paths of an entry of a case, which is one path or a list."""
    return [str(path) for path in entry] if isinstance(entry, list | tuple) else [str(entry)]


def named_channels(modalities: int | Sequence[str]) -> list[str]:
    """The names of the input channels; "channel 0" and so on where their number is all that is known."""
    return [f"channel {n}" for n in range(modalities)] if isinstance(modalities, int) else list(modalities)
