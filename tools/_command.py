# SPDX-License-Identifier: Apache-2.0
"""How every tool starts: arguments to a function, bad input to one line and a non-zero exit."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import fire

from custom_nets.errors import InputError

BAD_INPUT = 2  # the exit status that argument parsers use for a wrong command line


def run(function: Callable[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Call ``function`` with the command line's arguments, as the last line of every tool does.

    What the function returns is not printed. An ``InputError`` becomes ``error: <message>`` on stderr without a
    traceback. The function starts only when all arguments are understood: Fire by itself would call it first and
    complain about a misspelt option afterwards.

    Args:
        function: the tool; its signature gives the options, its docstring the ``--help`` text.
        arguments: the arguments; left out, those of the process.

    Raises:
        SystemExit: 2 for bad input or a wrong command line, 0 after ``--help``.
    """
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    @functools.wraps(function)
    def remember(*positional: Any, **named: Any) -> None:
        calls.append((positional, named))

    remember = fire.decorators.SetParseFns(**_texts(function))(remember)
    command = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(command):
        command = ["--", "--help"]  # Fire answers a bare --help with the status of an error when an argument is missing
    fire.Fire(remember, command=command, name=_name())
    for positional, named in calls:
        try:
            function(*positional, **named)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(BAD_INPUT) from None


def _texts(function: Callable[..., Any]) -> dict[str, Callable[[str], str]]:
    """The arguments that are texts, which Fire would else take for numbers: a folder 2024_01_02 for 20240102."""
    kinds = {name: str(one.annotation) for name, one in inspect.signature(function).parameters.items()}
    return {name: str for name, kind in kinds.items() if kind in ("str", "str | None")}


def _name() -> str:
    """The command as the user typed it, for the help text."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else sys.argv[0]
