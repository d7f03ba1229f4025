# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from custom_nets.errors import InputError
from tools._command import run


def tool(name: str, *, size: int = 3) -> int:
    """A tool.

    Args:
        name: a name.
        size: a size.
    """
    print(f"{name} {size}")
    if size > 5:
        raise InputError(f"size is {size}: give at most 5")
    return size


def test_arguments_reach_the_function_and_its_result_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run(tool, ["a", "--size", "4"])
    assert capsys.readouterr().out == "a 4\n"


def test_bad_input_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(tool, ["a", "--size", "6"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: size is 6: give at most 5\n"


@pytest.mark.parametrize("arguments", [["a", "--sise", "4"], ["a", "b", "c"], []])
def test_a_wrong_command_line_is_refused_before_the_tool_starts(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(tool, arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_options(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(tool, [flag])
    assert caught.value.code == 0
    shown = "".join(capsys.readouterr())
    assert "a size." in shown
    assert "error" not in shown.lower()
