# SPDX-License-Identifier: Apache-2.0
"""The one exception for input that the user can mend."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class InputError(ValueError):
    """Bad input from the user: a file, a data list, a checkpoint or an option.

    The message is all that the user sees (the command-line tools and the bundles print it without a traceback), so it
    names the file or option, the value that was found and what to do about it.
    """


def stops_with_message(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let ``function`` end the program with the one line of an `InputError`, exit status 1, in place of a traceback.

    For functions that a bundle's configuration calls: whatever evaluates the configuration wraps exceptions in its own.
    """

    @wraps(function)
    def stopping(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            raise SystemExit(f"error: {error}") from None

    return stopping
