# SPDX-License-Identifier: Apache-2.0
"""Volumes in folders to cases: those whose names differ in the modality only, or that are alone in a folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from custom_nets.scans.file_names import stem_of
from custom_nets.scans.patterns import ANY, NamePatterns, Reading
from custom_nets.scans.scan_case import ScanCase, listed, name_of_files

_SHOWN_PATTERNS = 4
Key = tuple[Path, str]  # a folder, and what is left of a file's name without the modality


@dataclass(frozen=True)
class _Scan:
    path: Path
    modality: str
    keys: tuple[Key, ...]
    rivals: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass
class FilesRead:
    """What the names of the files said.

    Attributes:
        scans: files of a wanted modality.
        labels: label maps with what is left of their names, those only that the user's pattern names.
        left_out: the other files, with what they are.
    """

    scans: list[_Scan] = field(default_factory=list)
    labels: list[tuple[Path, tuple[str, ...]]] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def read_names(files: Sequence[Path], root: Path, patterns: NamePatterns) -> FilesRead:
    """Read the names of volumes; where a file's name says nothing, its folder's name below ``root`` may.

    Args:
        files: NIfTI, NRRD and MetaImage files.
        root: the folder that the user named.
        patterns: of the bundle and the user.
    """
    result = FilesRead()
    for path in files:
        stem = stem_of(path)
        if rests := patterns.label_keys(stem):
            result.labels.append((path, rests))
            continue
        said, place = patterns.read(stem), path.parent
        if not (said.modality or said.label or said.other) and place != root:
            above = patterns.read(place.name)
            if above.modality:
                read_scan(result, path, above, [(place.parent, stem)])
                continue
        read_scan(result, path, said, [(place, key) for key in said.keys])
    return result


def read_scan(result: FilesRead, path: Path, said: Reading, keys: Sequence[Key]) -> None:
    """Put a file where it belongs by what was read about it."""
    if said.modality:
        result.scans.append(_Scan(path, said.modality, tuple(keys), said.rivals, said.also))
    else:
        result.left_out[path] = (
            "a label or result" if said.label else "another sequence" if said.other else "of no known sequence"
        )


class References:
    """The label maps that the user's pattern names, for many cases.

    Args:
        read: what the names of the files said.
    """

    def __init__(self, read: FilesRead) -> None:
        self._by_key: dict[Key, list[Path]] = defaultdict(list)
        self._in_folder: dict[Path, list[Path]] = defaultdict(list)
        for path, rests in read.labels:
            self._in_folder[path.parent].append(path)
            for rest in rests:
                self._by_key[path.parent, rest].append(path)
        self._scans = Counter(scan.path.parent for scan in read.scans)

    def of(self, group: Sequence[_Scan]) -> Path | None:
        """The one whose name has the same rest as a scan's, or begins it, or that is alone in the case's folder."""
        if not self._in_folder:
            return None
        keys = list(dict.fromkeys(key for scan in group for key in scan.keys))
        begins = [(place, rest[:end]) for place, rest in keys for end, sign in enumerate(rest) if sign == "_"]
        folder = group[0].path.parent
        others = self._scans[folder] - sum(scan.path.parent == folder for scan in group)
        alone = [] if others else self._in_folder[folder]
        found = self._of(keys) or self._of(begins) or alone
        return found[0] if len(found) == 1 else None

    def _of(self, keys: Sequence[Key]) -> list[Path]:
        return list(dict.fromkeys(path for key in keys if key in self._by_key for path in self._by_key[key]))


def cases_of(read: FilesRead, patterns: NamePatterns) -> list[ScanCase]:
    """Bring the scans together to cases.

    Returns:
        Complete cases, and with its problem each group of files that lacks a modality or has one twice.
    """
    complete, rest = _complete(read.scans, patterns.modalities)
    for folder_scans in _by_folder(rest):
        alone = _alone_in_folder(folder_scans, patterns.modalities)
        if alone:
            complete.append(alone)
        else:
            complete.extend(_groups(folder_scans))
    references = References(read)
    return [_case(group, read, references, patterns) for group in complete]


def _complete(scans: Sequence[_Scan], modalities: Sequence[str]) -> tuple[list[list[_Scan]], list[_Scan]]:
    """Groups of one file a modality under one key, likely keys first, and the scans that are in none."""
    groups: list[list[_Scan]] = []
    used: set[Path] = set()
    for rank in range(max((len(scan.keys) for scan in scans), default=0)):
        by_key: dict[Key, list[_Scan]] = defaultdict(list)
        for scan in scans:
            for key in scan.keys[: rank + 1]:
                by_key[key].append(scan)
        for group in by_key.values():
            found = sorted(scan.modality for scan in group)
            if found == sorted(modalities) and not any(scan.rivals or scan.path in used for scan in group):
                groups.append(group)
                used.update(scan.path for scan in group)
    return groups, [scan for scan in scans if scan.path not in used]


def _by_folder(scans: Sequence[_Scan]) -> Iterator[list[_Scan]]:
    folders: dict[Path, list[_Scan]] = defaultdict(list)
    for scan in scans:
        folders[scan.keys[0][0]].append(scan)
    yield from folders.values()


def _alone_in_folder(scans: Sequence[_Scan], modalities: Sequence[str]) -> list[_Scan]:
    """The scans if there is exactly one of each modality, whatever else their names are."""
    certain = not any(scan.rivals or scan.also for scan in scans)
    return list(scans) if certain and sorted(scan.modality for scan in scans) == sorted(modalities) else []


def _groups(scans: Sequence[_Scan]) -> list[list[_Scan]]:
    """Incomplete groups: by what is left of the names, or the whole folder where that brings nothing together."""
    by_key: dict[Key, list[_Scan]] = defaultdict(list)
    for scan in scans:
        by_key[scan.keys[0]].append(scan)
    together = any(len({scan.modality for scan in group}) > 1 for group in by_key.values())
    different = len({scan.modality for scan in scans}) > 1
    return [list(scans)] if different and not together else list(by_key.values())


def _case(group: Sequence[_Scan], read: FilesRead, references: References, patterns: NamePatterns) -> ScanCase:
    first = {scan.modality: scan.path for scan in reversed(group)}
    images = {modality: first[modality] for modality in patterns.modalities if modality in first}
    name = name_of_files(list(images.values()))
    return ScanCase(name, images, references.of(group), "; ".join(_problems(group, read, patterns)))


def _problems(group: Sequence[_Scan], read: FilesRead, patterns: NamePatterns) -> Iterator[str]:
    folder = group[0].path.parent
    for scan in group:
        if scan.rivals:
            both = " and ".join((scan.modality, *scan.rivals))
            yield f"{scan.path.name} matches {both}: say which it is with {patterns.hint(scan.rivals[0])}"
            return
    for modality in patterns.modalities:
        files = [scan.path for scan in group if scan.modality == modality]
        if len(files) > 1:
            yield (
                f"{len(files)} files for {modality}, {listed(files)}: leave one of them, or name the right one with "
                f"{patterns.hint(modality)}"
            )
    absent = [name for name in patterns.modalities if all(scan.modality != name for scan in group)]
    if absent:
        there = [scan.path for scan in group] + [path for path in read.left_out if path.parent == folder]
        yield missing(absent, listed(there), folder, patterns)


def missing(absent: Sequence[str], there: str, folder: Path, patterns: NamePatterns, files: bool = True) -> str:
    """The message about modalities of which there is no file, or no DICOM series."""
    asked = [pattern for pattern in patterns.wanted[absent[0]] if pattern != ANY]
    shown = ", ".join(asked[:_SHOWN_PATTERNS]) + (" ..." if len(asked) > _SHOWN_PATTERNS else "")
    return (
        f"{', '.join(absent)} missing: in {folder} there is {there}, of which none is named {shown} for {absent[0]}: "
        f"add it, or name it with {patterns.hint(absent[0], files)}"
    )
