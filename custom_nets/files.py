# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step, on an error it vanishes.

    The temporary name keeps every suffix of ``path``, because many writers choose the format by the suffix. The data
    reach the disk before the name changes: after a kill or a power cut ``path`` is either the old file or the new one.
    Folders in between are made.

    Args:
        path: the file to write.

    Yields:
        The path to hand to the writer.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name.removesuffix(suffix)}.", suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Temporary files that a killed :func:`written_whole` of ``path`` left beside it."""
    suffix = "".join(path.suffixes)
    pattern = re.compile(re.escape(f".{path.name.removesuffix(suffix)}.") + r"\w{8}" + re.escape(suffix))
    return [one for one in path.parent.glob(".*") if pattern.fullmatch(one.name)]


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all; return the path."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON to ``path``, whole or not at all; return the path."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def json_digest(content: Any) -> str:
    """SHA-256 of ``content`` as JSON with sorted keys, as hexadecimal text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal text.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
