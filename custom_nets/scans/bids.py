# SPDX-License-Identifier: Apache-2.0
"""Folders in the Brain Imaging Data Structure (BIDS): sub-01/[ses-1/]anat/sub-01_[ses-1_]..._T1w.nii.gz."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from custom_nets.scans.file_names import is_nifti, stem_of
from custom_nets.scans.folders import FilesRead, cases_of, read_scan
from custom_nets.scans.patterns import NamePatterns
from custom_nets.scans.scan_case import ScanCase

# sub- and ses- tell the case, run-, acq- and the others which of several images of it.
_NAME = re.compile(r"(?P<case>sub-[^_]+(?:_ses-[^_]+)?)_(?P<rest>.+)")
_LABEL = re.compile(r"(?:dseg|mask|roi|seg)")
_BRAIN = re.compile(r"brain|skull|head", re.IGNORECASE)
_DERIVATIVES = "derivatives"


def is_bids(volumes: Sequence[Path]) -> bool:
    """Whether there is a file of the structure's form."""
    return any(_parts(path) for path in volumes)


def bids_cases(volumes: Sequence[Path], root: Path, patterns: NamePatterns) -> list[ScanCase]:
    """One case a subject, or a session; label maps of derivatives become its reference.

    Args:
        volumes: all volumes below ``root``; those outside ``anat`` folders are left out.
        root: the folder that the user named.
        patterns: of the bundle and the user, looked for in what follows subject and session in a file's name.
    """
    read, labels = FilesRead(), defaultdict[str, list[Path]](list)
    for path in volumes:
        parts = _parts(path)
        if not parts:
            continue
        case, rest = parts
        if _is_label(rest):
            labels[case].append(path)
        elif _DERIVATIVES not in path.relative_to(root).parts:
            read_scan(read, path, patterns.read(rest), [(path.parent, case)])
    cases = cases_of(read, patterns)
    named = [replace(case, name=found[0]) if (found := _parts(_first(case))) else case for case in cases]
    return [replace(case, label=_reference(labels.get(case.name, []))) for case in named]


def _parts(path: Path) -> tuple[str, str] | None:
    """Case and rest of a file's name; None of a file that is not of the structure."""
    match = _NAME.fullmatch(stem_of(path)) if is_nifti(path) and path.parent.name == "anat" else None
    return (match["case"], match["rest"]) if match else None


def _is_label(rest: str) -> bool:
    return bool(_LABEL.fullmatch(rest.rsplit("_", 1)[-1]))


def _reference(labels: Sequence[Path]) -> Path | None:
    """The only label map that is not one of the whole head; with several it cannot be told."""
    inside = [path for path in labels if not _BRAIN.search(stem_of(path).partition("_")[2])]
    return inside[0] if len(inside) == 1 else None


def _first(case: ScanCase) -> Path:
    return next(iter(case.images.values()))
