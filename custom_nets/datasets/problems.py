# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set, collected so that the user sees all of it at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from custom_nets.errors import InputError

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one case.

    Attributes:
        case: the name of the case.
        file: the file concerned, or an empty string where it is the case as a whole.
        found: what was found, with the values.
        advice: what to do about it.
        severity: ``"error"`` when the case cannot be used, ``"warning"`` when it can.
    """

    case: str
    file: str
    found: str
    advice: str
    severity: Severity = "error"


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that keep a case from being used."""
    return [problem for problem in problems if problem.severity == "error"]


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells as left-aligned columns under a header, one line a row."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def report(problems: Sequence[Problem], root: str | Path | None = None) -> str:
    """All problems as one text table, errors first, after a line that counts them.

    Args:
        problems: any number of problems.
        root: the data set's folder; files in it are shown relative to it.

    Returns:
        The table, or ``"no problems"``.
    """
    if not problems:
        return "no problems"
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    rows = [(p.severity, p.case, _shown(p.file, root), f"{p.found} -> {p.advice}") for p in ordered]
    return f"{_count(problems)}\n{text_table(('severity', 'case', 'file', 'found -> what to do'), rows)}"


def require_sound(problems: Sequence[Problem], root: str | Path | None = None) -> None:
    """Raise when a problem is an error.

    Args:
        problems: any number of problems.
        root: the data set's folder, named in the message.

    Raises:
        InputError: with the table of all errors; warnings are left out.
    """
    errors = errors_of(problems)
    if errors:
        where = f"{root}: " if root is not None else ""
        raise InputError(f"{where}the data cannot be used: {report(errors, root)}")


def _count(problems: Sequence[Problem]) -> str:
    errors = len(errors_of(problems))
    return f"{_plural(errors, 'error')}, {_plural(len(problems) - errors, 'warning')}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(file: str, root: str | Path | None) -> str:
    if not file or root is None:
        return file or "-"
    relative = os.path.relpath(file, root)
    return file if relative.startswith("..") else relative
