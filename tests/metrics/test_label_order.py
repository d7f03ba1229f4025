# SPDX-License-Identifier: Apache-2.0
"""What structures are called: small chains made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.metrics import Call, call_counts, chain_shift, label_calls, spine_metrics, summarise_spine
from custom_nets.metrics.label_maps import joint_histogram
from custom_nets.metrics.spine_summary import confusion, spine_table

GRAPH = mrspineseg(4)  # 1 S, 2 L5, 3 L4, 4 L3, 5 L5/S, 6 L4/L5, 7 L3/L4
CHAIN = [1, 2, 3, 4]


def calls(prediction: list[int], reference: list[int]) -> list[Call]:
    maps = (np.array([[own]], dtype=np.int32) for own in (prediction, reference))
    return label_calls(joint_histogram(*maps, len(GRAPH)), GRAPH)


@pytest.mark.parametrize(
    ("voxels", "kind", "called", "shift", "share"),
    [
        ([2, 2, 3, 0], "correct", 2, 0, 0.25),
        ([2, 2, 3, 3], "correct", 2, 0, 0.5),  # a tie goes to its own name
        ([3, 3, 3, 2], "above", 3, 1, 0.75),
        ([1, 1, 0, 2], "below", 1, -1, 0.5),
        ([4, 4, 4, 2], "other", 4, 2, 0.0),
        ([6, 6, 2, 3], "other", 6, None, 0.25),  # a disc
        ([0, 0, 0, 2], "missed", 0, None, 0.0),
    ],
)
def test_what_a_vertebra_is_called(voxels: list[int], kind: str, called: int, shift: int | None, share: float) -> None:
    (call,) = calls(voxels, [2, 2, 2, 2])
    assert (call.kind, call.called, call.shift, call.neighbour_share) == (kind, called, shift, share)


def test_neighbours_of_discs_are_discs() -> None:
    (call,) = calls([2, 3, 7, 7, 7, 5], [6] * 6)
    assert (call.kind, call.called, call.neighbour_share) == ("above", 7, 4 / 6)


def test_a_canal_is_in_no_chain() -> None:
    graph = spider(2)  # 5 is the canal
    maps = [np.array([[own]], dtype=np.int32) for own in ([1, 1, 5], [5, 5, 5])]
    (call,) = label_calls(joint_histogram(*maps, len(graph)), graph)
    assert (call.kind, call.called, call.shift) == ("other", 1, None) and math.isnan(call.neighbour_share)
    assert spine_metrics(maps[0][0][None], maps[1][0][None], graph).case["order_errors"] == 0


def test_calls_are_counted_by_kind() -> None:
    found = calls([2, 2, 0, 4, 6, 5, 2], [1, 2, 3, 4, 5, 6, 7])
    assert call_counts(found) == {"correct": 2, "below": 1, "above": 2, "other": 1, "missed": 1}


@pytest.mark.parametrize(
    ("prediction", "reference", "shift"),
    [
        ([2, 3, 4], [1, 2, 3], 1),
        ([2, 3, 4, 0], [1, 2, 3, 4], 1),  # the last has no label above
        ([2, 3, 4, 4], [1, 2, 3, 4], 1),
        ([1, 2, 3], [2, 3, 4], -1),
        ([3, 4], [1, 2], 2),
        ([3, 0, 4], [2, 4, 3], 1),  # a missed one does not count
        ([2, 2, 4], [1, 2, 3], 0),
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([2], [1], 0),  # one is no chain
        ([5, 6, 0], [1, 2, 3], 0),
    ],
)
def test_a_whole_chain_is_shifted(prediction: list[int], reference: list[int], shift: int) -> None:
    assert chain_shift(calls(prediction, reference), CHAIN) == shift


def test_the_summary_names_what_is_called_what() -> None:
    right, wrong = [1, 2, 3, 5, 6], [2, 3, 4, 5, 0]
    rows, structures = [], []
    for name, own in (("a", right), ("b", wrong), ("c", wrong)):
        scores = spine_metrics(np.array([[own]]), np.array([[right]]), GRAPH, surface=False)
        rows.append({"case": name, **scores.case})
        structures += [{"case": name, **row} for row in scores.structures]
    assert rows[1]["order_errors"] == 3 and rows[1]["called_missed"] == 1 and rows[1]["neighbour_share"] == 0.6
    assert (rows[1]["chain_shift_vertebrae"], rows[1]["chain_shift_discs"]) == (1, 0)
    table = {"S": {"S": 1, "L5": 2}, "L5": {"L5": 1, "L4": 2}, "L4": {"L4": 1, "L3": 2}, "L3": {}}
    assert confusion(structures) == table | {"L5/S": {"L5/S": 3}, "L4/L5": {"L4/L5": 1, "background": 2}, "L3/L4": {}}
    summary = summarise_spine(rows, structures)
    assert summary["order"]["calls"] == {"correct": 7, "below": 0, "above": 6, "other": 0, "missed": 2}
    assert summary["order"]["shifted"] == {case: {"chain_shift_vertebrae": 1} for case in ("b", "c")}
    text = spine_table(summary)
    assert "| L5 | L4 | 2 |" in text and "| b | vertebrae | +1 |" in text
