# SPDX-License-Identifier: Apache-2.0
"""One case with a brain tumour: the regions of two label maps, with the BraTS challenge's rules for empty ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.components import bounding_box
from custom_nets.errors import InputError
from custom_nets.metrics.lesion_wise import LESION_WISE_COUNTS, LESION_WISE_SCORES, lesion_wise_metrics
from custom_nets.metrics.masks import require_one_grid
from custom_nets.metrics.surfaces import surface_metrics
from custom_nets.tumours.regions import REGIONS, region_masks, values_of

#: HD95 in mm where one of two masks is empty: the diagonal of the challenge's volumes, 240 x 240 x 155 voxels of 1 mm.
EMPTY_HD95 = 373.13

#: Which regions have a value where the reference is empty, or no distance can be measured: name of a rule -> regions.
EMPTY_RULES: Mapping[str, tuple[str, ...]] = {"all": tuple(REGIONS), "et": ("ET",)}

#: What is averaged of each region: all of it, or what was computed.
TUMOUR_MEASURES = ("dice", "hd95", "sensitivity", "specificity", *LESION_WISE_SCORES)

#: Of these a case also has the mean over its regions, as ``mean_dice``.
REGION_MEANS = ("dice", "hd95", *LESION_WISE_SCORES)

#: What is only listed: volumes in ml and numbers of lesions.
TUMOUR_SIZES = ("volume_ref_ml", "volume_pred_ml", *LESION_WISE_COUNTS)

#: The keys that are averaged over cases, in the order of the table.
TUMOUR_AVERAGED = tuple(
    key
    for measure in TUMOUR_MEASURES
    for key in (
        *((f"mean_{measure}",) if measure in REGION_MEANS else ()),
        *(f"{measure}_{region.lower()}" for region in REGIONS),
    )
)

#: The keys of one row, in the order of the table; all values are numbers.
TUMOUR_KEYS = (*TUMOUR_AVERAGED, *(f"{size}_{region.lower()}" for size in TUMOUR_SIZES for region in REGIONS))


def tumour_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    empty_rule: str = "all",
    surface: bool = True,
    lesion_wise: bool = False,
    **lesion_options: Any,
) -> dict[str, float]:
    """Compare the regions ET, TC and WT of two label maps: P of the prediction, G of the reference.

    Dice 2TP / (#P + #G), sensitivity TP / (TP + FN), specificity TN / (TN + FP) over the whole volume, and HD95, the
    larger of the two directed 95th percentiles of the surface distances (linear interpolation; a surface is a mask
    without its erosion, as MONAI takes it).

    Empty regions, the challenge's rule: both empty is perfect agreement, Dice 1 and HD95 0 mm; one empty is Dice 0 and
    HD95 373.13 mm. Sensitivity and specificity are NaN where they are undefined. Under the rule "et", that of the
    S2CA-Net paper's released evaluation, only ET is treated so: TC and WT have no Dice (NaN) without a reference and no
    HD95 where either mask is empty, and the case's means are then NaN too.

    Args:
        prediction: D x H x W, the values of the convention "brats": 1 necrotic and non-enhancing core, 2 oedema,
            4 enhancing tumour, 0 elsewhere.
        reference: the same shape and values.
        spacing: voxel size in mm along the three axes.
        empty_rule: "all" or "et".
        surface: compute HD95, most of the time of a call.
        lesion_wise: add the lesion-wise scores and counts.
        lesion_options: of :func:`~custom_nets.metrics.lesion_wise.lesion_wise_metrics`.

    Returns:
        One row: those of ``TUMOUR_KEYS`` that were computed, such as ``mean_dice`` (over the three regions),
        ``dice_et``, ``hd95_wt`` (mm) and ``volume_ref_ml_tc``.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, for values of another convention, or for another
            rule.
    """
    ruled = empty_rule_regions(empty_rule)
    predicted, true = np.asarray(prediction), np.asarray(reference)
    require_one_grid(predicted, true)
    box = bounding_box((predicted != 0) | (true != 0))
    masks = [_regions(values[box], name) for name, values in (("prediction", predicted), ("reference", true))]
    measured: dict[str, float] = {}
    for region in REGIONS:
        pair = (masks[0][region], masks[1][region])
        values = _overlap(*pair, true.size, spacing, region in ruled)
        if surface:
            values["hd95"] = _hd95(*pair, spacing, region in ruled)
        if lesion_wise:
            values |= lesion_wise_metrics(*pair, spacing, **lesion_options)
        measured |= {f"{key}_{region.lower()}": value for key, value in values.items()}
    for measure in REGION_MEANS:
        own = [measured.get(f"{measure}_{region.lower()}") for region in REGIONS]
        if own[0] is not None:
            measured[f"mean_{measure}"] = float(np.mean(np.array(own, dtype=float)))
    return {key: measured[key] for key in TUMOUR_KEYS if key in measured}


def empty_rule_regions(name: str) -> tuple[str, ...]:
    """Return the regions that have a value when empty.

    Raises:
        InputError: for another rule than those of ``EMPTY_RULES``.
    """
    if name not in EMPTY_RULES:
        raise InputError(f"empty_rule is {name!r}; choose one of {', '.join(EMPTY_RULES)}")
    return EMPTY_RULES[name]


def _regions(values: NDArray[Any], name: str) -> dict[str, NDArray[np.bool_]]:
    """The masks of the regions; refuses values that are no part of a tumour."""
    known = (0, *values_of("brats").values())
    unknown = np.setdiff1d(values, known)
    if unknown.size:
        shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", …" if unknown.size > 5 else "")
        raise InputError(
            f"the {name} holds {shown}, but tumours are scored from the label values"
            f" {', '.join(map(str, known))}; bring it to the convention 'brats' (option label_convention)"
        )
    return region_masks(values)


def _overlap(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], total: int, spacing: Sequence[float], ruled: bool
) -> dict[str, float]:
    """The measures that need counts alone, in a volume of ``total`` voxels, and the volumes."""
    n_pred, n_ref, tp = (int(np.count_nonzero(mask)) for mask in (predicted, true, predicted & true))
    background = total - n_ref
    of_nothing = float(not n_pred) if ruled else math.nan
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    return {
        "dice": 2.0 * tp / (n_pred + n_ref) if n_ref else of_nothing,
        "sensitivity": tp / n_ref if n_ref else math.nan,
        "specificity": (background - (n_pred - tp)) / background if background else math.nan,
        "volume_ref_ml": n_ref * voxel_ml,
        "volume_pred_ml": n_pred * voxel_ml,
    }


def _hd95(predicted: NDArray[np.bool_], true: NDArray[np.bool_], spacing: Sequence[float], ruled: bool) -> float:
    filled = bool(predicted.any()), bool(true.any())
    if all(filled):
        return surface_metrics(predicted, true, spacing)["hd95"]
    if not ruled:
        return math.nan
    return EMPTY_HD95 if any(filled) else 0.0
