# SPDX-License-Identifier: Apache-2.0
"""Labels of a model that was trained on others than its bundle's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_nets.datasets.label_table import read_label_table
from custom_nets.datasets.tumour_labels import label_names
from custom_nets.files import write_json
from custom_nets.label_graphs.reading import read_label_graph

_TABLE, _GRAPH, _CONVENTION = "label_table", "label_graph", "output_convention"


def own_labels(options: Mapping[str, Any]) -> dict[int, str] | None:
    """Return value -> name as label maps hold them where the options change that; None for the bundle's own.

    A table or a graph of labels does, and the convention in which predictions are written.

    Raises:
        InputError: for a table or a graph that cannot be read, or an unknown convention.
    """
    if options.get(_TABLE):
        return read_label_table(options[_TABLE])
    if options.get(_GRAPH, "auto") != "auto":
        return dict(sorted(read_label_graph(options[_GRAPH]).names.items()))
    if options.get(_CONVENTION):
        return label_names(str(options[_CONVENTION]))
    return None


def with_labels_inside(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with files of labels taken into a bundle's folder, and the number of labels that they name.

    Raises:
        InputError: as :func:`own_labels`.
    """
    changed = dict(options)
    if options.get(_TABLE):
        table = read_label_table(options[_TABLE])
        changed |= {_TABLE: _taken(_TABLE, table, folder), "out_channels": len(table)}
    if options.get(_GRAPH) and Path(str(options[_GRAPH])).is_file():
        changed[_GRAPH] = _taken(_GRAPH, read_label_graph(options[_GRAPH]).to_config(), folder)
    return changed


def _taken(name: str, content: Any, folder: Path) -> str:
    """Write a file into the bundle; return how its configurations name it."""
    write_json(folder / f"{name}.json", content)
    return f"$@bundle_root + '/{name}.json'"
