# SPDX-License-Identifier: Apache-2.0
"""Rules about files that are too large for the Model Zoo's repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from custom_nets.files import file_digest
from custom_nets.model_zoo.large_files import LARGE_FILES, LARGEST, large_files
from custom_nets.model_zoo.verdicts import Problem, Subject, fails, later, not_checked

#: What MONAI can check a download with.
_HASHES = ("md5", "sha1", "sha256", "sha512")
_NAMES = (LARGE_FILES, "large_files.yaml", "large_files.json")


def large_files_are_listed(subject: Subject) -> Iterator[Problem]:
    """Files over 25 MB are listed in large_files.yml."""
    listed = {str(entry.get("path")) for entry in read_large_files(subject.folder)}
    for path in large_files(subject.folder):
        if path.as_posix() not in listed:
            size = (subject.folder / path).stat().st_size / 1e6
            found = f"{path} ({size:.0f} MB, {LARGEST / 1e6:.0f} are allowed) is not in {LARGE_FILES}"
            yield subject.missing(found, "list it with its SHA-256, as tools.export_bundle does")


def listed_files_stay_inside(subject: Subject) -> Iterator[Problem]:
    """Paths in large_files.yml do not leave the bundle."""
    for entry in read_large_files(subject.folder):
        path = PurePosixPath(str(entry.get("path", "")))
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in str(path):
            yield fails(f"'{entry.get('path')}'", "give a path from the bundle's folder")


def listed_hashes_are_right(subject: Subject) -> Iterator[Problem]:
    """Entries of large_files.yml have the checksum of their file."""
    for entry in read_large_files(subject.folder):
        name, kind, value = (str(entry.get(key) or "") for key in ("path", "hash_type", "hash_val"))
        path = subject.folder / name
        if kind not in _HASHES or not value:
            yield fails(f"{name} has hash_type '{kind}' and hash_val '{value}'", f"give one of {', '.join(_HASHES)}")
        elif not path.is_file():
            yield not_checked(f"{name} is not here")
        elif kind != "sha256":
            yield not_checked(f"{name}: only sha256 is compared, not {kind}")
        elif value != (right := file_digest(path)):
            yield fails(f"{name} has the SHA-256 {right}, listed is {value}", "list what is there")


def listed_files_have_an_address(subject: Subject) -> Iterator[Problem]:
    """Entries of large_files.yml have an address to download from."""
    for entry in read_large_files(subject.folder):
        if not entry.get("url"):
            yield later(f"{entry.get('path')}: before a pull request to the Zoo give export --url")


def read_large_files(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of ``large_files.yml`` (or .yaml, .json); none where there is no such file.

    Raises:
        ValueError: it is no list of entries.
    """
    path = next((path for path in map(folder.joinpath, _NAMES) if path.is_file()), None)
    if path is None:
        return []
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is no YAML file: {error}") from error
    entries = content.get("large_files") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path.name} has no list 'large_files' of entries with path, url, hash_val and hash_type")
    return entries


RULES = (large_files_are_listed, listed_files_stay_inside, listed_hashes_are_right, listed_files_have_an_address)
