# SPDX-License-Identifier: Apache-2.0
"""From what the user points at to cases: a file, a folder, DICOM series, BIDS, a data list, or files by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.scans.bids import bids_cases, is_bids
from custom_nets.scans.by_hand import case_by_hand, cases_by_placeholders, has_placeholders
from custom_nets.scans.conversion import nifti_files
from custom_nets.scans.dicom_cases import cases_of_series
from custom_nets.scans.dicom_headers import is_dicom, read_series
from custom_nets.scans.file_names import CONVERTED, is_volume, stem_of
from custom_nets.scans.folders import cases_of, read_names
from custom_nets.scans.listed_cases import cases_of_datalist
from custom_nets.scans.patterns import LABEL, NamePatterns, by_modality
from custom_nets.scans.scan_case import ScanCase, listed, name_of_files, with_unique_names

__all__ = ["ScanCase", "find_cases", "nifti_files"]

DATALIST = "datalist.json"
_IGNORED = frozenset(("thumbs.db", "desktop.ini", "dicomdir"))


def find_cases(
    source: Path,
    name_of_bundle: str,
    patterns: Mapping[str, Sequence[str]] | None = None,
    files: Mapping[str, Path] | None = None,
    section: str = "testing",
    tell: Callable[[str], object] | None = None,
) -> list[ScanCase]:
    """Find what is to be segmented, without reading any voxel.

    Args:
        source: a NIfTI, NRRD or MetaImage file; a folder of such files, whose names differ in the modality only or
            that lie in a folder a case; a DICOM file, or a folder of DICOM series; a folder in BIDS; a data list, or a
            folder that holds a datalist.json.
        name_of_bundle: its metadata name the modalities, and the patterns of their files' names.
        patterns: modality, or "label" -> globs that replace the bundle's, see :mod:`custom_nets.scans.patterns`; or,
            for every modality, a path relative to ``source`` with the placeholder {case}, and {patient} where there is
            one, as ``python -m tools.make_datalist`` takes them.
        files: modality, or "label" -> file or DICOM folder of one case, which ``source`` then need not hold; paths
            that are not there are looked for in ``source``.
        section: of a data list.
        tell: called with one line about the volumes of a folder that are in no case, such as masks, if there are any.

    Returns:
        The cases sorted by name. What is wrong with one is its ``problem`` and does not keep the others from being
        found.

    Raises:
        InputError: nothing there, no scan in it, an unknown modality, a data list that cannot be used.
    """
    entry, source = bundle(name_of_bundle), Path(source)
    if files:
        for option, (given, *_) in by_modality(patterns or {}, entry.modalities).items():  # a misspelt path, mostly
            raise InputError(f"--{option} {given}: is no file, though others are: correct the path.")
        return with_unique_names([case_by_hand(source, entry, files)])
    if not source.exists():
        raise InputError(
            f"{source}: does not exist: give a scan, a folder of scans or of DICOM series, or a data list."
        )
    if not os.access(source, os.R_OK):
        raise InputError(f"{source}: cannot be read: check its permissions.")
    own = by_modality(patterns or {}, entry.modalities)
    if has_placeholders(own):
        cases = cases_by_placeholders(source, entry, own)
    elif source.is_file() and source.suffix.lower() == ".json":
        cases = cases_of_datalist(source, entry, section)
    elif source.is_dir() and (source / DATALIST).is_file() and not set(own) - {LABEL}:
        cases = cases_of_datalist(source / DATALIST, entry, section)
    else:
        cases = _by_names(source, NamePatterns(entry, own), tell)
    return with_unique_names(cases)


def _by_names(source: Path, patterns: NamePatterns, tell: Callable[[str], object] | None) -> list[ScanCase]:
    """The cases in one file or in a folder that no list describes."""
    if source.is_file():
        if is_volume(source):
            return [_single_file(source, patterns)]
        return _single_dicom(source, patterns)
    everything = list(_files(source))
    volumes = [path for path in everything if is_volume(path)]
    if is_bids(volumes):
        cases = bids_cases(volumes, source, patterns)
    else:
        cases = cases_of(read_names(volumes, source, patterns), patterns)
    try:
        series = read_series([path for path in everything if not is_volume(path) and is_dicom(path)])
        cases.extend(cases_of_series(series, patterns))
    except InputError as error:  # the reader of DICOM is not installed
        if not cases:
            raise
        cases.append(ScanCase("dicom", {}, None, str(error)))
    if not cases:
        raise InputError(_nothing(source, everything, volumes, patterns))
    used = {path for case in cases for path in (*case.images.values(), case.label)}
    left_out = [path for path in volumes if path not in used]
    if left_out and tell is not None:
        tell(_in_no_case(source, left_out, volumes, patterns))
    return cases


def _single_dicom(path: Path, patterns: NamePatterns) -> list[ScanCase]:
    """The case of the series to which a file belongs."""
    if not is_dicom(path):
        formats = ", ".join(CONVERTED)
        raise InputError(f"{path}: is no format that is read here: give NIfTI, {formats}, DICOM or a data list.")
    series = [one for one in read_series(filter(is_dicom, sorted(path.parent.iterdir()))) if path in one.files]
    if not series:
        raise InputError(f"{path}: is no DICOM file that can be read: copy or export it again.")
    return cases_of_series(series, patterns)


def _single_file(path: Path, patterns: NamePatterns) -> ScanCase:
    """A file that the user points at: of a bundle of one modality it is that one unless its name denies it."""
    read = read_names([path], path.parent, patterns)
    modality, wanted = patterns.modalities[0], ", ".join(patterns.modalities)
    if len(patterns.modalities) > 1:
        problem = (
            f"{path.name} is one file, but a case needs {wanted}: give their folder, or --{modality} FILE for each"
        )
        return ScanCase(name_of_files([path]), {}, None, problem)
    if cases := cases_of(read, patterns):
        return cases[0]
    kind = read.left_out.get(path, "a label or result")
    problem = f"{path.name} is {kind} by its name, not {modality}: if it is, say --{modality} '{path.name}'"
    return ScanCase(stem_of(path), {modality: path}, None, problem)


def _files(root: Path) -> Iterator[Path]:
    """Every file below ``root`` in order, through links but never in circles; hidden and system files are left out."""
    visited = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")) and real not in visited)
        if real not in visited:
            seen = (name for name in sorted(files) if not name.startswith(".") and name.lower() not in _IGNORED)
            yield from (Path(folder) / name for name in seen)
        visited.add(real)


def _in_no_case(source: Path, left_out: Sequence[Path], volumes: Sequence[Path], patterns: NamePatterns) -> str:
    """The message about volumes that are left out."""
    return (
        f"{source}: by their names {len(left_out)} of {len(volumes)} files are left out, {listed(left_out)}: if one is "
        f"wanted, name it with {patterns.hint(patterns.modalities[0])}."
    )


def _nothing(source: Path, everything: Sequence[Path], volumes: Sequence[Path], patterns: NamePatterns) -> str:
    """The message about a folder without a scan that is wanted."""
    wanted = ", ".join(patterns.modalities)
    if not everything:
        return f"{source}: is empty: give a folder that holds scans ({wanted})."
    if not volumes:
        there = listed(everything)
        return f"{source}: holds no NIfTI, NRRD, MetaImage or DICOM scan, only {there}: give a folder that does."
    return (
        f"{source}: no file is {' or '.join(patterns.modalities)} by its name, there is {listed(volumes)}: name them "
        f"with {patterns.hint(patterns.modalities[0])}."
    )
