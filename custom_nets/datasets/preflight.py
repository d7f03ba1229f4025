# SPDX-License-Identifier: Apache-2.0
"""All that can be known about the data before the first step of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from custom_nets.datasets.checks import CheckOptions, Look, check_cases
from custom_nets.datasets.datalist import Case, datalist_path, load_section, parse_datalist
from custom_nets.datasets.modalities import listed_modalities, order_of
from custom_nets.datasets.problems import Problem, report, require_sound
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM
from custom_nets.errors import InputError

_logger = logging.getLogger(__name__)


def check_training(
    dataset_dir: str | Path,
    datalist: str | Path,
    modalities: int | Sequence[str],
    labels: Sequence[int],
    patch_size: Sequence[int] | None = None,
    *,
    spacing: Sequence[float] | None = None,
    affine_tolerance_mm: float = AFFINE_TOLERANCE_MM,
    bright: tuple[float, float] | None = None,
    any_order: bool = False,
    label_convention: str = "",
    label_graph: str = "",
    validated: bool = True,
    look: Look | None = None,
    progress: bool = True,
) -> list[Problem]:
    """Check the data list and every training and validation file. Each file is read once.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        modalities: the names of the input channels in order, or their number.
        labels: the values that a label may hold, background included.
        patch_size: the training patch in voxels along R, A, S; a smaller volume gives a warning.
        spacing: voxel size in mm to which the bundle resamples; None = as stored.
        affine_tolerance_mm: how far apart two files of a case may put a corner of the volume, in mm.
        bright: range in which the network expects the 99.9th percentile of an image; outside of it is a warning.
            None = not computed.
        any_order: whether the channels are put into the network's order when loaded, by what the list says of theirs.
        label_convention: of a brain tumour's labels, for the advice about other values; an empty string for others.
        label_graph: name or file of a spine's label graph, likewise.
        validated: whether validation cases are needed; those that there are, are checked in any case.
        look: see :class:`~custom_nets.datasets.checks.CheckOptions`.
        progress: show a progress bar on stderr.

    Returns:
        The warnings, which are logged as well.

    Raises:
        InputError: the list cannot be used, or a table of all errors in the files.
    """
    names = _in_files_order(dataset_dir, datalist, modalities, any_order)
    others = load_section(dataset_dir, datalist, "validation", optional=not validated)
    cases = [*load_section(dataset_dir, datalist, "training"), *others]
    options = CheckOptions(
        *(patch_size, spacing),
        affine_tolerance_mm=affine_tolerance_mm,
        bright=bright,
        label_convention=label_convention,
        label_graph=label_graph,
        look=look,
    )
    return _warnings(check_cases(cases, names, labels, options, progress=progress), dataset_dir)


def check_inference(
    dataset_dir: str | Path,
    datalist: str | Path,
    modalities: int | Sequence[str],
    labels: Sequence[int] | None = None,
    *,
    section: str = "testing",
    affine_tolerance_mm: float = AFFINE_TOLERANCE_MM,
    bright: tuple[float, float] | None = None,
    any_order: bool = False,
    label_convention: str = "",
    label_graph: str = "",
    progress: bool = True,
) -> list[Problem]:
    """Check the data list and every file of the section that is to be segmented or evaluated.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        modalities: the names of the input channels in order, or their number.
        labels: the values that a label may hold, for an evaluation; None = labels are neither needed nor read.
        section: ``"testing"``, or another section.
        affine_tolerance_mm: how far apart two files of a case may put a corner of the volume, in mm.
        bright: range in which the network expects the 99.9th percentile of an image; outside of it is a warning.
            None = not computed.
        any_order: whether the channels are put into the network's order when loaded, by what the list says of theirs.
        label_convention: of a brain tumour's labels, for the advice about other values; an empty string for others.
        label_graph: name or file of a spine's label graph, likewise.
        progress: show a progress bar on stderr.

    Returns:
        The warnings, which are logged as well.

    Raises:
        InputError: the list cannot be used, or a table of all errors in the files.
    """
    names = _in_files_order(dataset_dir, datalist, modalities, any_order)
    cases: list[Case] = load_section(dataset_dir, datalist, section, labelled=labels is not None)
    options = CheckOptions(
        empty_label=None,
        affine_tolerance_mm=affine_tolerance_mm,
        bright=bright,
        label_convention=label_convention,
        label_graph=label_graph,
    )
    return _warnings(check_cases(cases, names, labels, options, progress=progress), dataset_dir)


def _warnings(problems: list[Problem], dataset_dir: str | Path) -> list[Problem]:
    root = Path(dataset_dir).absolute()
    require_sound(problems, root)
    if problems:
        _logger.warning("%s: %s", root, report(problems, root))
    return problems


def _in_files_order(
    dataset_dir: str | Path, datalist: str | Path, modalities: int | Sequence[str], any_order: bool
) -> int | Sequence[str]:
    """The modalities in the order of the files, which unless ``any_order`` has to be that of ``modalities``.

    Swapped channels would train without any sign of it. Other names than the bundle's say nothing and are let pass;
    with ``any_order``, where the names are to tell the order, there is a warning.
    """
    listed = listed_modalities(parse_datalist(dataset_dir, datalist)[0])
    if isinstance(modalities, int):
        return modalities
    order = order_of(listed, modalities)  # where each of the files' modalities stands among the wanted
    if order and order != list(range(len(order))) and not any_order:
        raise InputError(
            f"{datalist_path(dataset_dir, datalist)} lists the modalities as {', '.join(listed)}, "
            f"the network expects {', '.join(modalities)}: write it again with --modalities {','.join(modalities)}"
        )
    if any_order and listed and not order:
        _logger.warning(
            "%s calls the modalities %s, of which the network's %s are not told: channels are taken as they lie",
            *(datalist_path(dataset_dir, datalist), ", ".join(listed), ", ".join(modalities)),
        )
    return [modalities[place] for place in order] or modalities
