# SPDX-License-Identifier: Apache-2.0
"""The command that writes a label graph from label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.label_graphs.graph import restricted
from custom_nets.label_graphs.reading import read_label_graph
from tests.datasets import trees
from tools._command import run
from tools.label_graph import main

LUMBAR = (*range(2, 9), *range(12, 18))


def spines(root: Path, *columns: tuple[int, ...]) -> list[dict[str, Any]]:
    """A data list whose training label maps are columns of labels, 2 x 2 voxels wide and each 2 high."""
    cases = []
    for number, values in enumerate(columns or [lumbar_column()] * 2):
        voxels = np.repeat(np.repeat(np.repeat(np.array(values, np.uint8)[None, None], 2, 0), 2, 1), 2, 2)
        trees.write_voxels(root / f"{number}/label.nii.gz", voxels)
        cases.append({"image": [f"{number}/t2.nii.gz"], "label": f"{number}/label.nii.gz"})
    trees.write_datalist(root, training=cases)
    return cases


def lumbar_column() -> tuple[int, ...]:
    """L5, L4/L5, L4 ... T11."""
    return (*(value for body in range(2, 8) for value in (body, body + 10)), 8)


def refused(root: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        run(main, [str(root), *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_lumbar_spines_by_contact_and_by_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spines(tmp_path)
    run(main, [str(tmp_path)])
    graph = read_label_graph(tmp_path / "label_graph.json")
    assert len(graph) == 14
    assert (len(graph.nodes("vertebra")), len(graph.nodes("disc"))) == (7, 6)
    assert graph == restricted(mrspineseg(), LUMBAR)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "L5", "vertebra", "16", "2"] in shown
    assert ["L5", "L4/L5", "8", "yes"] in shown
    assert shown[-1][-4:] == ["14", "labels,", "12", "edges"]
    for options in (["--like=mrspineseg"], ["--like=mrspineseg", "--values=2..8,12..17"], ["--edges=chain"]):
        run(main, [str(tmp_path), *options, f"--out={tmp_path}/out/chain.json", "--overwrite"])
        assert read_label_graph(tmp_path / "out/chain.json") == graph


def test_labels_by_a_pattern_without_a_list(tmp_path: Path) -> None:
    spines(tmp_path, (1, 3), (3, 40))
    (tmp_path / "datalist.json").unlink()
    run(main, [str(tmp_path), "--labels=*/label.nii.gz"])
    content = json.loads((tmp_path / "label_graph.json").read_text())
    assert [label["name"] for label in content["labels"]] == ["background", "label 1", "label 3", "label 40"]
    assert content["edges"] == [["label 1", "label 3"], ["label 3", "label 40"]]
    run(main, [str(tmp_path), "--labels=*/label.nii.gz", "--like=mrspineseg", "--edges=contacts", "--overwrite"])
    graph = read_label_graph(tmp_path / "label_graph.json")
    assert list(graph.names.values()) == ["background", "S", "L4", "label 40"]
    assert [label.group for label in graph.labels] == ["other", "vertebra", "vertebra", "other"]


def test_threshold_leaves_accidental_contacts_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spines(tmp_path, (2, 12, 3), (2, 12), (12, 2))
    run(main, [str(tmp_path), "--threshold=4"])
    assert read_label_graph(tmp_path / "label_graph.json").edges == ((1, 3),)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["L5", "L4/L5", "12", "yes"] in shown
    assert ["L4", "L4/L5", "4", "no"] in shown


def test_values_left_out_are_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spines(tmp_path, (2, 12, 3))
    run(main, [str(tmp_path), "--values=2,12"])
    assert [label.value for label in read_label_graph(tmp_path / "label_graph.json").labels] == [0, 2, 12]
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["3", "(left", "out)", "-", "8", "1"] in shown
    assert ["3", "L4/L5", "4", "no"] in shown


def test_spider_is_recognised_by_its_values(tmp_path: Path) -> None:
    spines(tmp_path, (1, 201, 0, 100, 102))
    run(main, [str(tmp_path)])
    graph = read_label_graph(tmp_path / "label_graph.json")
    assert [label.name for label in graph.labels] == ["background", "L5", "L4", "L5/S1", "spinal canal"]
    assert graph.edges == ((1, 3), (2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edges=tree"], "edges is 'tree': use one of auto, chain, contacts"),
        (["--threshold=few"], "threshold is 'few': give a whole number"),
        (["--values=2-5"], "values is '2-5': give whole numbers and ranges, such as 2..8,12..17"),
        (["--values=2..x"], "values is '2..x'"),
        (["--like=vertebrae"], "label_graph is 'vertebrae'"),
        (["--like=mrspineseg", "--values=2,30"], "the label graph has no value 30"),
        (["--values=2,30", "--edges=chain"], "no named graph has all values, give one that does with --like"),
        (["--labels=*.mha"], "labels is '*.mha': no file in"),
        (["--labels=/scans/*.nii"], "give a pattern relative to DATASET_DIR"),
        (["--section=testing"], "has no 'testing' cases"),
        (["--datalist=gone.json"], "does not exist"),
        (["--values=0"], "give the background and at least one structure"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spines(tmp_path)
    assert message in refused(tmp_path, options, capsys)
    assert not (tmp_path / "label_graph.json").exists()


def test_a_graph_that_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spines(tmp_path)
    (tmp_path / "label_graph.json").write_text("mine")
    assert "label_graph.json exists: add --overwrite" in refused(tmp_path, [], capsys)
    assert (tmp_path / "label_graph.json").read_text() == "mine"
    assert "is not a folder" in refused(tmp_path / "gone", ["--labels=*"], capsys)
