# SPDX-License-Identifier: Apache-2.0
"""A label set and the graph of its anatomy, from which SpineParseNet's adjacency matrix follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError

#: How the adjacency matrix A~ is scaled by the nodes' degrees: D^-1/2 A~ D^-1/2, D^-1 A~, or not at all.
NORMALIZATIONS = ("symmetric", "row", "none")
#: What a label is. Scores are grouped, and the order along the spine is checked, by these.
GROUPS = ("vertebra", "disc", "canal", "other")


@dataclass(frozen=True)
class Label:
    """One label of a label map.

    Attributes:
        value: in label maps, 0 to 65535; 0 is background.
        name: for people, and for edges.
        group: one of `GROUPS`. The vertebrae of a graph are listed from the bottom upwards, and so are its discs.
        also: other values that files may have for it.
    """

    value: int
    name: str
    group: str = "other"
    also: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelGraph:
    """Labels, the nodes of a graph in this order, and which of them touch.

    Args:
        labels: background first.
        edges: pairs of node numbers, each pair once, smaller number first.
        self_loop: weight of each node's edge to itself: 2 as SpineParseNet's published code has it, 1 in the textbook.
        normalization: one of `NORMALIZATIONS`.

    Raises:
        InputError: for fewer than two labels, a background that is not 0, values, names or edges that occur twice,
            edges to nodes that do not exist or to themselves, a negative loop, a node without any degree, or another
            normalization.
    """

    labels: tuple[Label, ...]
    edges: tuple[tuple[int, int], ...]
    self_loop: float = 2.0
    normalization: str = "symmetric"
    names: dict[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        _check_edges(self.edges, len(self.labels))
        if not isinstance(self.self_loop, int | float) or isinstance(self.self_loop, bool) or self.self_loop < 0:
            raise InputError(f"self_loop is {self.self_loop!r}: give a number of at least 0; 2 as published.")
        if self.normalization not in NORMALIZATIONS:
            raise InputError(f"normalization is {self.normalization!r}: choose one of {', '.join(NORMALIZATIONS)}.")
        lonely = [label.name for node, label in enumerate(self.labels) if not self._degrees()[node] > 0]
        if lonely and self.normalization != "none":
            raise InputError(
                f"{', '.join(lonely)}: without an edge and a self loop there is nothing to normalise by. Give edges, "
                "or a self_loop above 0."
            )
        object.__setattr__(self, "names", {label.value: label.name for label in self.labels})

    def __len__(self) -> int:
        """Number of labels, background included: the network's classes."""
        return len(self.labels)

    def node_names(self) -> dict[int, str]:
        """Names by the number of the node, which is what label maps hold in memory."""
        return {node: label.name for node, label in enumerate(self.labels)}

    def nodes(self, *groups: str) -> list[int]:
        """Numbers of the nodes of these groups, in their order."""
        return [node for node, label in enumerate(self.labels) if label.group in groups]

    def file_names(self) -> dict[int, str]:
        """Names by every value that a file may have for a label, `Label.also` too, in ascending order."""
        names = {value: label.name for label in self.labels for value in (label.value, *label.also)}
        return dict(sorted(names.items()))

    def adjacency(self) -> NDArray[np.float64]:
        """Return the K x K matrix that a graph convolution multiplies by, section 2.3: symmetric, float64."""
        weights = self._weights()
        degrees = weights.sum(axis=1)
        if self.normalization == "symmetric":
            return weights / np.sqrt(np.outer(degrees, degrees))
        return weights / degrees[:, None] if self.normalization == "row" else weights

    def to_config(self) -> dict[str, Any]:
        """Return what :func:`graph_from` reads, of plain JSON types, edges by name."""
        entries: list[dict[str, Any]] = []
        for label in self.labels:
            entry: dict[str, Any] = {"value": label.value, "name": label.name, "group": label.group}
            entries.append({**entry, "also": list(label.also)} if label.also else entry)
        return {
            "labels": entries,
            "edges": [[self.labels[one].name, self.labels[other].name] for one, other in self.edges],
            "self_loop": self.self_loop,
            "normalization": self.normalization,
        }

    def _weights(self) -> NDArray[np.float64]:
        weights = np.eye(len(self.labels)) * self.self_loop
        for one, other in self.edges:
            weights[one, other] = weights[other, one] = 1
        return weights

    def _degrees(self) -> NDArray[np.float64]:
        return self._weights().sum(axis=1)


def graph_from(config: LabelGraph | Mapping[str, Any], source: str = "the label graph") -> LabelGraph:
    """Build a graph from its description.

    Args:
        config: ``labels``, a list of {"value", "name"} with "group" and "also" where they are wanted, background first;
            ``edges``, pairs of names or values; ``self_loop`` and ``normalization`` where they are not the published.
        source: file or option, for errors.

    Raises:
        InputError: naming ``source`` and what does not fit.
    """
    if isinstance(config, LabelGraph):
        return config
    if not isinstance(config, Mapping) or not {"labels", "edges"} <= set(config):
        raise InputError(f'{source}: give {{"labels": [{{"value": 0, "name": "background"}}, ...], "edges": [...]}}.')
    unknown = sorted(set(map(str, config)) - {"labels", "edges", "self_loop", "normalization"})
    if unknown:
        raise InputError(f"{source}: {unknown[0]!r} is unknown; known are labels, edges, self_loop and normalization.")
    try:
        labels = tuple(_label(entry) for entry in config["labels"])
        settings = {key: config[key] for key in ("self_loop", "normalization") if key in config}
        return LabelGraph(labels, tuple(sorted(_edge(pair, labels) for pair in config["edges"])), **settings)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def restricted(graph: LabelGraph, values: Iterable[int]) -> LabelGraph:
    """Keep the labels that a data set has, the background and the edges between them.

    Args:
        graph: with these labels and others.
        values: of the labels to keep, or what else files have for them; 0 may be missing.

    Raises:
        InputError: for values that the graph lacks, or no label besides the background.
    """
    wanted = {0, *values}
    unknown = sorted(wanted - set(graph.file_names()))
    if unknown:
        listed = ", ".join(map(str, unknown))
        raise InputError(f"the label graph has no value {listed}: it has {', '.join(map(str, graph.file_names()))}.")
    kept = [node for node, label in enumerate(graph.labels) if wanted & {label.value, *label.also}]
    place = {node: number for number, node in enumerate(kept)}
    edges = tuple((place[one], place[other]) for one, other in graph.edges if {one, other} <= set(kept))
    return LabelGraph(tuple(graph.labels[node] for node in kept), edges, graph.self_loop, graph.normalization)


def _label(entry: Any) -> Label:
    keys = {"value", "name", "group", "also"}
    if not isinstance(entry, Mapping) or not {"value", "name"} <= set(entry) <= keys:
        raise InputError(f'a label is {entry!r}: give {{"value": 1, "name": "S"}}, with "group" and "also" if wanted.')
    return Label(entry["value"], entry["name"], entry.get("group", "other"), tuple(entry.get("also", ())))


def _edge(pair: Any, labels: Sequence[Label]) -> tuple[int, int]:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise InputError(f"an edge is {pair!r}: give two names or values of labels.")
    nodes = {label.value: node for node, label in enumerate(labels)}
    by_name: dict[Any, int] = {label.name: node for node, label in enumerate(labels)}
    known = {**nodes, **by_name}
    for end in pair:
        if isinstance(end, bool) or not isinstance(end, int | str) or end not in known:
            raise InputError(f"an edge is {list(pair)}, but no label is {end!r}: choose among {', '.join(by_name)}.")
    one, other = sorted(known[end] for end in pair)
    return one, other


def _check_labels(labels: Sequence[Label]) -> None:
    if len(labels) < 2:
        raise InputError(f"{len(labels)} labels: give the background and at least one structure.")
    for label in labels:
        values = (label.value, *label.also)
        if not all(type(value) is int and 0 <= value <= 65535 for value in values):
            raise InputError(f"label {label.name!r} has the value {label.value!r}: give whole numbers 0 to 65535.")
        if not isinstance(label.name, str) or not label.name:
            raise InputError(f"the label of value {label.value} has the name {label.name!r}: give a text.")
        if label.group not in GROUPS:
            raise InputError(f"label {label.name!r} has the group {label.group!r}: choose one of {', '.join(GROUPS)}.")
    if labels[0].value != 0:
        raise InputError(f"the first label is {labels[0].value} {labels[0].name!r}: put the background, 0, first.")
    _refuse_twice((value for label in labels for value in (label.value, *label.also)), "value")
    _refuse_twice((label.name for label in labels), "name")


def _check_edges(edges: Sequence[tuple[int, int]], count: int) -> None:
    for one, other in edges:
        if not 0 <= one < other < count:
            raise InputError(f"an edge joins nodes {one} and {other}: give two different ones of 0 to {count - 1}.")
    _refuse_twice(edges, "edge")


def _refuse_twice(items: Iterable[Any], what: str) -> None:
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        raise InputError(f"the {what} {twice[0]!r} occurs twice: keep one.")
