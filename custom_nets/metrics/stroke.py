# SPDX-License-Identifier: Apache-2.0
"""Stroke lesions: the metrics of the 3D-ResU-Net paper's result table, and those that users of ATLAS ask for.

The paper's released evaluation stops at voxel counts. Surface distances, intervals and the treatment of empty masks are
ours, by the definitions in the field; what the authors did with an empty mask is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from custom_nets.metrics.lesions import LESION_COUNTS, lesion_metrics
from custom_nets.metrics.statistics import at_least_one, distribution
from custom_nets.metrics.surfaces import SURFACE_KEYS, surface_metrics
from custom_nets.metrics.voxels import VoxelReport

#: What one row counts of voxels.
VOXEL_COUNTS = ("tp", "fp", "fn", "tn")

#: What is averaged over cases: all of it, or all but the surface distances where they were not computed.
STROKE_AVERAGED = (
    *("dice", *SURFACE_KEYS, "tpr", "precision", "lesion_f1", "lesion_count_error"),
    *("volume_error_ml", "absolute_volume_error_ml"),
)

#: The keys of one row, in the order of the table; all values are numbers.
STROKE_KEYS = (*STROKE_AVERAGED, *("volume_ref_ml", "volume_pred_ml"), *(*VOXEL_COUNTS, *LESION_COUNTS))


def stroke_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    connectivity: int = 26,
    assd: str = "pooled",
    surface: bool = True,
    both_empty_is_zero: bool = False,
) -> dict[str, float]:
    """Compare a predicted lesion mask P with a reference mask R of one scan.

    Empty masks: what is undefined is NaN: the surface distances when either mask is empty, TPR when R is, precision
    when both are. An empty P that misses lesions has precision 0, as in the paper's code: leaving it out would reward
    it. Dice is 1 for two empty masks and 0 for one; lesion_f1 likewise.

    Args:
        prediction: D x H x W; lesion where it is not 0.
        reference: the same shape.
        spacing: voxel size in mm along the three axes.
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        assd: "pooled" or "directed", as in :func:`~custom_nets.metrics.surface_metrics`.
        surface: compute the surface distances, most of the time of a call.
        both_empty_is_zero: surface distances of two empty masks are 0 in place of NaN.

    Returns:
        One row: the values of ``STROKE_KEYS``, without ``SURFACE_KEYS`` where ``surface`` is off. Distances in mm;
        volumes and their errors (P - R, and its absolute value) in ml; ``lesion_count_error`` = abs(n_pred - n_ref);
        the other lesion values as in :func:`~custom_nets.metrics.lesion_metrics`.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, or for another connectivity or ``assd``.
    """
    row: dict[str, float] = dict(lesion_metrics(prediction, reference, spacing, connectivity))
    row["tn"] = np.size(reference) - row["tp"] - row["fp"] - row["fn"]
    row["tpr"] = row["tpr"] if row["tp"] + row["fn"] else math.nan
    row["precision"] = row["ppv"] if row["tp"] + row["fp"] + row["fn"] else math.nan
    row["lesion_f1"] = row["lf1"]
    row["lesion_count_error"] = abs(row["n_pred"] - row["n_ref"])
    row["volume_error_ml"] = row["volume_pred_ml"] - row["volume_ref_ml"]
    row["absolute_volume_error_ml"] = abs(row["volume_error_ml"])
    if surface:
        row |= surface_metrics(prediction, reference, spacing, assd, both_empty_is_zero)
    return {key: row[key] for key in STROKE_KEYS if key in row}


def pooled_voxels(rows: Iterable[Mapping[str, Any]]) -> VoxelReport:
    """Add up the voxels of all scans; ``hard_dice`` of the report is the paper's microDSC."""
    reports = (VoxelReport.of_counts(*(int(row[key]) for key in VOXEL_COUNTS)) for row in rows)
    return sum(reports, start=VoxelReport())


def summarise_stroke(rows: Iterable[Mapping[str, Any]], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Average rows of ``stroke_metrics`` over scans.

    Two Dice coefficients, easily mistaken: ``micro_dice`` pools the voxels of all scans, so that large lesions decide
    (the paper's microDSC); ``metrics.dice`` is the mean over scans (the paper's DSC). The paper's released evaluation
    prints the second under the words "micro averaged".

    Args:
        rows: at least one row; other keys, such as the case's name, are ignored.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A JSON-able dictionary. ``cases``: their number. ``micro_dice``. ``metrics``: for each averaged metric ``mean``,
        ``ci95`` (95 % bootstrap interval of the mean), ``std`` (sample standard deviation), ``median``, ``iqr`` (first
        and third quartile), ``n``, and ``left_out``, the number of scans for which it is undefined; what does not exist
        is None. ``pooled_voxels``: counts and rates over the voxels of all scans, where 0 stands for an undefined rate.
        ``bootstrap``: ``resamples`` and ``seed``.

    Raises:
        InputError: without any row, or for fewer than one resample.
    """
    cases = at_least_one(rows)
    pooled = pooled_voxels(cases)
    rates = {key: value for key, value in pooled.as_dict().items() if key not in ("hard_dice", "soft_dice")}
    return {
        "cases": len(cases),
        "micro_dice": pooled.hard_dice,
        "metrics": {
            key: distribution([float(row[key]) for row in cases], resamples, seed)
            for key in STROKE_AVERAGED
            if key in cases[0]
        },
        "pooled_voxels": rates,
        "bootstrap": {"resamples": resamples, "seed": seed},
    }
