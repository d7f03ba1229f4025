# SPDX-License-Identifier: Apache-2.0
"""large_files.yml: files that are too large for the Model Zoo's repository, with their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from custom_nets.files import file_digest, write_text

#: Bytes that a file in the Model Zoo's repository may have.
LARGEST = 25_000_000
LARGE_FILES = "large_files.yml"


def large_files(folder: Path) -> list[Path]:
    """Return the files of a bundle that are too large for the Model Zoo's repository, as paths within ``folder``."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > LARGEST)
    return [path.relative_to(folder) for path in files]


def write_large_files(folder: Path, url: str = "") -> list[dict[str, Any]]:
    """Write ``large_files.yml``, from which MONAI fetches what is not there, and return its entries.

    Args:
        folder: of the bundle.
        url: address of a folder that will hold the files under their paths in the bundle; empty while there is none.
            MONAI asks for no address where the files are in their place.
    """
    entries = [
        {
            "path": path.as_posix(),
            "url": f"{url.rstrip('/')}/{path.as_posix()}" if url else "",
            "hash_val": file_digest(folder / path),
            "hash_type": "sha256",
        }
        for path in large_files(folder)
    ]
    write_text(folder / LARGE_FILES, yaml.safe_dump({"large_files": entries}, sort_keys=False))
    return entries
