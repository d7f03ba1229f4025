# SPDX-License-Identifier: Apache-2.0
"""Rules about a bundle's folder: the files it needs, its card and how it logs."""

from __future__ import annotations

import ast
import configparser
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

from custom_nets.config_linter.allowed_calls import calls_table
from custom_nets.config_linter.reading import BundleFiles, Finding
from custom_nets.files import write_text
from custom_nets.marked_text import markdown_table, marked, with_marked
from custom_nets.options import WORKFLOWS, option_rows

_FILES = (
    "LICENSE",
    "docs/README.md",
    "docs/data_license.txt",
    "configs/logging.conf",
    "configs/metadata.json",
    *(f"configs/{name}.json" for name in (*WORKFLOWS, "multi_gpu_train")),
)
_STREAMS = ("sys.stdout", "sys.stderr")


def files_are_there(bundle: BundleFiles) -> Iterator[Finding]:
    """The folder has license, card, data license, metadata, logging and the configurations of every bundle."""
    for name in _FILES:
        if not (bundle.folder / name).is_file():
            yield bundle.finding(name, "file", "is missing", "add it")


def files_can_be_read(bundle: BundleFiles) -> Iterator[Finding]:
    """Every JSON file holds one object, and its name tells the workflow."""
    yield from bundle.unreadable


def card_is_current(bundle: BundleFiles) -> Iterator[Finding]:
    """The card prints what the configurations call and, where it has a place for them, their options, as they are."""
    card = bundle.folder / "docs" / "README.md"
    if not card.is_file() or bundle.unreadable:
        return
    text = card.read_text(encoding="utf-8")
    for name, content in _card_parts(bundle).items():
        if marked(text, name) is None and name == "calls":
            remedy = f"add the lines <!-- {name} --> and <!-- /{name} -->, then python -m tools.lint_configs --write"
            yield bundle.finding("docs/README.md", name, "has no place for this table", remedy)
        elif marked(text, name) not in (None, content):
            remedy = "python -m tools.lint_configs --write"
            yield bundle.finding("docs/README.md", name, "is not what the configurations have", remedy)


def logging_is_plain(bundle: BundleFiles) -> Iterator[Finding]:
    """logging.conf uses the standard library's handlers with literal arguments: MONAI refuses anything else."""
    path = bundle.folder / "configs" / "logging.conf"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8") if path.is_file() else "")
    except configparser.Error as error:
        yield bundle.finding("logging.conf", "file", f"cannot be read ({error})", "correct it")
        return
    for section in parser.sections():
        name = parser.get(section, "class", fallback="StreamHandler" if section.startswith("handler_") else "Formatter")
        name = name.removeprefix("logging.").removeprefix("handlers.")
        if not hasattr(logging, name) and not hasattr(logging.handlers, name):
            yield bundle.finding("logging.conf", f"{section}::class", f"is '{name}'", "use a class of logging")
        arguments = parser.get(section, "args", fallback="()")
        if not _literal(arguments):
            remedy = f"use literals or {' or '.join(_STREAMS)}"
            yield bundle.finding("logging.conf", f"{section}::args", f"is '{arguments}'", remedy)


def write_card(bundle: BundleFiles) -> Path | None:
    """Bring the tables of the bundle's card up to date; return its path if that changed it."""
    card = bundle.folder / "docs" / "README.md"
    if not card.is_file() or bundle.unreadable:
        return None
    old = new = card.read_text(encoding="utf-8")
    for name, content in _card_parts(bundle).items():
        new = with_marked(new, name, content)
    return write_text(card, new) if new != old else None


def _card_parts(bundle: BundleFiles) -> dict[str, str]:
    rows = option_rows(bundle.folder)
    options = [(f"`{key}`", f"`{default}`", workflows, meaning) for key, default, workflows, meaning in rows]
    return {
        "calls": calls_table(bundle),
        "options": markdown_table(("Option", "Default", "Workflows", "Meaning"), options),
    }


def _literal(arguments: str) -> bool:
    for stream in _STREAMS:
        arguments = arguments.replace(stream, "''")
    try:
        ast.literal_eval(arguments)
    except (ValueError, SyntaxError):
        return False
    return True


BUNDLE_RULES = (files_are_there, files_can_be_read, card_is_current, logging_is_plain)
