# SPDX-License-Identifier: Apache-2.0
"""Left and right of a structure."""

from __future__ import annotations

import pytest

from custom_nets.datasets.sides import left_right_pairs
from custom_nets.errors import InputError
from custom_nets.registry import bundle


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Femur, left", "Femur, right"),
        ("left femur", "Right Femur"),
        ("femur_left", "femur_right"),
        ("FEMUR (LEFT)", "femur (right)"),
        ("femur-left", "right femur"),
        ("gluteus_left_maximus", "gluteus maximus right"),
        ("left", "right"),
    ],
)
def test_both_sides_of_a_structure_are_a_pair(first: str, second: str) -> None:
    assert left_right_pairs({0: "background", 7: first, 3: second}) == [(7, 3)]
    assert left_right_pairs({1: second, 2: first}) == [(2, 1)]


@pytest.mark.parametrize(
    "labels",
    [
        {1: "Femur, left", 2: "Tibia, right"},
        {1: "Femur, left"},
        {1: "Femur L", 2: "Femur R"},
        {1: "leftover", 2: "rightover"},
        {1: "left to right", 2: "to right"},
        {},
    ],
)
def test_others_are_none(labels: dict[int, str]) -> None:
    assert left_right_pairs(labels) == []


def test_the_pelvis_has_23_pairs_and_8_single_structures() -> None:
    labels = bundle("s2anet").labels
    pairs = left_right_pairs(labels)
    assert len(pairs) == 23
    assert pairs == sorted(pairs)
    assert all(labels[left].replace(", left", ", right") == labels[right] for left, right in pairs)
    assert len(labels) - 1 - 2 * len(pairs) == 8


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"labels 1 \('Femur, left'\) and 4 \('left femur'\)"):
        left_right_pairs({1: "Femur, left", 2: "Femur, right", 4: "left femur"})
