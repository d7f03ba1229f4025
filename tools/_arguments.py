# SPDX-License-Identifier: Apache-2.0
"""Values of options as the command line gives them, checked."""

from __future__ import annotations

from typing import Any

from custom_nets.errors import InputError


def number(option: str, value: Any) -> float:
    """A number.

    Raises:
        InputError: naming the option, for anything else.
    """
    if not _is_number(value):
        raise InputError(f"{option} is {value!r}: give a number")
    return float(value)


def whole(option: str, value: Any, least: int | None = None, usual: int = 0) -> int:
    """A whole number.

    Args:
        option: as it is typed.
        value: of the option.
        least: the smallest that is taken; None = any.
        usual: an example, told where there is a smallest.

    Raises:
        InputError: naming the option, for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}, such as {option} {usual}"
        raise InputError(f"{option} is {value!r}: give a whole number{bound}")
    return value


def numbers(option: str, value: Any) -> list[float]:
    """One number or several: ``12``, ``12,24`` or ``[12,24]``.

    Raises:
        InputError: naming the option, for anything else.
    """
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(map(_is_number, values)):
        raise InputError(f"{option} is {value!r}: give numbers with commas between them")
    return [float(one) for one in values]


def names_in(value: Any) -> tuple[str, ...]:
    """Names with commas between them, which the command line may have taken apart already; none for None.

    Raises:
        InputError: for an option without a value, or an empty name.
    """
    if value is None:
        return ()
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    names = tuple(str(part).strip() for part in parts)
    if isinstance(value, bool) or not all(names):
        raise InputError(f"{value!r}: give names, with commas between them.")
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
