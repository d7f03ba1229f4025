# SPDX-License-Identifier: Apache-2.0
"""In which order the channels of a data set's images come, and how to bring them into a bundle's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import read_header
from custom_nets.errors import InputError
from custom_nets.registry import bundle

#: What challenges call the modalities -> our name, both in lower case.
_SYNONYMS = {
    **dict.fromkeys(("t1w", "t1n"), "t1"),
    **dict.fromkeys(("t1c", "t1gd"), "t1ce"),
    "t2w": "t2",
    "t2f": "flair",
}


def channel_order(name: str, dataset_dir: str | Path, datalist: str | Path = "datalist.json") -> list[int]:
    """Which channel of a case's image is each modality of bundle ``name``, for ``ReorderChannelsd``.

    Args:
        name: of the bundle; its metadata names the modalities in the network's order.
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path. Its header names the files' order under
            ``modality``.

    Returns:
        For each modality of the bundle the place of its channel in the files: 1, 3, 2, 0 where the bundle has T1, T2,
        T1CE, FLAIR and the files FLAIR, T1, T1CE, T2. 0, 1, 2 ... where the list cannot be read, or names no
        modalities or others: that is for the checks of the data list to say.

    Raises:
        InputError: for an unknown bundle.
    """
    wanted = bundle(name).modalities
    try:
        listed = listed_modalities(read_header(dataset_dir, datalist))
    except InputError:
        listed = []
    return order_of(wanted, listed) or list(range(len(wanted)))


def listed_modalities(header: Mapping[str, Any]) -> list[str]:
    """The modalities that a data list's header names, in the order of the files; empty where it names none."""
    listed = header.get("modality")
    if not isinstance(listed, dict):
        return []
    keys = sorted(listed, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
    return [str(listed[key]) for key in keys]


def order_of(wanted: Sequence[str], listed: Sequence[str]) -> list[int]:
    """The place in ``listed`` of each name in ``wanted``; empty where the two do not name the same modalities.

    Upper and lower case do not count, and T1w, T1gd or T2f stand for T1, T1CE and FLAIR, as challenges name them.
    """
    there, names = ([_SYNONYMS.get(name.lower(), name.lower()) for name in list_] for list_ in (listed, wanted))
    return [there.index(name) for name in names] if sorted(there) == sorted(names) else []
