# SPDX-License-Identifier: Apache-2.0
"""The label graph that a configuration's option, or the data list, names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import datalist_path, read_header
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import NAMED
from custom_nets.label_graphs.graph import LabelGraph, graph_from

KEY = "label_graph"  # of a data list's header, and the option of that name
DEFAULT = "mrspineseg"
_AUTO = "auto"


def read_label_graph(name: str | Path) -> LabelGraph:
    """Return a graph by its name, a key of `NAMED`, or from a JSON file as `python -m tools.label_graph` writes it.

    Raises:
        InputError: for an unknown name, a file that is missing or no JSON, or a graph that does not hold together.
    """
    if str(name) in NAMED:
        return NAMED[str(name)]()
    path = Path(str(name))
    if not path.is_file():
        raise InputError(f"label_graph is '{name}': choose one of {', '.join(NAMED)}, or give a JSON file that exists.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: is no JSON file ({error}); write it with `python -m tools.label_graph`.") from error
    return graph_from(content, str(path))


def any_label_graph(graph: LabelGraph | Mapping[str, Any] | str | Path | None, source: str = "graph") -> LabelGraph:
    """Return a graph however it is given: itself, its description, its name or file, or None for the published one.

    Raises:
        InputError: as :func:`read_label_graph` and :func:`~custom_nets.label_graphs.graph.graph_from`.
    """
    if graph is None:
        graph = DEFAULT
    return read_label_graph(graph) if isinstance(graph, str | Path) else graph_from(graph, source)


def label_graph_of(
    dataset_dir: str | Path, datalist: str | Path = "datalist.json", label_graph: str | Path = _AUTO
) -> LabelGraph:
    """Return the graph of a data set's label maps.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        label_graph: as :func:`read_label_graph` takes it, or "auto" for what the list's header says, see
            :func:`label_graph_name`.

    Raises:
        InputError: as :func:`read_label_graph`, naming the list if it is the list's.
    """
    name = label_graph_name(dataset_dir, datalist, label_graph)
    try:
        return read_label_graph(name)
    except InputError as error:
        if str(label_graph) != _AUTO:
            raise
        path = datalist_path(dataset_dir, datalist)
        raise InputError(f"{path}: {error} Correct {KEY!r} in the list, or give --{KEY} NAME.") from None


def label_graph_name(
    dataset_dir: str | Path, datalist: str | Path = "datalist.json", label_graph: str | Path = _AUTO
) -> str:
    """Return the name, or the file, of the graph of a data set's label maps.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        label_graph: a name or a file, which stays as it is; or "auto" for what the list's header says under
            "label_graph", of which a relative path counts from ``dataset_dir``.

    Returns:
        With "auto", "mrspineseg" where the header names none or the list cannot be read, which is for the checks of the
        data list to say.
    """
    if str(label_graph) != _AUTO:
        return str(label_graph)
    try:
        listed = str(read_header(dataset_dir, datalist).get(KEY, DEFAULT))
    except InputError:
        return DEFAULT
    return listed if listed in NAMED else str(Path(dataset_dir) / listed)


def listed_label_graph(dataset_dir: str | Path, label_graph: str) -> str:
    """Return what a data list says under "label_graph" of a name or a file; inverse to :func:`label_graph_name`.

    A file in the data set's folder is named relative to it, so that the folder can be moved; another by its absolute
    path.
    """
    if label_graph in NAMED:
        return label_graph
    file, root = Path(label_graph).resolve(), Path(dataset_dir).resolve()
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
