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
from scipy import ndimage

from custom_nets.errors import InputError
from custom_nets.metrics.surfaces import SURFACE_KEYS, surface_metrics

#: What is averaged: all of it, or all but the surface distances where they were not computed.
STRUCTURE_AVERAGED = (
    *("dice", "iou", "sensitivity", "specificity"),
    *(*SURFACE_KEYS, "rvd", "rvd_absolute"),
)

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
    predicted, true = _label_map(prediction, "prediction", labels), _label_map(reference, "reference", labels)
    if predicted.shape != true.shape:
        raise InputError(
            f"the prediction's shape {predicted.shape} and the reference's {true.shape} must be equal;"
            " bring both onto one grid"
        )
    joint = _joint_histogram(predicted, true, max(labels) + 1)
    boxes = [ndimage.find_objects(one, max_label=max(labels)) for one in (predicted, true)]
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    size = spacing if distance_unit == "mm" else (1.0, 1.0, 1.0)
    rows = []
    for value in sorted(set(labels) - {0}):
        tp, n_pred, n_ref = (int(count) for count in (joint[value, value], joint[value].sum(), joint[:, value].sum()))
        row: dict[str, Any] = {"structure": value, "name": labels[value]}
        row |= _overlap(tp, n_pred, n_ref, true.size, count_hallucinated)
        if surface:
            row |= _distances(predicted, true, value, [found[value - 1] for found in boxes], size)
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


def _label_map(values: ArrayLike, name: str, labels: Mapping[int, str]) -> NDArray[np.int32]:
    """The values as integers, all of them background or in the table of labels."""
    array = np.asarray(values)
    if array.ndim != 3 or not array.size:
        raise InputError(f"the {name}'s shape is {array.shape}; a label map is D x H x W, without channels")
    known = sorted({0, *labels})
    gapless = array.dtype.kind in "biu" and known[-1] == len(known) - 1
    if not gapless or array.min() < 0 or array.max() > known[-1]:  # a look at all values takes longer
        unknown = np.setdiff1d(array, known)
        if unknown.size:
            shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", …" if unknown.size > 5 else "")
            raise InputError(
                f"the {name} holds {shown}, which the table of labels lacks (it has {known[0]} … {known[-1]});"
                " label maps are whole numbers: put an argmax before the metrics, or give the table of these labels"
            )
    return array.astype(np.int32, copy=False)


def _joint_histogram(predicted: NDArray[np.int32], true: NDArray[np.int32], classes: int) -> NDArray[np.int64]:
    """Voxels by predicted (row) and true (column) label."""
    return np.bincount((predicted * classes + true).ravel(), minlength=classes**2).reshape(classes, classes)


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
    predicted: NDArray[np.int32],
    true: NDArray[np.int32],
    value: int,
    boxes: Sequence[tuple[slice, ...] | None],
    spacing: Sequence[float],
) -> dict[str, float]:
    """Surface distances of one structure, computed in the smallest box that holds it in both label maps."""
    spans = [box for box in boxes if box is not None]
    if len(spans) < 2:
        return dict.fromkeys(SURFACE_KEYS, math.nan)
    common = tuple(
        slice(min(span.start for span in axis), max(span.stop for span in axis)) for axis in zip(*spans, strict=True)
    )
    return surface_metrics(predicted[common] == value, true[common] == value, spacing, assd="pooled", hd95="joined")
