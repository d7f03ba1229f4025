# SPDX-License-Identifier: Apache-2.0
"""Is a label map a spine? A check of one prediction along the cranio-caudal axis that needs no reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from custom_nets.components import connected_components, neighbourhood
from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph


@dataclass(frozen=True)
class Finding:
    """Something in a label map that no spine has.

    Attributes:
        kind: "swap", two labels are in the wrong order; "gap", labels are missing between two that are there;
            "pieces", a label is not one piece.
        text: a sentence on it.
        labels: the names it is about.
        data: numbers, JSON-able.
    """

    kind: str
    text: str
    labels: tuple[str, ...]
    data: dict[str, Any]


def spine_order(graph: LabelGraph) -> list[int]:
    """Return vertebrae and discs from the bottom upwards, each disc between the vertebrae that its edges lead to.

    The first disc with an edge to the lowest vertebra alone is below it, others with one such edge are above theirs.
    Discs whose edges say neither are left out: those of a graph measured from data may lead anywhere.
    """
    vertebrae = graph.nodes("vertebra")
    place = {node: float(at) for at, node in enumerate(vertebrae)}
    for disc in graph.nodes("disc"):
        ends = sorted(
            vertebrae.index(node) for edge in graph.edges if disc in edge for node in edge if node in vertebrae
        )
        if len(ends) == 1:
            place[disc] = -0.5 if ends == [0] and -0.5 not in place.values() else ends[0] + 0.5
        elif len(ends) == 2 and ends[1] - ends[0] == 1:
            place[disc] = ends[0] + 0.5
    return sorted(place, key=lambda node: place[node])


def order_findings(
    labels: ArrayLike,
    graph: LabelGraph,
    affine: ArrayLike | None = None,
    smallest_share: float = 0.05,
    connectivity: int = 26,
) -> list[Finding]:
    """Check the vertebrae and discs of a label map, and that every label is one piece.

    From the bottom upwards the centroids must rise in the order of :func:`spine_order`, and no label may be missing
    between two that are there. A spine does not turn back on its way up, so that the order along its arc is that of the
    heights.

    Args:
        labels: D x H x W, numbers of the graph's nodes.
        graph: says which of them are vertebrae and discs.
        affine: 4 x 4, voxel index to mm (RAS), for arrays of any orientation; None takes the last axis for height,
            upwards, in voxels.
        smallest_share: pieces with less than this share of their label's voxels are no finding.
        connectivity: neighbours that make two voxels one piece: 6, 18 or 26.

    Returns:
        Swaps and gaps, from the bottom upwards, then pieces; nothing for a spine as it should be.

    Raises:
        InputError: if the shape is not D x H x W, for a value that is no node, or for another connectivity.
    """
    neighbourhood(connectivity)
    values = _nodes(labels, len(graph))
    found = ndimage.find_objects(values, max_label=len(graph) - 1)
    boxes = {node: box for node, box in enumerate(found, start=1) if box is not None}
    chain, names = spine_order(graph), graph.node_names()
    heights = {node: _height(values, node, boxes[node], affine) for node in chain if node in boxes}
    return [
        *_swaps(chain, heights, names, "voxels" if affine is None else "mm"),
        *_gaps(chain, heights, names),
        *_pieces(values, boxes, names, smallest_share, connectivity),
    ]


def _nodes(labels: ArrayLike, count: int) -> NDArray[np.int32]:
    values = np.asarray(labels)
    if values.ndim != 3 or not values.size:
        raise InputError(f"the label map's shape is {values.shape}: give D x H x W, without channels")
    low, high = values.min(), values.max()
    if not (low >= 0 and high < count):
        raise InputError(
            f"the label map holds {low:g} … {high:g}, but the graph has the nodes 0 … {count - 1}; check the order"
            " while label maps hold nodes, before they become the values of files"
        )
    return values.astype(np.int32, copy=False)


def _height(values: NDArray[np.int32], node: int, box: tuple[slice, ...], affine: ArrayLike | None) -> float:
    """How far up the centroid of a label is."""
    centroid = np.argwhere(values[box] == node).mean(axis=0) + [span.start for span in box]
    return float(centroid[2] if affine is None else np.asarray(affine)[2] @ [*centroid, 1.0])


def _swaps(
    chain: Sequence[int], heights: Mapping[int, float], names: Mapping[int, str], unit: str
) -> Iterator[Finding]:
    for lower, upper in pairwise(node for node in chain if node in heights):
        if heights[upper] <= heights[lower]:
            pair = names[lower], names[upper]
            drop = heights[lower] - heights[upper]
            text = f"{pair[1]} is not above {pair[0]} but {drop:.1f} {unit} below"
            yield Finding("swap", text, pair, {"drop": drop, "unit": unit})


def _gaps(chain: Sequence[int], heights: Mapping[int, float], names: Mapping[int, str]) -> Iterator[Finding]:
    places = [place for place, node in enumerate(chain) if node in heights]
    for lower, upper in pairwise(places):
        missing = tuple(names[node] for node in chain[lower + 1 : upper])
        if missing:
            ends = names[chain[lower]], names[chain[upper]]
            verb = "is" if len(missing) == 1 else "are"
            text = f"{', '.join(missing)} {verb} missing between {ends[0]} and {ends[1]}"
            yield Finding("gap", text, missing, {"between": list(ends)})


def _pieces(
    values: NDArray[np.int32],
    boxes: Mapping[int, tuple[slice, ...]],
    names: Mapping[int, str],
    smallest_share: float,
    connectivity: int,
) -> Iterator[Finding]:
    for node, box in boxes.items():
        voxels = connected_components(values[box] == node, connectivity).voxels
        pieces = np.sort(voxels[voxels >= smallest_share * voxels.sum()])[::-1].tolist()
        if len(pieces) > 1:
            shown = " + ".join(map(str, pieces))
            text = f"{names[node]} is in {len(pieces)} pieces ({shown} voxels)"
            yield Finding("pieces", text, (names[node],), {"voxels": pieces})
