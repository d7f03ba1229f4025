# SPDX-License-Identifier: Apache-2.0
"""DICOM series to cases: which series of a study is which modality, by its description, type and contrast agent."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from custom_nets.scans.dicom_headers import Series
from custom_nets.scans.folders import missing
from custom_nets.scans.patterns import NamePatterns, Reading
from custom_nets.scans.scan_case import ScanCase, name_of_files, safe_name, says_only_contents

#: Types of images that are computed from others, or show where these lie.
_NO_SCAN = frozenset(
    ("LOCALIZER", "ADC", "TRACEW", "FA", "MIP", "MPR", "PROJECTION IMAGE", "SUBTRACTION", "SCREEN SAVE", "T1 MAP")
)
_WANTED = "MR"
_CONTRAST = "ce"  # the word that is read together with the description of a series with a contrast agent

_Found = Mapping[str, Sequence[Series]]


def cases_of_series(series: Iterable[Series], patterns: NamePatterns) -> list[ScanCase]:
    """One case a study, or of a bundle of a single modality one a series.

    Args:
        series: of any number of studies.
        patterns: of the bundle and the user.

    Returns:
        The cases, with a problem where a study lacks a modality or has two series of one.
    """
    studies: dict[str, list[Series]] = defaultdict(list)
    in_folder: dict[Path, set[str]] = defaultdict(set)
    for one in series:
        studies[one.study].append(one)
        for file in one.files:
            in_folder[file.parent].add(one.uid)
    shared = {folder for folder, several in in_folder.items() if len(several) > 1}
    places = [_common_folder(study) for study in studies.values()]
    cases: list[ScanCase] = []
    for place, (uid, study) in zip(places, studies.items(), strict=True):
        name = name_of_files([place / "series"]) if says_only_contents(place.name) else place.name
        if places.count(place) > 1:
            name = f"{name}_{hashlib.sha256(uid.encode()).hexdigest()[:8]}"
        cases.extend(_study(study, name, place, patterns, shared))
    return cases


def _study(
    study: Sequence[Series], name: str, place: Path, patterns: NamePatterns, shared: set[Path]
) -> Iterator[ScanCase]:
    found: dict[str, list[Series]] = defaultdict(list)
    for one in study:
        if modality := _modality(one, patterns):
            found[modality].append(one)
    if len(patterns.modalities) > 1:
        yield _case(name, found, study, place, patterns, shared)
        return
    only = patterns.modalities[0]
    chosen = _original(found.get(only, ()))
    if not chosen:
        yield _case(name, found, study, place, patterns, shared)
    for one in chosen:
        own = f"{name}_{safe_name(one.title)}" if len(chosen) > 1 else name
        yield ScanCase(own, {only: _path(one, shared)}, None, _scattered([one]))


def _case(
    name: str, found: _Found, study: Sequence[Series], place: Path, patterns: NamePatterns, shared: set[Path]
) -> ScanCase:
    chosen = {modality: _original(found[modality]) for modality in patterns.modalities if modality in found}
    images = {modality: _path(several[0], shared) for modality, several in chosen.items()}
    problems = [
        f"{len(several)} series for {modality}, {_titles(several)}: name one with {patterns.hint(modality, False)}"
        for modality, several in chosen.items()
        if len(several) > 1
    ]
    problems += filter(None, [_scattered([several[0] for several in chosen.values()])])
    absent = [modality for modality in patterns.modalities if modality not in chosen]
    if absent:
        problems.append(missing(absent, f"series {_titles(study)}", place, patterns, files=False))
    return ScanCase(name, images, None, "; ".join(problems))


def _modality(series: Series, patterns: NamePatterns) -> str:
    """Which modality a series is; an empty string of one that is not wanted or cannot be told."""
    if _left_out(series):
        return ""
    said = Reading()
    for text in (series.description, series.protocol, series.files[0].parent.name):
        said = patterns.read(f"{text} {_CONTRAST}" if series.contrast else text) if text else said
        if said.named:
            break
    return "" if said.rivals or said.also else said.modality


def _left_out(series: Series) -> str:
    """Why a series is no scan whatever its description says; an empty string of one that may be one."""
    if series.modality not in ("", _WANTED):
        return f" ({series.modality}, not {_WANTED})"
    if computed := series.image_type & _NO_SCAN:
        return f" ({', '.join(sorted(computed)).lower()})"
    return "" if series.slices else " (no image with a place in the patient)"


def _original(several: Sequence[Series]) -> list[Series]:
    """Of several series of one modality those that were not computed from others, if there are such."""
    original = [one for one in several if "DERIVED" not in one.image_type]
    return original if original else list(several)


def _path(series: Series, shared: set[Path]) -> Path:
    """The folder of the series, or its first file where others lie beside it or it is one file."""
    first = series.files[0]
    return first if first.parent in shared or len(series.files) == 1 else first.parent


def _scattered(several: Sequence[Series]) -> str:
    """The message about series whose files lie in several folders."""
    apart = [one for one in several if len({file.parent for file in one.files}) > 1]
    return f"series {_titles(apart)} lies in several folders: bring its files together in one" if apart else ""


def _titles(several: Sequence[Series]) -> str:
    return ", ".join(f"{one.title}{_left_out(one)}" for one in several)


def _common_folder(study: Sequence[Series]) -> Path:
    folders = [str(file.absolute().parent) for one in study for file in one.files]
    return Path(os.path.commonpath(folders))
