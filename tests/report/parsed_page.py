# SPDX-License-Identifier: Apache-2.0
"""A page as tests look at it: its elements, texts and attributes, read by Python's own parser."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_EMPTY = {"meta", "img", "input", "br", "circle", "line", "link"}


class ParsedPage(HTMLParser):
    """Attributes:
    elements: tag and attributes of each.
    texts: what stands between tags, without white space around it; scripts and styles left out.
    scripts: texts of scripts by id.
    unclosed: tags that are open at the end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self.unclosed: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.unclosed and self.unclosed[-1] in ("script", "style"):
            identifier = self.elements[-1][1].get("id")
            if identifier:
                self.scripts[identifier] = self.scripts.get(identifier, "") + data
        elif data.strip():
            self.texts.append(data.strip())

    def of(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a tag that have these."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [own for kind, own in self.elements if kind == tag and wanted.items() <= own.items()]
