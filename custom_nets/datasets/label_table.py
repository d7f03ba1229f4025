# SPDX-License-Identifier: Apache-2.0
"""Which value of a label map is which structure: a bundle's own table, or a file of the user."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import bundle

BACKGROUND = "background"
_SIDES = ("left", "right")


def read_label_table(path: str | Path | None = None, bundle_name: str = "s2anet") -> dict[int, str]:
    """The name of every value of a label map.

    Two forms are read: JSON, ``{"0": "background", "1": "Femur, left", ...}``, and the lines of S2aNet's class.txt,
    ``Femur, left:1``, where background may be left out.

    Args:
        path: the table; None = the labels of a bundle.
        bundle_name: whose labels are meant by None.

    Returns:
        Value to name in ascending order: whole numbers from 0, which is background, without a gap.

    Raises:
        InputError: the file cannot be read or is in neither form; a value is no whole number, negative, twice or
            missing; a name is empty or twice; 0 is not background; there is no structure.
    """
    if path is None:
        return dict(bundle(bundle_name).labels)
    path = Path(path)
    text = _text(path)
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "[")):
        table = _checked(path, _json_entries(path, text))
    else:
        table = _checked(path, _line_entries(path, text))
        table.setdefault(0, BACKGROUND)
    missing = sorted(set(range(max(table, default=0) + 1)) - set(table))
    if missing:
        what = "background at 0" if missing[0] == 0 else f"value {missing[0]}, though {max(table)} is there"
        raise InputError(f"{path}: no {what}: number the labels 0, 1, 2 ... without a gap, with background at 0")
    if table[0].lower() != BACKGROUND:
        raise InputError(f"{path}: 0 is {table[0]!r}: 0 is background, so number the structures from 1")
    if len(table) == 1:
        raise InputError(f"{path}: no structure besides background: add one a value from 1")
    return dict(sorted(table.items()))


def structure_key(name: str) -> str:
    """What two spellings of a structure's name have in common.

    Case, spaces, commas, hyphens and underscores do not count, nor where the side stands: "Femur, left", "femur_left"
    and "Left femur" are one.
    """
    words = re.findall(r"[^\W_]+", name.lower())
    return "".join(sorted(words, key=lambda word: word in _SIDES))  # a stable sort: sides last, else as they were


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: label table is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: label table cannot be read ({error.strerror or error}): correct the path") from None


def _json_entries(path: Path, text: str) -> list[tuple[str, Any]]:
    """The pairs of the object in the file; two equal keys stay two pairs."""
    try:
        content = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}): correct that line") from None
    if not isinstance(content, tuple):
        raise InputError(
            f'{path}: holds a {type(content).__name__}, not a table such as {{"0": "background", "1": "Femur, left"}}'
        )
    return list(content)


def _line_entries(path: Path, text: str) -> list[tuple[str, str]]:
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            name, colon, value = line.rpartition(":")
            if not colon:
                raise InputError(f"{path}, line {number}: {line.strip()!r} is not 'name:value', such as Femur, left:11")
            entries.append((value, name))
    return entries


def _checked(path: Path, entries: Iterable[tuple[str, Any]]) -> dict[int, str]:
    """The entries by value, each value and each name once."""
    table: dict[int, str] = {}
    keys: dict[str, str] = {}
    for written, said in entries:
        if not re.fullmatch(r"[0-9]+", written.strip()):
            raise InputError(f"{path}: label value {written.strip()!r} is not a whole number from 0: correct it")
        value, name = int(written), said.strip() if isinstance(said, str) else ""
        if not structure_key(name):
            raise InputError(f"{path}: the name of label {value} is {said!r}: give it a name")
        if value in table:
            raise InputError(f"{path}: label value {value} is twice, {table[value]!r} and {name!r}: keep one of them")
        if structure_key(name) in keys:
            raise InputError(f"{path}: {name!r} and {keys[structure_key(name)]!r} are one name: keep one of them")
        table[value], keys[structure_key(name)] = name, name
    return table
