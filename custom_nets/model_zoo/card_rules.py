# SPDX-License-Identifier: Apache-2.0
"""Rules about a bundle's card, docs/README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from custom_nets.model_zoo.verdicts import Problem, Subject, fails

_CARD = "docs/README.md"
#: Sections of the Model Zoo's template, a word or words that a heading has.
_SECTIONS = (
    *("authors", "tags", "description", "data", "performance", "usage", "system configuration", "limitations"),
    *("citation", "references"),
)
_FORMS = ("TorchScript", "ONNX", "TensorRT")
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def card_has_its_sections(subject: Subject) -> Iterator[Problem]:
    """The card has the sections of the Zoo's template, from a title to the references."""
    headings = _HEADING.findall(_card(subject))
    if not any(level == "#" for level, _ in headings):
        yield fails("no title", "begin with '# Title'")
    texts = [text.lower() for level, text in headings if level != "#"]
    for section in _SECTIONS:
        if not any(section in text for text in texts):
            yield fails(f"no section '{section}'", f"add '## {section.capitalize()}'")


def card_tells_the_forms(subject: Subject) -> Iterator[Problem]:
    """The card says whether TorchScript, ONNX and TensorRT work."""
    text = _card(subject)
    for form in _FORMS:
        if form not in text:
            yield fails(f"nothing about {form}", "write a line, also where it does not work or was not tried")


def links_of_the_card_lead_somewhere(subject: Subject) -> Iterator[Problem]:
    """Pictures and files that the card links to are there, and in the bundle."""
    card = subject.folder / _CARD
    for link in _LINK.findall(_card(subject)):
        if re.match(r"[a-z]+:|#", link):
            continue
        target = (card.parent / link.partition("#")[0]).resolve()
        if not target.exists():
            yield fails(f"{link} is not there", "correct the link, or add the file")
        elif not target.is_relative_to(subject.folder):
            yield subject.missing(f"{link} is outside the bundle", "copy the file into docs")


def _card(subject: Subject) -> str:
    """Text of the card without its examples, in which # begins a comment; empty where there is none."""
    path: Path = subject.folder / _CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


RULES = (card_has_its_sections, card_tells_the_forms, links_of_the_card_lead_somewhere)
