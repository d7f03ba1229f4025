# SPDX-License-Identifier: Apache-2.0
"""Rules about the code and the weights that a bundle brings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from custom_nets.checkpoints import first_line
from custom_nets.model_zoo.folder_rules import MODEL, files_of
from custom_nets.model_zoo.verdicts import Problem, Subject, fails, later, not_checked

CODE = "custom_nets"
_WRAPPER = "model"
_LENGTH = "120"
#: The Zoo's formatters and their settings. E203 is at odds with Black, whose own documentation says to switch it off.
_FORMATTERS = {
    "black": ("--check", "--quiet", "--line-length", _LENGTH, "--skip-magic-trailing-comma"),
    "isort": ("--check-only", "--quiet", "--profile", "black", "--line-length", _LENGTH),
    "flake8": ("--max-line-length", _LENGTH, "--extend-ignore", "E203", "--quiet"),
}


def code_is_complete(subject: Subject) -> Iterator[Problem]:
    """custom_nets is in the bundle, all files of it: MONAI Label keeps one bundle's for all that it serves."""
    folder = subject.folder / CODE
    if not folder.is_dir():
        if _names_the_code(subject):
            yield subject.missing("is beside the bundles", "copy the whole package, as tools.export_bundle does")
        return
    own, theirs = (_names(one) for one in (Path(__file__).parents[1], folder))
    for name in sorted(own - theirs):
        yield fails(f"{CODE}/{name} is missing", "export the bundle again")
    for name in sorted(theirs - own):
        yield fails(f"{CODE}/{name} is not part of the package", "take it out, or export the bundle again")


def weights_are_plain(subject: Subject) -> Iterator[Problem]:
    """models/model.pt loads without running code: tensors by name, bare or under `model`, without module. prefixes."""
    path = subject.folder / MODEL
    if not path.is_file():
        yield _no_model(subject)
        return
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        yield fails(f"torch.load(weights_only=True) says: {first_line(error)}", "save the network's state dict alone")
        return
    state = content.get(_WRAPPER, content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(one, torch.Tensor) for one in state.values()):
        found = f"holds {sorted(map(str, content))[:3]}" if isinstance(content, Mapping) else "holds no mapping"
        yield fails(found, "save the network's state dict alone: MONAI Label would serve random weights")
    elif prefixed := [name for name in state if name.startswith("module.")]:
        yield fails(f"{len(prefixed)} names begin with 'module.'", "save the state dict of the network without wrapper")


def black_agrees(subject: Subject) -> Iterator[Problem]:
    """Python files are formatted as Black does it, 120 columns."""
    yield from _formatted(subject, "black")


def isort_agrees(subject: Subject) -> Iterator[Problem]:
    """Imports are sorted as isort does it with Black's profile."""
    yield from _formatted(subject, "isort")


def flake8_agrees(subject: Subject) -> Iterator[Problem]:
    """Nothing is found by flake8 in the Python files, 120 columns."""
    yield from _formatted(subject, "flake8")


def pytype_agrees(subject: Subject) -> Iterator[Problem]:
    """Types are checked by pytype."""
    yield not_checked("its last Python is 3.12, and it is no longer developed; mypy checks every signature instead")


def _names_the_code(subject: Subject) -> bool:
    configs = sorted((subject.folder / "configs").glob("*.*"))
    return any(CODE in path.read_text(encoding="utf-8", errors="replace") for path in configs)


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files_of(folder)}


def _no_model(subject: Subject) -> Problem:
    return later("there is no model yet") if subject.in_repository else not_checked("there is no model")


def _formatted(subject: Subject, tool: str) -> Iterator[Problem]:
    inside = subject.folder / CODE
    folder = inside if inside.is_dir() else subject.folder.parent.parent / CODE
    if not (subject.in_repository or inside.is_dir()):
        folder = subject.folder
    if find_spec(tool) is None:
        yield not_checked(f"pip install {tool}")
    elif told := _said(tool, folder):
        yield fails(told, f"python -m {tool} {' '.join(_FORMATTERS[tool])} {folder.name}")


@cache
def _said(tool: str, folder: Path) -> str:
    """What a formatter finds, in a line; empty where that is nothing. All bundles of a repository share the answer."""
    command = [sys.executable, "-m", tool, *_FORMATTERS[tool], str(folder)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return ""
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    return f"{len(lines)} lines, the first: {lines[0]}" if lines else "files are formatted otherwise"


RULES = (code_is_complete, weights_are_plain, black_agrees, isort_agrees, flake8_agrees, pytype_agrees)
