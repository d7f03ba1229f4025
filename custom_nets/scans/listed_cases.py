# SPDX-License-Identifier: Apache-2.0
"""The cases of a data list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import SECTIONS, parse_datalist
from custom_nets.datasets.modalities import listed_modalities, order_of
from custom_nets.errors import InputError
from custom_nets.registry import Bundle
from custom_nets.scans.folders import cases_of, read_names
from custom_nets.scans.patterns import NamePatterns
from custom_nets.scans.scan_case import ScanCase, name_of_files


def cases_of_datalist(path: Path, entry: Bundle, section: str = "testing") -> list[ScanCase]:
    """The cases of one section, their files told apart by what the list says of its modalities.

    Args:
        path: of the list; its paths are relative to its folder.
        entry: the bundle.
        section: of the list.

    Raises:
        InputError: the list cannot be used, or the section is unknown or empty.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown: use one of {', '.join(SECTIONS)}.")
    header, sections = parse_datalist(path.parent, path.name, leakage=True)
    if not sections[section]:
        there = ", ".join(f"{name} {len(cases)}" for name, cases in sections.items() if cases) or "none"
        raise InputError(f"{path}: has no {section} cases (there are: {there}): choose a section with --section.")
    listed = listed_modalities(header)
    return [_case(case, entry, listed, path) for case in sections[section]]


def _case(case: dict[str, Any], entry: Bundle, listed: Sequence[str], path: Path) -> ScanCase:
    files = [Path(image) for image in case["image"]]
    label = Path(case["label"]) if "label" in case else None
    name = str(case.get("case") or name_of_files(files))
    places = _places(entry.modalities, listed)
    if len(files) == 1 and len(entry.modalities) > 1 and len(places) == len(entry.modalities):
        return ScanCase(name, dict.fromkeys(entry.modalities, files[0]), label, channels=places)
    if len(entry.modalities) == 1 and len(files) == 1:
        return ScanCase(name, {entry.modalities[0]: files[0]}, label)
    if len(places) == len(entry.modalities):
        images = {name: files[place] for name, place in places.items() if place < len(files)}
        wrong = len(files) != len(listed)
        problem = f"{path.name} lists {len(files)} files, but {len(listed)} modalities ({', '.join(listed)})"
        return ScanCase(name, images, label, f"{problem}: correct the list" if wrong else "")
    by_name = cases_of(read_names(files, path.parent, NamePatterns(entry)), NamePatterns(entry))
    if len(by_name) == 1 and not by_name[0].problem and len(files) == len(entry.modalities):
        return ScanCase(name, by_name[0].images, label)
    said = f"names the modalities {', '.join(listed)}" if listed else "does not name its modalities"
    wanted = ", ".join(f'"{number}": "{name}"' for number, name in enumerate(entry.modalities))
    problem = f'{path.name} {said}, and {" or ".join(entry.modalities)} cannot be told: add "modality": {{{wanted}}}'
    return ScanCase(name, {}, label, f"{problem} in the files' order")


def _places(wanted: Sequence[str], listed: Sequence[str]) -> dict[str, int]:
    """The place of each wanted modality among the listed ones; those that are not listed once are left out."""
    found = {name: [place for place, one in enumerate(listed) if order_of([name], [one])] for name in wanted}
    return {name: places[0] for name, places in found.items() if len(places) == 1}
