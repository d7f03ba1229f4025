# SPDX-License-Identifier: Apache-2.0
"""What is typed for a tool, and the one line with which it refuses that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tools._command import run

Refusal = Callable[[Callable[..., Any], list[str]], str]


def typed(*places: object, **options: Any) -> list[str]:
    """Places and options as they are typed: lists lose their spaces, an option that is None is left out."""
    texts = {key: str(value).replace(" ", "") if isinstance(value, list) else value for key, value in options.items()}
    return [*map(str, places), *(f"--{key}={text}" for key, text in texts.items() if text is not None)]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a tool with words that it refuses, and return the one line with which it ends."""

    def line_of(tool: Callable[..., Any], words: list[str]) -> str:
        with pytest.raises(SystemExit) as caught:
            run(tool, words)
        assert caught.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    return line_of
