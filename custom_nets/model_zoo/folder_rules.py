# SPDX-License-Identifier: Apache-2.0
"""Rules about a bundle's folder: its name, its model, and what must not be in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from custom_nets.config_linter.text_rules import PERSONAL_PATH
from custom_nets.model_zoo.large_file_rules import read_large_files
from custom_nets.model_zoo.verdicts import Problem, Subject, fails, not_checked

MODEL = "models/model.pt"
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")
_TEXTS = (".json", ".md", ".txt", ".yml", ".yaml", ".conf")
#: MONAI Label takes a bundle with such a word in its folder's name for another kind of task.
_OTHER_TASKS = ("detection", "classification", "deepedit", "deepgrow")


def model_is_there(subject: Subject) -> Iterator[Problem]:
    """models/model.pt is there."""
    if (subject.folder / MODEL).is_file():
        return
    urls = {entry.get("path"): entry.get("url") for entry in read_large_files(subject.folder)}
    if urls.get(MODEL):
        yield not_checked(f"is at {urls[MODEL]}: python -m monai.bundle download_large_files --bundle_path DIR")
    else:
        yield subject.missing("is made by training", "export with --checkpoint FILE")


def name_is_lower_case(subject: Subject) -> Iterator[Problem]:
    """The folder's name has lower-case letters, digits and underscores only."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", subject.folder.name):
        yield fails(f"is '{subject.folder.name}'", "rename it, as in spine_mr_vertebrae")


def name_is_a_segmentation(subject: Subject) -> Iterator[Problem]:
    """The folder's name has no word that MONAI Label takes for another task (detection, classification, ...)."""
    for word in _OTHER_TASKS:
        if word in subject.folder.name:
            yield fails(f"'{subject.folder.name}' has '{word}'", "rename the folder")


def nothing_is_pickled(subject: Subject) -> Iterator[Problem]:
    """No file of pickled Python objects: loading one runs code."""
    for path in files_of(subject.folder):
        if path.suffix in _PICKLES:
            yield fails(f"{path.relative_to(subject.folder)}", "take it out, or store it as JSON or NIfTI")


def no_path_of_one_machine(subject: Subject) -> Iterator[Problem]:
    """Metadata, card, licences and lists name no path of one machine."""
    for path in files_of(subject.folder):
        name = path.relative_to(subject.folder)
        if path.suffix in _TEXTS and name.parts[0] not in ("custom_nets", "eval", "models"):
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if found := PERSONAL_PATH.search(_without_addresses(line)):
                    yield fails(f"{name}, line {number}, has '{found[0]}'", "write the path from the bundle's folder")


def files_of(folder: Path) -> list[Path]:
    """Return the files of a bundle, caches of Python left out."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _without_addresses(line: str) -> str:
    return re.sub(r"https?://\S+", "", line)


RULES = (model_is_there, name_is_lower_case, name_is_a_segmentation, nothing_is_pickled, no_path_of_one_machine)
