# SPDX-License-Identifier: Apache-2.0
"""Folders and archives of exports."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.model_zoo.large_files import LARGE_FILES
from custom_nets.model_zoo.parity import REPORT

_PACKAGE = Path(__file__).parents[1]
#: What a bundle of the repository has not.
_OF_AN_EXPORT = ("configs/metadata.json", "custom_nets", REPORT, LARGE_FILES)
#: What runs in a bundle's folder leave there.
_MADE_LATER = ("models/last.pt", "models/model.previous.pt", "eval")
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Files that hardly get smaller.
_DENSE = {".pt", ".ts", ".onnx", ".png", ".data"}


def copy_package(folder: Path) -> None:
    """Copy the whole of ``custom_nets`` into a bundle, where its configurations find it by the same names.

    The whole, not a part: MONAI Label keeps the first ``custom_nets`` that it imports for all bundles that it serves.
    """
    shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


def write_archive(folder: Path, path: Path) -> Path:
    """Write a zip archive of ``folder``, with its name at the top; the same files give the same bytes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo((folder.name / file.relative_to(folder)).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if file.suffix in _DENSE else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    return path


def require_replaceable(folder: Path, name: str) -> None:
    """Refuse to replace anything but an export of the bundle as it was written.

    Raises:
        InputError: naming the folder and what is in it.
    """
    if not folder.exists():
        return
    if not all((folder / part).exists() for part in _OF_AN_EXPORT):
        raise InputError(f"{folder}: is in the way and no export of {name}; choose another folder, or remove it.")
    for made in _MADE_LATER:
        if (folder / made).exists():
            raise InputError(
                f"{folder}: has been trained or evaluated in, {made} is there; choose another folder, or remove it."
            )


def replace_folder(new: Path, place: Path) -> None:
    """Move the folder ``new`` to ``place``; what is there vanishes when the new one has arrived."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
