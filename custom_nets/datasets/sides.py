# SPDX-License-Identifier: Apache-2.0
"""Which labels are the left and right of one structure, read from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from custom_nets.errors import InputError

_SIDES = ("left", "right")


def left_right_pairs(labels: Mapping[int, str]) -> list[tuple[int, int]]:
    """Pair the labels whose names differ only in the word left or right.

    The word may stand anywhere, in any case, set off by whatever is no letter or digit: "Femur, left", "left femur",
    "Femur_LEFT" and "femur (left)" are the partners of "Femur, right". A mirrored volume swaps the labels of each pair.
    Single letters are no sides: "Vitamin L" might be anything.

    Args:
        labels: label value to name.

    Returns:
        (value on the left, value on the right) of each structure that has both, in the order of the left values.
        A structure with one side only, or a name with the word twice, is in no pair.

    Raises:
        InputError: two labels have the same name and side, so that the partner is open.
    """
    found: dict[str, dict[tuple[str, ...], int]] = {side: {} for side in _SIDES}
    for value, name in labels.items():
        words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
        sides = [word for word in words if word in _SIDES]
        if len(sides) != 1:
            continue
        structure = tuple(word for word in words if word not in _SIDES)
        other = found[sides[0]].setdefault(structure, value)
        if other != value:
            raise InputError(
                f"labels {other} ({labels[other]!r}) and {value} ({name!r}) are the same structure and side: "
                "give each label a name of its own"
            )
    left, right = found["left"], found["right"]
    return sorted((value, right[structure]) for structure, value in left.items() if structure in right)
