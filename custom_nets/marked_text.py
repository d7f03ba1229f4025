# SPDX-License-Identifier: Apache-2.0
"""Parts of a Markdown file that are drawn from the code, between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def marked(text: str, name: str) -> str | None:
    """Return what stands between the markers ``name`` in ``text``; None where there is no such pair."""
    found = _between(name).search(text)
    return found["content"].strip("\n") if found else None


def with_marked(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` between the markers ``name``; unchanged where there is no such pair."""
    return _between(name).sub(lambda found: f"{found['opening']}\n{content}\n{found['closing']}", text, count=1)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<opening><!-- {name} -->)(?P<content>.*?)(?P<closing><!-- /{name} -->)", re.DOTALL)
