# SPDX-License-Identifier: Apache-2.0
"""What a training of several stages is, written beside it: the same command goes on, another one is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import write_json
from tools._stages import Stage


def claim(path: Path, recipe: dict[str, Any], stages: Sequence[Stage], results: str = "models") -> None:
    """Write down the recipe of a run and its seconds so far.

    Args:
        path: the file, JSON.
        recipe: what the results depend on.
        stages: whose epochs are timed.
        results: what there is to delete beside the file for another run, for the message.

    Raises:
        InputError: the folder holds another run, or a training that did not begin here: it would be taken for ours.
    """
    if path.is_file():
        _require_same(path, recipe, results)
    else:
        strange = [last for stage in stages if (last := stage.ckpt_dir / "last.pt").is_file()]
        if strange:
            raise InputError(
                f"{strange[0]}: is of a training that this tool did not start, there being no {path}: "
                "give another --output_dir, or move that training away."
            )
    write_json(path, {**recipe, "seconds": sum(stage.seconds() for stage in stages)})


def _require_same(path: Path, recipe: dict[str, Any], results: str) -> None:
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give another --output_dir.") from error
    for key in sorted(recipe.keys() | found.keys() - {"seconds"}):
        if found.get(key) != recipe.get(key):
            told = f"{key} {_difference(found.get(key), recipe.get(key))}"
            raise InputError(
                f"{path}: is of a run with {told}: give another --output_dir, "
                f"or delete {path.parent / results} and that file to start anew."
            )


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        found, wanted = ({key: given.get(key) for key in keys} for given in (found, wanted))
    return f"{found}, not {wanted}"
