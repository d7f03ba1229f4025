# SPDX-License-Identifier: Apache-2.0
"""The order check: a column of blocks, whole and spoiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.graph import Label, LabelGraph
from custom_nets.spine.order import order_findings, spine_order

GRAPH = mrspineseg(4)  # 1 S, 2 L5, 3 L4, 4 L3, 5 L5/S, 6 L4/L5, 7 L3/L4
UPWARDS = [1, 5, 2, 6, 3, 7, 4]


def column(nodes: list[int]) -> np.ndarray:
    """Blocks of 3 x 4 x 2 voxels, the first at the bottom."""
    values = np.zeros((5, 6, 2 * len(nodes)), dtype=np.uint8)
    for place, node in enumerate(nodes):
        values[1:4, 1:5, 2 * place : 2 * place + 2] = node
    return values


def texts(values: np.ndarray, **options: Any) -> list[tuple[str, str]]:
    return [(finding.kind, finding.text) for finding in order_findings(values, GRAPH, **options)]


def test_discs_stand_between_their_vertebrae() -> None:
    assert spine_order(GRAPH) == UPWARDS
    names = spider(2).node_names()
    assert [names[node] for node in spine_order(spider(2))] == ["L5/S1", "L5", "L4/L5", "L4"]


def test_discs_without_a_place_are_left_out() -> None:
    labels = (
        Label(0, "background"),
        *(Label(1 + n, f"V{n}", "vertebra") for n in range(3)),
        *(Label(4 + n, f"D{n}", "disc") for n in range(4)),
    )
    edges = ((1, 4), (2, 4), (3, 4), (1, 5), (3, 5), (3, 6))  # three vertebrae, no neighbours, the topmost, none
    assert spine_order(LabelGraph(labels, edges)) == [1, 2, 3, 6]


def test_a_spine_as_it_should_be() -> None:
    assert not texts(column(UPWARDS)) and not texts(column([5, 2, 6, 3])) and not texts(column([0]))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("down", [False, True])
def test_the_affine_says_where_up_is(axes: tuple[int, int, int], down: bool) -> None:
    values = column(UPWARDS)[..., :: -1 if down else 1].transpose(axes)
    affine = np.zeros((4, 4))
    for axis, origin in enumerate(axes):
        affine[origin, axis] = (4.0, 0.5, -2.0 if down else 2.0)[origin]
    affine[:, 3] = (10, -20, 30, 1)
    assert not texts(values, affine=affine)
    affine[2] *= -1
    found = order_findings(values, GRAPH, affine)
    assert [finding.kind for finding in found] == ["swap"] * 6
    assert found[0].labels == ("S", "L5/S") and found[0].data == {"drop": pytest.approx(4.0), "unit": "mm"}


def test_swapped_neighbours() -> None:
    assert texts(column([1, 5, 3, 6, 2, 7, 4])) == [
        ("swap", "L4/L5 is not above L5 but 2.0 voxels below"),
        ("swap", "L4 is not above L4/L5 but 2.0 voxels below"),
    ]


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([1, 5, 2, 3, 7, 4], "L4/L5 is missing between L5 and L4"),
        ([1, 5, 2, 7, 4], "L4/L5, L4 are missing between L5 and L3/L4"),
    ],
)
def test_gaps_between_labels_that_are_there(nodes: list[int], text: str) -> None:
    assert texts(column(nodes)) == [("gap", text)]


def test_labels_in_pieces() -> None:
    values = column(UPWARDS)
    values[2, :, 4:6] = 0  # L5 in two halves
    values[0, 0, -1] = 1  # one voxel of S far up, 4 %
    (finding,) = order_findings(values, GRAPH)
    assert finding.text == "L5 is in 2 pieces (8 + 8 voxels)" and finding.data == {"voxels": [8, 8]}
    assert len(order_findings(values, GRAPH, smallest_share=0.0)) == 2


def test_pieces_that_touch_at_a_corner_are_one_or_two() -> None:
    values = np.zeros((4, 4, 4), dtype=int)
    values[:2, :2, :2] = values[2:, 2:, 2:] = 1
    assert not texts(values)
    assert texts(values, connectivity=6) == [("pieces", "S is in 2 pieces (8 + 8 voxels)")]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.full((2, 2, 2), 8), {}, r"holds 8 … 8, but the graph has the nodes 0 … 7"),
        (np.zeros((1, 2, 2, 2)), {}, "without channels"),
        (np.zeros((2, 2, 2)), {"connectivity": 8}, "connectivity is 8"),
    ],
)
def test_wrong_input(values: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        order_findings(values, GRAPH, **options)
