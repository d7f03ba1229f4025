# SPDX-License-Identifier: Apache-2.0
"""Which convention the label maps of a data set of brain tumours follow, and what their values are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from custom_nets.datasets.datalist import datalist_path, read_header
from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.tumours.regions import CONVENTIONS, values_of

KEY = "label_convention"  # of a data list's header, and the option of that name
DEFAULT = "brats"
_AUTO = "auto"


def label_convention(dataset_dir: str | Path, datalist: str | Path = "datalist.json", wanted: str = _AUTO) -> str:
    """The convention of a data set's label maps, one of ``custom_nets.tumours.regions.CONVENTIONS``.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        wanted: a convention, or ``"auto"`` for what the list's header says under ``label_convention``.

    Returns:
        The convention; with ``"auto"``, ``"brats"`` where the header names none or the list cannot be read, which is
        for the checks of the data list to say.

    Raises:
        InputError: for an unknown convention, naming those that are known, and the list if it is the list's.
    """
    if wanted != _AUTO:
        values_of(str(wanted))
        return wanted
    try:
        listed = str(read_header(dataset_dir, datalist).get(KEY, DEFAULT))
    except InputError:
        return DEFAULT
    try:
        values_of(listed)
    except InputError as error:
        path = datalist_path(dataset_dir, datalist)
        raise InputError(f"{path}: {error}; correct {KEY!r} in the list, or give --{KEY} NAME") from None
    return listed


def label_values(convention: str) -> list[int]:
    """The values that a label map of this convention may hold, 0 first.

    Raises:
        InputError: for an unknown convention.
    """
    return [0, *sorted(values_of(convention).values())]


def label_names(convention: str) -> dict[int, str]:
    """The name of each value of a label map of this convention, in the words of the bundle's metadata.

    Raises:
        InputError: for an unknown convention.
    """
    names = bundle("s2ca_net").labels
    parts = {value: names[CONVENTIONS[DEFAULT][part]] for part, value in values_of(convention).items()}
    return {0: names[0], **dict(sorted(parts.items()))}


def advice_on_values(found: Iterable[float], convention: str) -> str:
    """What to do about a label map that holds other values than those of its convention.

    Args:
        found: all values of the label map but 0.
        convention: that it should follow.
    """
    values = set(found)
    others = [f"--{KEY} {name} ({_listed(name)})" for name in CONVENTIONS if values <= set(label_values(name))]
    advice = f"{convention} has {_listed(convention)}: "
    advice += f"give {' or '.join(others)} if they are meant so" if others else "map yours to them"
    if 4 in values and (3 in values or convention == "brats2023"):
        advice += "; 4 is the resection cavity in BraTS 2024, which has no class here: make it 0"
    return advice


def _listed(convention: str) -> str:
    return ", ".join(map(str, label_values(convention)))
