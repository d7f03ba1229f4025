# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.label_graph DATASET_DIR`: the label graph of a data set of spines, from its label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets import load_section
from custom_nets.datasets.problems import text_table
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.label_graphs.chains import NAMED
from custom_nets.label_graphs.contacts import Survey, joined_by_contact, labels_for, survey_files
from custom_nets.label_graphs.graph import LabelGraph, restricted
from custom_nets.label_graphs.reading import read_label_graph
from tools._arguments import whole
from tools._command import run

_EDGES = ("auto", "chain", "contacts")


def main(
    dataset_dir: str,
    *,
    labels: str | None = None,
    datalist: str = "datalist.json",
    section: str = "training",
    like: str | None = None,
    values: str | int | Sequence[Any] | None = None,
    edges: str = "auto",
    threshold: int = 0,
    out: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write which labels a data set has, and which of them touch, as JSON for the option label_graph.

    Prints the labels with their voxels, and every pair of labels that share faces of voxels with the number of faces.

    Args:
        dataset_dir: the folder of the data set.
        labels: which label maps to read, as a pattern such as "*/label.nii.gz"; left out, those of the data list.
        datalist: the list of cases, in dataset_dir.
        section: of the list: training, validation or testing.
        like: a label graph, mrspineseg, spider or a file, that tells names and groups of values; others become
            "label N". Left out, the first of mrspineseg and spider that knows all values, if there is one.
        values: of the labels to keep, such as 2..8,12..17; left out, those that the label maps hold.
        edges: chain, those of the graph that tells the names; contacts, between labels that touch; auto, chain with
            like and contacts without.
        threshold: for contacts: labels are joined if more faces than this, over all label maps, lie between them.
        out: the file to write; left out, label_graph.json in DATASET_DIR.
        overwrite: replace a file that exists.
    """
    root = Path(str(dataset_dir))
    path = root / "label_graph.json" if out is None else Path(str(out))
    if edges not in _EDGES:
        raise InputError(f"edges is {edges!r}: use one of {', '.join(_EDGES)}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: add --overwrite to replace it, or --out another name")
    limit = whole("threshold", threshold)
    wanted = None if values is None else _values(values)
    survey = survey_files(_label_maps(root, labels, datalist, section))
    kept = sorted(survey.voxels) if wanted is None else wanted
    names = _naming(like, kept)
    by_chain = edges == "chain" or (edges == "auto" and like is not None)
    if by_chain and names is None:
        raise InputError("edges is 'chain': no named graph has all values, give one that does with --like")
    graph = (
        restricted(names, kept)
        if by_chain and names is not None
        else joined_by_contact(labels_for(kept, names), survey.contacts, limit)
    )
    for table in _tables(graph, survey):
        print(table)
    print(f"wrote {write_json(path, graph.to_config())}: {len(graph)} labels, {len(graph.edges)} edges")


def _label_maps(root: Path, pattern: str | None, datalist: str, section: str) -> list[Path]:
    if pattern is None:
        return [Path(case["label"]) for case in load_section(root, str(datalist), str(section))]
    if not root.is_dir():
        raise InputError(f"dataset_dir {str(root)!r} is not a folder: give the folder that holds the label maps")
    if Path(str(pattern)).is_absolute():
        raise InputError(f"labels is {pattern!r}: give a pattern relative to DATASET_DIR, such as */label.nii.gz")
    found = sorted(path for path in root.glob(str(pattern)) if path.is_file())
    if not found:
        raise InputError(f"labels is {pattern!r}: no file in {root} is called so; quote a pattern with *")
    return found


def _naming(like: str | None, values: Sequence[int]) -> LabelGraph | None:
    """The graph whose names are taken over."""
    if like is not None:
        return read_label_graph(str(like))
    return next((graph for build in NAMED.values() if set(values) <= set((graph := build()).file_names())), None)


def _values(given: Any) -> list[int]:
    """``2..8,12..17`` as the command line gives it: a text, a number, or already several."""
    parts = given if isinstance(given, list | tuple) else str(given).split(",")
    values: list[int] = []
    for part in parts:
        first, dots, last = str(part).strip().partition("..")
        if not (first.isdecimal() and (last.isdecimal() if dots else not last)):
            raise InputError(f"values is {given!r}: give whole numbers and ranges, such as 2..8,12..17")
        values += range(int(first), int(last if dots else first) + 1)
    return sorted(set(values))


def _tables(graph: LabelGraph, survey: Survey) -> list[str]:
    """The labels of the graph and of the files, and the pairs of them that touch or are joined."""
    names = graph.file_names()
    groups = {value: label.group for label in graph.labels for value in (label.value, *label.also)}
    labels = [
        (
            *(str(value), names.get(value, "(left out)"), groups.get(value, "-")),
            *(str(survey.voxels[value]), str(survey.files[value])),
        )
        for value in sorted(survey.voxels)
    ]
    node_of = {value: node for node, label in enumerate(graph.labels) for value in (label.value, *label.also)}
    faces = dict(survey.contacts)
    for one, other in graph.edges:
        faces.setdefault((graph.labels[one].value, graph.labels[other].value), 0)
    pairs = [
        (
            *(names.get(one, str(one)), names.get(other, str(other)), str(count)),
            "yes" if tuple(sorted((node_of.get(one, -1), node_of.get(other, -1)))) in graph.edges else "no",
        )
        for (one, other), count in sorted(faces.items(), key=lambda item: (-item[1], item[0]))
    ]
    return [
        text_table(("value", "name", "group", "voxels", "files"), labels),
        text_table(("label", "label", "faces", "joined"), pairs),
    ]


if __name__ == "__main__":
    run(main)
