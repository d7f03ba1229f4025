# SPDX-License-Identifier: Apache-2.0
"""Chains of vertebrae and discs, with and without a canal, and the graphs that have a name."""

from __future__ import annotations

import pytest

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import NAMED, disc_names, mrspineseg, spider, spine_graph
from custom_nets.label_graphs.graph import Label, LabelGraph
from custom_nets.registry import bundle


def by_name(graph: LabelGraph) -> set[tuple[str, str]]:
    return {(graph.labels[one].name, graph.labels[other].name) for one, other in graph.edges}


def test_mrspineseg_has_the_bundles_labels() -> None:
    assert mrspineseg().names == bundle("spineparsenet").labels
    assert ("S", "L5/S") in by_name(mrspineseg())
    assert ("T9", "T9/T10") in by_name(mrspineseg())


@pytest.mark.parametrize("vertebrae", [2, 7, 10])
def test_fewer_vertebrae(vertebrae: int) -> None:
    graph = mrspineseg(vertebrae)
    assert len(graph) == 2 * vertebrae
    assert len(graph.edges) == 2 * (vertebrae - 1)
    assert [graph.labels[node].value for node in graph.nodes("disc")] == list(range(11, 10 + vertebrae))
    assert by_name(graph) <= by_name(mrspineseg())


@pytest.mark.parametrize("vertebrae", [1, 11])
def test_vertebrae_that_mrspineseg_does_not_have(vertebrae: int) -> None:
    with pytest.raises(InputError, match=f"{vertebrae} vertebrae: MRSpineSeg has 2 to 10"):
        mrspineseg(vertebrae)


def test_spider() -> None:
    graph = spider(3)
    assert graph.names == {
        **{0: "background", 1: "L5", 2: "L4", 3: "L3"},
        **{201: "L5/S1", 202: "L4/L5", 203: "L3/L4", 100: "spinal canal"},
    }
    discs = {("L5", "L5/S1"), ("L5", "L4/L5"), ("L4", "L4/L5"), ("L4", "L3/L4"), ("L3", "L3/L4")}
    assert by_name(graph) == discs | {(name, "spinal canal") for name in ("L5", "L4", "L3")}
    assert graph.file_names()[102] == "L4"
    assert len(graph.nodes("canal")) == 1
    assert len(spider(25)) == 52
    for number in (0, 26):
        with pytest.raises(InputError, match="SPIDER's labels have 1 to 25"):
            spider(number)


def test_a_canal_touches_all_vertebrae() -> None:
    bones = [Label(value, name, "vertebra") for value, name in ((1, "a"), (2, "b"), (3, "c"))]
    discs = [Label(4, "a/b", "disc"), Label(5, "b/c", "disc")]
    canal = Label(9, "canal", "canal")
    graph = spine_graph(bones, discs, canal, self_loop=1, normalization="row")
    assert graph.edges == ((1, 4), (1, 6), (2, 4), (2, 5), (2, 6), (3, 5), (3, 6))
    assert (graph.self_loop, graph.normalization) == (1, "row")
    assert spine_graph(bones, discs).edges == ((1, 4), (2, 4), (2, 5), (3, 5))
    with pytest.raises(InputError, match="3 vertebrae and 1 discs: a chain has one disc fewer"):
        spine_graph(bones, discs[:1])


def test_names_of_discs() -> None:
    assert disc_names(["S", "L5", "L4"]) == ["L5/S", "L4/L5"]
    assert disc_names(["S"]) == []


@pytest.mark.parametrize("name", list(NAMED))
def test_named_graphs_join_each_disc_to_its_vertebrae(name: str) -> None:
    graph = NAMED[name]()
    for disc in graph.nodes("disc"):
        neighbours = {graph.labels[one].name for one, other in graph.edges if other == disc}
        assert neighbours == set(graph.labels[disc].name.split("/")) & set(graph.names.values())
