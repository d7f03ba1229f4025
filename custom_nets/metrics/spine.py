# SPDX-License-Identifier: Apache-2.0
"""One case with many vertebrae and discs: scores of each, of their groups, and whether they are called by their names.

The scores of the SpineParseNet paper's table and of its released evaluation, and errors of order, which are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.metrics.label_maps import common_boxes, joint_histogram, label_map_pair
from custom_nets.metrics.label_order import CALLS, CHAINS, Call, call_counts, chain_shift, label_calls
from custom_nets.metrics.slice_overlap import OverlapCounts
from custom_nets.metrics.surfaces import assd_convention, surface_metrics
from custom_nets.metrics.validation_dice import EPSILON as UNION_EPSILON
from custom_nets.metrics.validation_dice import validation_dice

#: Added to the denominators of Dice, precision and recall, as published.
EPSILON = 1e-10

#: The neighbours in whose absence a voxel is inside, of the published surfaces.
SURFACE_CONNECTIVITY = 18

#: What has a value for each structure, and for each group of a case: the mean of its structures.
SPINE_OVERLAP = ("dice", "precision", "recall")
SPINE_MEASURES = (*SPINE_OVERLAP, "assd")

#: Group of a label graph -> how the tables call it.
GROUP_NAMES = {"vertebra": "vertebrae", "disc": "discs", "canal": "canal", "other": "other"}


class SpineScores(NamedTuple):
    """Scores of one case.

    Attributes:
        case: numbers of the whole case by name.
        structures: one row a structure.
    """

    case: dict[str, float]
    structures: list[dict[str, Any]]


def label_groups(graph: LabelGraph) -> dict[str, list[int]]:
    """Return the nodes of each group that scores are averaged over: "all" but the background, "vertebrae", "discs", …

    Groups without a label are left out.
    """
    own = {name: [node for node in graph.nodes(group) if node] for group, name in GROUP_NAMES.items()}
    return {"all": list(range(1, len(graph))), **{name: nodes for name, nodes in own.items() if nodes}}


def overlap_scores(joint: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Score every label: Dice, precision and recall as the paper's table takes them.

    DSC = 2TP / (2TP + FP + FN + 1e-10), precision = TP / (TP + FP + 1e-10), recall = TP / (TP + FN + 1e-10). A label
    that only one of the two maps has scores 0, one that both lack has no score.

    Args:
        joint: K x K voxels by predicted (row) and true (column) label.

    Returns:
        ``dice``, ``precision`` and ``recall``, K values each, NaN where there is no score.
    """
    tp, n_pred, n_ref = joint.diagonal(), joint.sum(axis=1), joint.sum(axis=0)
    scores = {
        "dice": 2 * tp / (n_pred + n_ref + EPSILON),
        "precision": tp / (n_pred + EPSILON),
        "recall": tp / (n_ref + EPSILON),
    }
    return {key: np.where(n_pred + n_ref > 0, own, np.nan) for key, own in scores.items()}


def surface_scores(
    predicted: NDArray[np.int32], true: NDArray[np.int32], count: int, spacing: Sequence[float], assd: str = "directed"
) -> NDArray[np.float64]:
    """Measure the average symmetric surface distance of the labels 1 … ``count`` - 1, as MedPy with connectivity 2.

    Args:
        predicted: D x H x W, labels 0 … count - 1.
        true: the same shape.
        count: K, of the labels.
        spacing: voxel size in mm along the three axes.
        assd: "directed", the mean of the two directed means, as MedPy at the paper's time; "pooled" as it is today.

    Returns:
        K values in mm; NaN for the background, and where a label is missing in one of the two.

    Raises:
        InputError: for another convention, or a wrong spacing.
    """
    scores = np.full(count, np.nan)
    for label, box in common_boxes(predicted, true, count - 1).items():
        pair = predicted[box] == label, true[box] == label
        scores[label] = surface_metrics(*pair, spacing, assd=assd, connectivity=SURFACE_CONNECTIVITY)["assd"]
    return scores


def spine_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    graph: LabelGraph,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    surface: bool = True,
    assd: str = "directed",
    skip: Sequence[int] = (0,),
) -> SpineScores:
    """Compare two label maps of a spine.

    Args:
        prediction: D x H x W, numbers of the graph's nodes.
        reference: the same shape.
        graph: names and groups of the nodes.
        spacing: voxel size in mm along the three axes.
        surface: compute the surface distances, most of the time of a call.
        assd: "directed" or "pooled", see :func:`surface_scores`.
        skip: nodes that ``validation_dice`` leaves out.

    Returns:
        ``case``: ``dice_all``, ``dice_vertebrae``, …, for every measure and every group of :func:`label_groups` the
        mean over its structures that have a score; ``accuracy``, the share of equal voxels; ``dice_whole``, 2 ΣTP /
        (Σ#P + Σ#G) over the structures that the reference has; ``union_dice_vertebrae`` and ``union_dice_discs``, of
        the group as one mask; ``validation_dice``; how many structures in a chain are ``called_correct``,
        ``called_below``, … (see `CALLS`); ``order_errors``, how many have a wrong name; ``neighbour_share`` of the
        voxels in chains; ``chain_shift_vertebrae`` and ``chain_shift_discs`` (see :func:`chain_shift`).
        ``structures``: for each node but 0 its number (``structure``), ``value`` in files, ``name``, ``group``,
        scores, ``called`` (a node), ``shift``, ``neighbour_share`` as in `Call`, and volumes in ml.
        NaN is what does not exist; ``assd`` (mm) and its means are missing where ``surface`` is off.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, for a node that the graph lacks, or for another
            convention.
    """
    assd_convention(assd)
    predicted, true = label_map_pair(prediction, reference, range(len(graph)))
    joint = joint_histogram(predicted, true, len(graph))
    scores = overlap_scores(joint)
    if surface:
        scores["assd"] = surface_scores(predicted, true, len(graph), spacing, assd)
    calls = label_calls(joint, graph)
    case = {
        f"{measure}_{group}": _mean(values[nodes])
        for measure, values in scores.items()
        for group, nodes in label_groups(graph).items()
    }
    case |= {**_whole(joint, graph), "validation_dice": _validation(joint, skip), **_order(joint, calls, graph)}
    return SpineScores(case, _structures(joint, scores, calls, graph, spacing))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _whole(joint: NDArray[np.int64], graph: LabelGraph) -> dict[str, float]:
    """Scores that take labels together."""
    present = 1 + np.flatnonzero(joint.sum(axis=0)[1:])
    total = joint[present].sum() + joint[:, present].sum()
    row = {
        "accuracy": float(joint.trace() / joint.sum()),
        "dice_whole": float(2 * joint.diagonal()[present].sum() / total) if total else math.nan,
    }
    for group in CHAINS:
        nodes = graph.nodes(group)
        if nodes:
            size = joint[nodes].sum() + joint[:, nodes].sum()
            both = 2 * joint[np.ix_(nodes, nodes)].sum()
            row[f"union_dice_{GROUP_NAMES[group]}"] = float(both / (size + UNION_EPSILON)) if size else math.nan
    return row


def _validation(joint: NDArray[np.int64], skip: Sequence[int]) -> float:
    counts = (joint.diagonal(), joint.sum(axis=1), joint.sum(axis=0))
    return float(validation_dice(OverlapCounts(*(torch.tensor(own)[None] for own in counts)), skip))


def _order(joint: NDArray[np.int64], calls: Sequence[Call], graph: LabelGraph) -> dict[str, float]:
    """Errors of order in the chains of a case."""
    chained = [call for call in calls if call.node in graph.nodes(*CHAINS)]
    counts = call_counts(chained)
    voxels = [int(joint[:, call.node].sum()) for call in chained]
    shares = [call.neighbour_share for call in chained]
    return {
        **{f"called_{kind}": float(counts[kind]) for kind in CALLS},
        "order_errors": float(sum(counts[kind] for kind in ("below", "above", "other"))),
        "neighbour_share": float(np.average(shares, weights=voxels)) if chained else math.nan,
        **{
            f"chain_shift_{GROUP_NAMES[group]}": float(chain_shift(calls, graph.nodes(group)))
            for group in CHAINS
            if graph.nodes(group)
        },
    }


def _structures(
    joint: NDArray[np.int64],
    scores: dict[str, NDArray[np.float64]],
    calls: Sequence[Call],
    graph: LabelGraph,
    spacing: Sequence[float],
) -> list[dict[str, Any]]:
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    found = {call.node: call for call in calls}
    rows = []
    for node, label in list(enumerate(graph.labels))[1:]:
        n_pred, n_ref, call = int(joint[node].sum()), int(joint[:, node].sum()), found.get(node)
        rows.append(
            {
                **{"structure": node, "value": label.value, "name": label.name, "group": label.group},
                **{measure: float(values[node]) for measure, values in scores.items()},
                "called": math.nan if call is None else call.called,
                "shift": math.nan if call is None or call.shift is None else call.shift,
                "neighbour_share": math.nan if call is None else call.neighbour_share,
                "volume_ref_ml": n_ref * voxel_ml,
                "volume_pred_ml": n_pred * voxel_ml,
                "false_positive_ml": (n_pred - int(joint[node, node])) * voxel_ml,
            }
        )
    return rows
