# SPDX-License-Identifier: Apache-2.0
"""Label graphs: the published adjacency, everything that does not hold together, descriptions in JSON, subsets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.graph import Label, LabelGraph, graph_from, restricted
from tests.recipe import GOLDENS

GOLDEN = json.loads((GOLDENS / "spineparsenet" / "adjacency.json").read_text())
LABELS: list[dict[str, Any]] = [
    {"value": 0, "name": "background"},
    {"value": 5, "name": "L5", "group": "vertebra", "also": [105]},
    {"value": 9, "name": "L4/L5", "group": "disc"},
    {"value": 7, "name": "cord"},
]
EDGES: list[Any] = [["L5", "L4/L5"], [7, 5]]


def test_published_adjacency() -> None:
    graph = mrspineseg()
    np.testing.assert_allclose(graph.adjacency(), GOLDEN["normalised"], rtol=0, atol=1e-15)
    assert [list(edge) for edge in graph.edges] == sorted(GOLDEN["edges"])
    assert {str(value): name for value, name in graph.names.items()} == GOLDEN["labels"]
    assert (graph.nodes("vertebra"), graph.nodes("disc")) == (GOLDEN["vertebrae"], GOLDEN["discs"])


def test_one_self_loop_is_another_matrix() -> None:
    textbook = LabelGraph(mrspineseg().labels, mrspineseg().edges, self_loop=1)
    assert np.abs(textbook.adjacency() - GOLDEN["normalised"]).max() > 0.1
    assert textbook.adjacency()[0, 0] == 1


@pytest.mark.parametrize("normalization", ["symmetric", "row", "none"])
def test_normalisations(normalization: str) -> None:
    labels = (Label(0, "background"), Label(1, "a"), Label(2, "b"), Label(3, "c"))
    matrix = LabelGraph(labels, ((1, 2), (2, 3)), 2.0, normalization).adjacency()
    plain = np.array([[2, 0, 0, 0], [0, 2, 1, 0], [0, 1, 2, 1], [0, 0, 1, 2]], float)
    degrees = np.diag([2.0, 3, 4, 3])
    expected = {
        "symmetric": np.linalg.inv(np.sqrt(degrees)) @ plain @ np.linalg.inv(np.sqrt(degrees)),
        "row": np.linalg.inv(degrees) @ plain,
        "none": plain,
    }
    np.testing.assert_allclose(matrix, expected[normalization], atol=1e-15)


def test_without_self_loops() -> None:
    labels = (Label(0, "background"), Label(1, "a"), Label(2, "b"))
    np.testing.assert_array_equal(LabelGraph(labels, ((0, 1), (1, 2)), 0).adjacency()[1, 1], 0)
    with pytest.raises(InputError, match="background: without an edge and a self loop"):
        LabelGraph(labels, ((1, 2),), 0)
    assert LabelGraph(labels, ((1, 2),), 0, "none").adjacency().sum() == 2


@pytest.mark.parametrize("graph", [mrspineseg(), mrspineseg(3), spider(), graph_from({"labels": LABELS, "edges": []})])
def test_round_trip(graph: LabelGraph) -> None:
    assert graph_from(json.loads(json.dumps(graph.to_config()))) == graph


def test_description() -> None:
    graph = graph_from({"labels": LABELS, "edges": EDGES, "self_loop": 1, "normalization": "row"})
    assert graph.edges == ((1, 2), (1, 3))
    assert (graph.self_loop, graph.normalization) == (1, "row")
    assert graph.names == {0: "background", 5: "L5", 9: "L4/L5", 7: "cord"}
    assert graph.node_names() == {0: "background", 1: "L5", 2: "L4/L5", 3: "cord"}
    assert graph.file_names() == {0: "background", 5: "L5", 7: "cord", 9: "L4/L5", 105: "L5"}
    assert list(graph.file_names()) == [0, 5, 7, 9, 105]
    assert (graph.nodes("vertebra"), graph.nodes("disc", "other"), len(graph)) == ([1], [0, 2, 3], 4)
    assert graph_from(graph) is graph


def changed(place: int, **entry: Any) -> dict[str, Any]:
    labels = [dict(label) for label in LABELS]
    labels[place].update(entry)
    return {"labels": labels, "edges": []}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r'give \{"labels"'),
        ({"labels": LABELS}, r'give \{"labels"'),
        ({"labels": LABELS, "edges": [], "loops": 2}, "'loops' is unknown"),
        ({"labels": LABELS[:1], "edges": []}, "1 labels: give the background"),
        ({"labels": LABELS[1:], "edges": []}, "the first label is 5 'L5': put the background, 0, first"),
        ({"labels": [*LABELS, "L3"], "edges": []}, "a label is 'L3'"),
        ({"labels": [*LABELS, {"value": 3}], "edges": []}, r"a label is \{'value': 3\}"),
        (changed(1, colour="red"), "a label is .*'colour'"),
        (changed(1, value=-1), "value -1: give whole numbers 0 to 65535"),
        (changed(1, value=65536), "whole numbers"),
        (changed(1, value=1.0), "whole numbers"),
        (changed(1, value=True), "whole numbers"),
        (changed(1, also=["x"]), "whole numbers"),
        (changed(1, name=""), "has the name ''"),
        (changed(1, name=7), "has the name 7"),
        (changed(1, group="bone"), "group 'bone': choose one of vertebra, disc"),
        (changed(1, value=9), "value 9 occurs twice"),
        (changed(3, also=[105]), "value 105 occurs twice"),
        (changed(1, name="cord"), "name 'cord' occurs twice"),
        ({"labels": LABELS, "edges": ["L5"]}, "an edge is 'L5'"),
        ({"labels": LABELS, "edges": [["L5"]]}, r"an edge is \['L5'\]"),
        ({"labels": LABELS, "edges": [["L5", "L6"]]}, "no label is 'L6': choose among background, L5"),
        ({"labels": LABELS, "edges": [["L5", 105]]}, "no label is 105"),
        ({"labels": LABELS, "edges": [["L5", True]]}, "no label is True"),
        ({"labels": LABELS, "edges": [["L5", 5]]}, "an edge joins nodes 1 and 1"),
        ({"labels": LABELS, "edges": [["L5", "cord"], [7, 5]]}, r"edge \(1, 3\) occurs twice"),
        ({"labels": LABELS, "edges": EDGES, "self_loop": -1}, "self_loop is -1"),
        ({"labels": LABELS, "edges": EDGES, "self_loop": True}, "self_loop is True"),
        ({"labels": LABELS, "edges": EDGES, "self_loop": "2"}, "self_loop is '2'"),
        ({"labels": LABELS, "edges": EDGES, "self_loop": 0}, "background: without an edge"),
        ({"labels": LABELS, "edges": EDGES, "normalization": "column"}, "normalization is 'column'"),
    ],
)
def test_what_does_not_hold_together(config: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^graph.json: .*{message}"):
        graph_from(config, "graph.json")


def test_an_edge_to_nowhere() -> None:
    for edge in ((0, 4), (-1, 2), (2, 1)):
        with pytest.raises(InputError, match="an edge joins nodes"):
            LabelGraph(mrspineseg().labels[:4], (edge,))


def test_restricted_to_lumbar_bodies_and_discs() -> None:
    graph = restricted(mrspineseg(), [*range(2, 9), *range(12, 18)])
    assert len(graph) == 14
    assert [label.value for label in graph.labels] == [0, *range(2, 9), *range(12, 18)]
    assert len(graph.nodes("vertebra")) == 7
    assert graph.edges == tuple(sorted((disc - 7 + step, disc) for disc in range(8, 14) for step in (0, 1)))
    assert restricted(mrspineseg(), range(20)) == mrspineseg()


def test_restricted_keeps_the_settings_and_knows_other_values() -> None:
    graph = graph_from({"labels": LABELS, "edges": EDGES, "self_loop": 1, "normalization": "row"})
    small = restricted(graph, {105, 7})
    assert [label.name for label in small.labels] == ["background", "L5", "cord"]
    assert (small.edges, small.self_loop, small.normalization) == (((1, 2),), 1, "row")
    with pytest.raises(InputError, match="no value 6, 8: it has 0, 5, 7, 9, 105"):
        restricted(graph, [5, 8, 6])
    with pytest.raises(InputError, match="give the background and at least one"):
        restricted(graph, [])
