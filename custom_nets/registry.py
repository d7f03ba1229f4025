# SPDX-License-Identifier: Apache-2.0
"""The one list of bundles, with their modalities and labels, read from the bundles' metadata. Imports no torch."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from custom_nets.errors import InputError

#: The repository, or the folder of an exported bundle into which this package was copied.
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Bundle:
    """One bundle, as its metadata describes it.

    Attributes:
        name: folder under `bundles/`, and what the tools call it.
        title: for people.
        task: what it segments.
        paper: the first reference.
        version: of the bundle.
        modalities: names of the input images, in order. A 2.5D network sees several slices of a modality as channels,
            which metadata calls "MR, slice -1", "MR, slice 0", "MR, slice +1": one modality, MR.
        labels: value of the output label map -> name; 0 is background.
        folder: of the bundle.
        file_name_patterns: modality -> patterns by which its files are known, see :mod:`custom_nets.scans.patterns`.
    """

    name: str
    title: str
    task: str
    paper: str
    version: str
    modalities: tuple[str, ...]
    labels: dict[int, str]
    folder: Path
    file_name_patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def available() -> dict[str, Bundle]:
    """Return the bundles by name."""
    folders = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))
    if (ROOT / "configs" / "metadata.json").is_file():
        folders.append(ROOT)
    return {entry.name: entry for entry in map(_read, folders)}


def bundle(name: str) -> Bundle:
    """Return the bundle of that name.

    Raises:
        InputError: for an unknown one, naming those that there are.
    """
    found = available().get(name) or _beside(name)
    if found is None:
        raise InputError(f"bundle '{name}' is unknown: choose one of {', '.join(available())}.")
    return found


def _beside(name: str) -> Bundle | None:
    """An exported bundle on Python's path: MONAI Label keeps one bundle's copy of this package for all of them."""
    for place in sys.path:
        path = Path(place) / "configs" / "metadata.json"
        with suppress(OSError, ValueError):  # any folder may have such a file
            metadata = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(metadata, dict) and metadata.get("bundle") == name:
                return _read(Path(place).resolve())
    return None


def _read(folder: Path) -> Bundle:
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    data_format = metadata["network_data_format"]
    inputs = data_format["inputs"]["image"]["channel_def"]
    outputs = data_format["outputs"]["pred"]["channel_def"]
    return Bundle(
        name=metadata["bundle"],
        title=metadata["name"],
        task=metadata["task"],
        paper=metadata["references"][0],
        version=metadata["version"],
        modalities=tuple(dict.fromkeys(re.sub(r", slice \S+$", "", inputs[key]) for key in sorted(inputs, key=int))),
        labels={int(value): name for value, name in sorted(outputs.items(), key=lambda item: int(item[0]))},
        folder=folder,
        file_name_patterns={key: tuple(value) for key, value in metadata.get("file_name_patterns", {}).items()},
    )
