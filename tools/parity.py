# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.parity [NAME ...]`: how much TorchScript and ONNX forms of the networks differ from the networks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import write_text
from custom_nets.marked_text import marked, with_marked
from custom_nets.registry import Bundle, available, bundle
from tools._command import run

#: Markers in a bundle's card between which the table stands.
MARKERS = "parity"


def parity(
    *names: str, checkpoint: str | None = None, volume: Sequence[int] | None = None, write: bool = False, seed: int = 0
) -> None:
    """Export the networks of bundles, load the forms again, compare them with the networks and print a table each.

    The files are made in a temporary folder and thrown away; `python -m tools.export_bundle` keeps them.

    Args:
        names: of bundles; all of them where none is given.
        checkpoint: weights of the one bundle that is named, of its network with default options; without it weights are
            random, and no part of the network is idle as some are before training.
        volume: D, H, W for which SpineParseNet is also exported as a whole: [12,64,96].
        write: put the table into the bundle's card.
        seed: of random weights.
    """
    entries = [bundle(str(name)) for name in names] or list(available().values())
    if checkpoint is not None and len(entries) > 1:
        raise InputError(f"checkpoint is {checkpoint}: it is of one network; name its bundle.")
    for entry in entries:
        table = _measured(entry, checkpoint, volume, seed)
        print(f"\n{entry.name}\n\n{table}")
        if write:
            print(f"\nwrote {_write(entry, table)}")


def _measured(entry: Bundle, checkpoint: str | None, volume: Sequence[int] | None, seed: int) -> str:
    from custom_nets.model_zoo.forms import parity_table, write_forms
    from custom_nets.model_zoo.random_weights import write_random_weights

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bundle"
        shutil.copytree(entry.folder / "configs", folder / "configs")
        if checkpoint is None:
            write_random_weights(folder, seed)
            weights = f"random weights of seed {seed}"
        else:
            _copy(Path(str(checkpoint)), folder / "models" / "model.pt")
            weights = f"weights of {Path(str(checkpoint)).name}"
        shape: Any = list(volume) if isinstance(volume, list | tuple) else volume
        options = f' --volume "{json.dumps(shape, separators=(",", ":"))}"' if shape else ""
        told = f"`python -m tools.parity {entry.name}{options}` measured the table."
        return f"{told}\n\n{parity_table(write_forms(folder, volume=shape, weights=weights))}"


def _copy(checkpoint: Path, place: Path) -> None:
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; check the path.")
    place.parent.mkdir()
    shutil.copyfile(checkpoint, place)


def _write(entry: Bundle, table: str) -> Path:
    card = entry.folder / "docs" / "README.md"
    text = card.read_text(encoding="utf-8")
    if marked(text, MARKERS) is None:
        raise InputError(f"{card}: has no place for the table; add <!-- {MARKERS} --> and <!-- /{MARKERS} -->.")
    return write_text(card, with_marked(text, MARKERS, table))


if __name__ == "__main__":
    run(parity)
