# SPDX-License-Identifier: Apache-2.0
"""The one list of bundles, with their modalities and labels, read from the bundles' metadata. Imports no torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from custom_nets.errors import InputError

#: The repository, or the folder of an exported bundle into which this package was copied.
ROOT = Path(__file__).resolve().parents[1]

#: Bundles to come: name -> (paper, task). A bundle that lands loses its line here.
PLANNED: dict[str, tuple[str, str]] = {}


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
        folder: of the bundle; None where it is planned.
    """

    name: str
    title: str
    task: str
    paper: str
    version: str
    modalities: tuple[str, ...]
    labels: dict[int, str]
    folder: Path | None

    @property
    def planned(self) -> bool:
        """True where there is nothing to run yet."""
        return self.folder is None


@cache
def bundles() -> dict[str, Bundle]:
    """Return all bundles by name, planned ones last."""
    folders = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))
    if (ROOT / "configs" / "metadata.json").is_file():
        folders.append(ROOT)
    known = [_read(folder) for folder in folders]
    planned = [Bundle(name, name, task, paper, "", (), {}, None) for name, (paper, task) in PLANNED.items()]
    return {entry.name: entry for entry in [*known, *planned]}


def available() -> dict[str, Bundle]:
    """Return the bundles that can be run, by name."""
    return {name: entry for name, entry in bundles().items() if not entry.planned}


def bundle(name: str) -> Bundle:
    """Return the bundle of that name.

    Raises:
        InputError: for an unknown or a planned one, naming those that can be run.
    """
    entry = bundles().get(name)
    if entry is None or entry.planned:
        state = "unknown" if entry is None else "planned, not there yet"
        raise InputError(f"bundle '{name}' is {state}: choose one of {', '.join(available())}.")
    return entry


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
    )
