# SPDX-License-Identifier: Apache-2.0
"""One case with many structures: each structure of a predicted label map against the reference's.

The conventions of the S2A-Net paper's evaluation, which are MedPy's (0.5.2): HD95 over both directed sets of distances
joined, ASSD as their mean, signed RVD. The paper measures distances in voxels, here they are in mm unless asked for
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.errors import InputError
from custom_nets.metrics.label_maps import Box, common_boxes, joint_histogram, label_map_pair
from custom_nets.metrics.surfaces import SURFACE_KEYS, surface_metrics

#: What is averaged: all of it, or all but the surface distances where they were not computed.
STRUCTURE_AVERAGED = (*("dice", "iou", "sensitivity", "specificity"), *(*SURFACE_KEYS, "rvd", "rvd_absolute"))

#: Volumes in ml, known even of a structure that the reference lacks.
STRUCTURE_VOLUMES = ("volume_ref_ml", "volume_pred_ml", "false_positive_ml")

#: The keys of one row: which structure, then numbers.
STRUCTURE_KEYS = ("structure", "name", *STRUCTURE_AVERAGED, *STRUCTURE_VOLUMES)

#: Units of the surface distances; the S2A-Net paper's are voxels, whatever their size.
DISTANCE_UNITS = ("mm", "voxel")


def structure_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    labels: Mapping[int, str],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    surface: bool = True,
    distance_unit: str = "mm",
    count_hallucinated: bool = False,
) -> list[dict[str, Any]]:
    """Compare the structures of two label maps: P where the prediction is k, G where the reference is k.

    Sensitivity TP / (TP + FN), specificity TN / (TN + FP), Dice 2TP / (#P + #G), IoU = Dice / (2 - Dice), RVD
    (#P - #G) / #G with its sign (over- and under-segmentation cancel in its mean) and ``rvd_absolute`` without.

    A structure that only the reference has: Dice, IoU and sensitivity 0, specificity 1, RVD -1, no distance (NaN). A
    structure that the reference lacks is not counted: all metrics are NaN, so that nothing punishes one that is
    predicted where there is none. These are the paper's rules; volumes are given in any case, which is where to see
    hallucinated structures (``volume_ref_ml`` 0, ``false_positive_ml`` above 0).

    Args:
        prediction: D x H x W, whole numbers.
        reference: the same shape.
        labels: label value -> name of the structure; 0 is the background, which has no row whether named or not.
        spacing: voxel size in mm along the three axes.
        surface: compute the surface distances, most of the time of a call.
        distance_unit: "mm", or "voxel" as in the paper.
        count_hallucinated: a structure that only the prediction has counts with Dice and IoU 0, in place of NaN.

    Returns:
        One row a structure in the order of the label values: the values of ``STRUCTURE_KEYS``, without ``SURFACE_KEYS``
        where ``surface`` is off.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, for a value that ``labels`` lacks, or for another
            unit.
    """
    check_distance_unit(distance_unit)
    predicted, true = label_map_pair(prediction, reference, labels)
    joint = joint_histogram(predicted, true, max(labels) + 1)
    boxes = common_boxes(predicted, true, max(labels)) if surface else {}
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    size = spacing if distance_unit == "mm" else (1.0, 1.0, 1.0)
    rows = []
    for value in sorted(set(labels) - {0}):
        tp, n_pred, n_ref = (int(count) for count in (joint[value, value], joint[value].sum(), joint[:, value].sum()))
        row: dict[str, Any] = {"structure": value, "name": labels[value]}
        row |= _overlap(tp, n_pred, n_ref, true.size, count_hallucinated)
        if surface:
            row |= _distances(predicted, true, value, boxes.get(value), size)
        row |= {key: n * voxel_ml for key, n in zip(STRUCTURE_VOLUMES, (n_ref, n_pred, n_pred - tp), strict=True)}
        rows.append({key: row[key] for key in STRUCTURE_KEYS if key in row})
    return rows


def check_distance_unit(unit: str) -> None:
    """Refuse a unit of the surface distances that is not "mm" or "voxel".

    Raises:
        InputError: naming the choices.
    """
    if unit not in DISTANCE_UNITS:
        raise InputError(f"distance_unit is {unit!r}; choose one of {', '.join(DISTANCE_UNITS)}")


def _overlap(tp: int, n_pred: int, n_ref: int, total: int, count_hallucinated: bool) -> dict[str, float]:
    """The metrics that need counts alone; all NaN for a structure that the reference lacks."""
    if not n_ref:
        row = dict.fromkeys((key for key in STRUCTURE_AVERAGED if key not in SURFACE_KEYS), math.nan)
        return row | (dict.fromkeys(("dice", "iou"), 0.0) if count_hallucinated and n_pred else {})
    dice = 2.0 * tp / (n_pred + n_ref)
    background = total - n_ref
    rvd = (n_pred - n_ref) / n_ref
    return {
        "dice": dice,
        "iou": dice / (2.0 - dice),
        "sensitivity": tp / n_ref,
        "specificity": (background - (n_pred - tp)) / background if background else math.nan,
        "rvd": rvd,
        "rvd_absolute": abs(rvd),
    }


def _distances(
    predicted: NDArray[np.int32], true: NDArray[np.int32], value: int, box: Box | None, spacing: Sequence[float]
) -> dict[str, float]:
    """Surface distances of one structure, computed in the smallest box that holds it in both label maps."""
    if box is None:
        return dict.fromkeys(SURFACE_KEYS, math.nan)
    return surface_metrics(predicted[box] == value, true[box] == value, spacing, assd="pooled", hd95="joined")
