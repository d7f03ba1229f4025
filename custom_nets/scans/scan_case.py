# SPDX-License-Identifier: Apache-2.0
"""A case that is to be segmented, and its name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from custom_nets.case_names import case_name
from custom_nets.scans.file_names import stem_of, words_of

_UNSAFE = re.compile(r"[^\w.+()-]+")  # letters of any script are safe
_MOST_BYTES = 120  # of a name, so that what is added to it stays below the 255 of file systems
_LISTED_FILES = 6
#: Words that tell what is in a file and not whose it is.
_CONTENTS = frozenset(
    (
        *("image", "img", "scan", "volume", "vol", "mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "pd", "anat"),
        *("tra", "sag", "cor", "ax", "axial", "sagittal", "coronal", "transversal", "3d", "2d", "iso", "norm", "fs"),
        *("tse", "fse", "se", "gre", "ir", "spin", "echo", "mprage", "space", "vibe", "dixon", "stir"),
        *("head", "brain", "pelvis", "spine", "lspine", "series", "dicom", "dcm"),
    )
)


@dataclass(frozen=True)
class ScanCase:
    """The scans of one case.

    Attributes:
        name: unique in a run and safe as a file name; it may hold letters that are not ASCII.
        images: modality of the bundle, in the bundle's order -> NIfTI, NRRD or MetaImage file, folder of a DICOM
            series, or one DICOM file of the series where several lie in one folder.
        label: reference segmentation, where the input has one.
        problem: why the case cannot be segmented; an empty string while nothing is known against it.
        channels: modality -> its place in the 4D file that holds them all; empty where each has its own.
    """

    name: str
    images: Mapping[str, Path]
    label: Path | None = None
    problem: str = ""
    channels: Mapping[str, int] = field(default_factory=dict)


def name_of_files(paths: Sequence[Path]) -> str:
    """What the names of a case's files have in common, or their folder's name where they say only what is in them."""
    stems = [path.with_name(stem_of(path) or path.name) for path in paths]
    if len(stems) == 1 and says_only_contents(stems[0].name):
        return _folder_name(stems[0].absolute().parent)
    return case_name(stems)


def says_only_contents(name: str) -> bool:
    """Whether a name, such as t2_tra, may be that of any patient's scan."""
    return all(word in _CONTENTS for word in words_of(name).strip("_").split("_"))


def with_unique_names(cases: Iterable[ScanCase]) -> list[ScanCase]:
    """The cases sorted by name, under names that are safe and differ even where upper and lower case do not count.

    All cases of an equal name are told apart, whatever their order: by the file and the folder of the first image, at
    last by a check sum of its path. A further case of that name therefore changes the names of those that had it.
    """
    safe = [replace(case, name=safe_name(case.name)) for case in cases]
    for tell_apart in (_with_stem, _with_folder, _with_digest):
        counts: dict[str, int] = {}
        for case in safe:
            counts[case.name.casefold()] = counts.get(case.name.casefold(), 0) + 1
        safe = [tell_apart(case) if counts[case.name.casefold()] > 1 else case for case in safe]
    return sorted(safe, key=lambda case: case.name)


def safe_name(name: str) -> str:
    """A name for files on any file system: spaces and signs become ``_``, overlong names end in a check sum."""
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip("._- ") or "case"
    if len(text.encode()) <= _MOST_BYTES:
        return text
    return text.encode()[: _MOST_BYTES - 9].decode(errors="ignore") + "_" + _digest(name)


def listed(paths: Sequence[Path]) -> str:
    """File names for a message, the first few of many."""
    names = sorted({path.name for path in paths})
    shown = ", ".join(names[:_LISTED_FILES])
    return shown if len(names) <= _LISTED_FILES else f"{shown} and {len(names) - _LISTED_FILES} more"


def _folder_name(folder: Path) -> str:
    """The nearest folder that is not called after what is in it, as anat and t2 are."""
    nearest = next((one for one in (folder, *folder.parents) if one.name and not says_only_contents(one.name)), folder)
    return nearest.name or folder.name


def _first_image(case: ScanCase) -> Path:
    return next(iter(case.images.values()), Path(case.name)).absolute()


def _with_stem(case: ScanCase) -> ScanCase:
    stem = safe_name(stem_of(_first_image(case)))
    return case if stem == case.name or len(case.images) != 1 else replace(case, name=safe_name(f"{case.name}_{stem}"))


def _with_folder(case: ScanCase) -> ScanCase:
    folder = safe_name(_first_image(case).parent.name)
    return case if folder == case.name else replace(case, name=safe_name(f"{folder}_{case.name}"))


def _with_digest(case: ScanCase) -> ScanCase:
    return replace(case, name=f"{case.name}_{_digest(str(_first_image(case)))}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
