# SPDX-License-Identifier: Apache-2.0
"""What a rule of the Model Zoo says to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from custom_nets.config_linter import BundleFiles, read_bundle
from custom_nets.errors import InputError

Word = Literal["fails", "later", "not checked", "ok"]

#: Beyond this many problems a line only counts.
_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """Why a rule is not kept, or cannot be judged.

    Attributes:
        verdict: fails, later or not checked.
        told: what was found, and what to do.
    """

    verdict: Word
    told: str


def fails(found: str, remedy: str) -> Problem:
    """A rule is broken: what was found -> what to do."""
    return Problem("fails", f"{found} -> {remedy}")


def later(told: str) -> Problem:
    """Nothing is wrong yet; what remains to be done before a certain step."""
    return Problem("later", told)


def not_checked(told: str) -> Problem:
    """The rule cannot be judged here, and why."""
    return Problem("not checked", told)


@dataclass(frozen=True)
class Verdict:
    """One line of the check.

    Attributes:
        rule: what is asked, in a sentence.
        verdict: ok, fails, later (not yet, and no failure) or not checked.
        told: what was found and what to do; empty where all is well.
    """

    rule: str
    verdict: Word
    told: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<11}  {self.rule}{f': {self.told}' if self.told else ''}"


@dataclass(frozen=True)
class Subject:
    """The bundle that is checked.

    Attributes:
        folder: absolute.
        files: its metadata and configurations.
        in_repository: whether it lies in a repository that has the code once for all bundles. Such a bundle still
            lacks what the export adds.
    """

    folder: Path
    files: BundleFiles
    in_repository: bool

    def missing(self, found: str, remedy: str) -> Problem:
        """Return the problem of a thing that only an export must have."""
        return later(f"{found}; the export needs it") if self.in_repository else fails(found, remedy)


Rule = Callable[[Subject], Iterator[Problem]]


def read_subject(folder: Path) -> Subject:
    """Read a bundle's folder.

    Raises:
        InputError: it is no bundle.
    """
    folder = folder.resolve()
    if not (folder / "configs").is_dir():
        raise InputError(f"{folder}: has no folder configs; give the folder of a bundle, such as bundles/rsanet.")
    beside = folder.parent.name == "bundles" and (folder.parent.parent / "custom_nets").is_dir()
    in_repository = beside and not (folder / "custom_nets").is_dir()
    return Subject(folder, read_bundle(folder), in_repository)


def text_of(rule: Callable[..., object]) -> str:
    """Return the rule in words: the first line of its docstring."""
    return (rule.__doc__ or rule.__name__).strip().splitlines()[0].rstrip(".")


def judged(text: str, problems: Iterable[Problem]) -> Verdict:
    """Return the worst of ``problems`` as the verdict, with all that is as bad; ok where there is none.

    A file whose content makes a rule stumble breaks the rule.
    """
    found: list[Problem] = []
    try:
        found.extend(problems)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        found.append(fails(f"cannot be judged ({type(error).__name__}: {error})", "mend the files that it is about"))
    for word in get_args(Word):
        told = [problem.told for problem in found if problem.verdict == word]
        if told:
            more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            return Verdict(text, word, " ".join(("; ".join(told[:_SHOWN]) + more).split()))
    return Verdict(text, "ok")
