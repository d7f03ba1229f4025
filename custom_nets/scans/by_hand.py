# SPDX-License-Identifier: Apache-2.0
"""Cases that the user names: each modality's file, or paths with the placeholders {case} and {patient}."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from custom_nets.datasets.layouts import find_cases as find_by_layout
from custom_nets.datasets.layouts import general_layout
from custom_nets.errors import InputError
from custom_nets.registry import Bundle
from custom_nets.scans.patterns import LABEL, by_modality
from custom_nets.scans.scan_case import ScanCase, name_of_files

_PLACEHOLDER = re.compile(r"\{\w*\}")


def case_by_hand(source: Path, entry: Bundle, files: Mapping[str, Path]) -> ScanCase:
    """One case of the files that are given for its modalities.

    Args:
        source: where a path is looked for that is not there from the working directory.
        entry: the bundle.
        files: modality, or "label" -> file, or folder of a DICOM series.

    Raises:
        InputError: an unknown modality, or a path that does not exist.
    """
    found = {}
    for modality, (path,) in by_modality({name: [str(path)] for name, path in files.items()}, entry.modalities).items():
        places = [Path(path), (source if source.is_dir() else source.parent) / path]
        there = next((place for place in places if place.exists()), None)
        if there is None:
            raise InputError(f"--{modality} {path}: does not exist: correct the path.")
        found[modality] = there
    images = {name: found[name] for name in entry.modalities if name in found}
    absent = [name for name in entry.modalities if name not in found]
    problem = f"{', '.join(absent)} not given: add --{absent[0]} FILE" if absent else ""
    name = name_of_files(list(images.values())) if images else source.name
    return ScanCase(name, images, found.get(LABEL), problem)


def has_placeholders(given: Mapping[str, Sequence[str]]) -> bool:
    """Whether the patterns are paths with placeholders, as ``tools.make_datalist`` takes them."""
    return any(_PLACEHOLDER.search(pattern) for patterns in given.values() for pattern in patterns)


def cases_by_placeholders(source: Path, entry: Bundle, given: Mapping[str, Sequence[str]]) -> list[ScanCase]:
    """The cases whose files lie where the patterns say.

    Raises:
        InputError: a modality without a pattern, several for one, placeholders that differ, or no file that matches.
    """
    if not source.is_dir():
        raise InputError(f"{source}: is a file: patterns with {{case}} are for a folder.")
    for role in (*entry.modalities, LABEL):
        number = len(given.get(role, ()))
        if number > 1 or (number == 0 and role != LABEL):
            raise InputError(f"--{role}: {number} patterns, but with {{case}} every modality needs exactly one.")
    single = {role: patterns[0] for role, patterns in given.items()}
    images = {role: pattern for role, pattern in single.items() if role != LABEL}
    found = find_by_layout(source, general_layout(images, labelled=False), entry.modalities, labelled=False)
    labels = _labels(source, entry, single) if LABEL in single else {}
    cases = [
        ScanCase(case.name, dict(zip(entry.modalities, case.images, strict=True)), labels.get(case.name))
        for case in found.cases
    ]
    for problem in found.problems:
        advice = "add it, or correct the patterns" if not problem.file else problem.advice
        cases.append(ScanCase(problem.case, {}, None, f"{problem.found}: {advice}"))
    if not cases:
        patterns = ", ".join(f"--{role} {pattern!r}" for role, pattern in single.items())
        raise InputError(f"{source}: no file matches {patterns}: the paths are relative to that folder.")
    return _one_problem_a_case(cases)


def _labels(source: Path, entry: Bundle, single: Mapping[str, str]) -> dict[str, Path]:
    """The reference of each case that has one."""
    found = find_by_layout(source, general_layout(single), entry.modalities)
    return {case.name: case.labels[0] for case in found.cases if case.labels}


def _one_problem_a_case(cases: Sequence[ScanCase]) -> list[ScanCase]:
    first: dict[str, ScanCase] = {}
    for case in cases:
        there = first.get(case.name)
        first[case.name] = replace(there, problem=f"{there.problem}; {case.problem}") if there else case
    return list(first.values())
