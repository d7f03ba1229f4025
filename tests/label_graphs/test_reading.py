# SPDX-License-Identifier: Apache-2.0
"""Which graph an option or a data list names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.reading import label_graph_name, label_graph_of, listed_label_graph, read_label_graph
from tests.datasets import trees


def write_graph(path: Path, vertebrae: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mrspineseg(vertebrae).to_config()))
    return path


def test_names_and_files(tmp_path: Path) -> None:
    assert read_label_graph("mrspineseg") == mrspineseg()
    assert read_label_graph("spider") == spider()
    assert read_label_graph(write_graph(tmp_path / "graph.json")) == mrspineseg(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "choose one of mrspineseg, spider, or give a JSON file that exists"),
        ("{", r"graph.json: is no JSON file .*python -m tools.label_graph"),
        ("[]", r'graph.json: give \{"labels"'),
        ('{"labels": [], "edges": []}', "graph.json: 0 labels"),
    ],
)
def test_files_that_hold_no_graph(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "graph.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_label_graph(path)


@pytest.mark.parametrize(
    ("header", "option", "labels"),
    [
        ({}, "auto", 20),
        ({"label_graph": "spider"}, "auto", 20),
        ({"label_graph": "graphs/three.json"}, "auto", 6),
        ({"label_graph": "spider"}, "mrspineseg", 20),
    ],
)
def test_graph_of_a_list(tmp_path: Path, header: dict[str, Any], option: str, labels: int) -> None:
    write_graph(tmp_path / "graphs/three.json")
    trees.write_datalist(tmp_path, **header, testing=[])
    graph = label_graph_of(tmp_path, "datalist.json", option)
    assert len(graph) == labels
    listed = header.get("label_graph", "mrspineseg") if option == "auto" else option
    assert (graph == spider()) == (listed == "spider")


def test_an_options_file_is_not_looked_for_in_the_data_set(tmp_path: Path) -> None:
    write_graph(tmp_path / "graph.json")
    assert len(label_graph_of(tmp_path, label_graph=tmp_path / "graph.json")) == 6
    with pytest.raises(InputError, match=r"label_graph is 'graph.json'"):
        label_graph_of(tmp_path, label_graph="graph.json")


def test_graph_without_a_list(tmp_path: Path) -> None:
    assert label_graph_of(tmp_path / "absent") == label_graph_of(tmp_path) == mrspineseg()
    (tmp_path / "datalist.json").write_text("{")
    assert label_graph_name(tmp_path) == "mrspineseg"


@pytest.mark.parametrize("listed", ["vertebrae", ["spider"], "gone.json"])
def test_a_list_that_names_no_graph(tmp_path: Path, listed: Any) -> None:
    trees.write_datalist(tmp_path, label_graph=listed, testing=[])
    with pytest.raises(InputError, match=r"datalist.json: label_graph is .*or give --label_graph NAME"):
        label_graph_of(tmp_path)


def test_what_a_list_says_of_a_file(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for path in (write_graph(root / "graphs/a.json"), write_graph(tmp_path / "b.json")):
        listed = listed_label_graph(root, str(path))
        trees.write_datalist(root, label_graph=listed, testing=[])
        assert label_graph_of(root) == mrspineseg(3)
    assert listed_label_graph(root, str(root / "graphs/a.json")) == "graphs/a.json"
    assert Path(listed).is_absolute()
    assert listed_label_graph(root, "spider") == "spider"
