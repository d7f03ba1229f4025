# SPDX-License-Identifier: Apache-2.0
"""Lesion-wise Dice and HD95 of one mask, as BraTS ranks by since 2023.

Written from the challenge's description of its procedure. Values agree with it in substance; ties that the description
leaves open, such as a lesion of exactly the smallest volume, may fall otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from custom_nets.components import VOLUME_TOLERANCE, connected_components, neighbourhood
from custom_nets.errors import InputError
from custom_nets.metrics.masks import cropped_pair
from custom_nets.metrics.surfaces import surface_metrics

#: HD95 in mm of a lesion that was missed or invented.
MISSED_HD95 = 374.0

#: What :func:`lesion_wise_metrics` averages, and what it counts.
LESION_WISE_SCORES = ("lesion_dice", "lesion_hd95")
LESION_WISE_COUNTS = ("lesions_found", "lesions_missed", "lesions_invented")


class _Lesions(NamedTuple):
    """Lesions of a pair of masks.

    Attributes:
        reference: D x H x W, 0 or the number of the reference lesion; those that nearly touch share one.
        predicted: D x H x W, 0 or the number of the predicted component.
        matches: number of each reference lesion that counts -> numbers of the predicted components near it.
        invented: number of predicted components that count and are near no reference lesion.
    """

    reference: NDArray[np.int32]
    predicted: NDArray[np.int32]
    matches: dict[int, NDArray[np.int32]]
    invented: int


def lesion_wise_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    dilations: int = 3,
    min_volume: float = 50.0,
    connectivity: int = 26,
    element: int = 18,
    missed_hd95: float = MISSED_HD95,
) -> dict[str, float]:
    """Compare two masks lesion by lesion.

    1. The reference is dilated; the connected components of the dilated mask, cut back to the reference, are its
       lesions, so that parts that nearly touch are one lesion. Lesions below ``min_volume`` do not count.
    2. A predicted component (of the mask as it is) matches every reference lesion whose dilated mask it meets, also one
       that does not count.
    3. A reference lesion with matches has the Dice and the HD95 of itself against all its matches together; without, it
       is missed: Dice 0, HD95 ``missed_hd95``. A predicted component without a match is invented, with the same
       penalty; those below ``min_volume`` do not count.
    4. The scores are means over all lesions found, missed and invented; 1 and 0 mm where there are none.

    Args:
        prediction: D x H x W; lesion where it is not 0.
        reference: the same shape.
        spacing: voxel size in mm along the three axes.
        dilations: how often the reference is dilated; 3 for adult glioma.
        min_volume: in mm³, 0 or more; 50 for adult glioma.
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        element: neighbours that one dilation adds: 6, 18 or 26.
        missed_hd95: in mm.

    Returns:
        ``lesion_dice``, ``lesion_hd95`` (mm), and the counts ``lesions_found``, ``lesions_missed``,
        ``lesions_invented``.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, or for a parameter out of its range.
    """
    check_lesion_rules(dilations, min_volume)
    masks = cropped_pair(prediction, reference)  # what grows beyond the box meets nothing that it does not meet inside
    least = min_volume / float(np.prod(np.asarray(spacing, dtype=float))) * (1.0 - VOLUME_TOLERANCE)
    lesions = _lesions(*masks, dilations, least, connectivity, element)
    found = [
        _scores(np.isin(lesions.predicted, matched), lesions.reference == number, spacing)
        for number, matched in lesions.matches.items()
        if matched.size
    ]
    missed = len(lesions.matches) - len(found)
    penalties = missed + lesions.invented
    total = len(found) + penalties
    return {
        "lesion_dice": sum(dice for dice, _ in found) / total if total else 1.0,
        "lesion_hd95": (sum(hd95 for _, hd95 in found) + penalties * missed_hd95) / total if total else 0.0,
        **dict(zip(LESION_WISE_COUNTS, (len(found), missed, lesions.invented), strict=True)),
    }


def check_lesion_rules(dilations: int, min_volume: float) -> None:
    """Refuse parameters of :func:`lesion_wise_metrics` that are out of range.

    Raises:
        InputError: naming the parameter.
    """
    if dilations < 0:
        raise InputError(f"dilations is {dilations}; give 0 (lesions are the components of the mask) or more")
    if not min_volume >= 0:
        raise InputError(f"min_volume is {min_volume}; give the volume in mm³ from which a lesion counts, 0 or more")


def _lesions(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], dilations: int, least: float, connectivity: int, element: int
) -> _Lesions:
    """Find the lesions of both masks and match them; lesions of fewer than ``least`` voxels do not count."""
    grown = true
    if dilations and true.any():
        grown = ndimage.binary_dilation(true, neighbourhood(element), iterations=dilations)
    near, regions = connected_components(grown, connectivity)
    components, voxels = connected_components(predicted, connectivity)
    both = (near > 0) & predicted
    pairs = np.unique(np.stack([near[both], components[both]]), axis=1)
    own = np.bincount(near[true], minlength=len(regions) + 1)
    counted = (number for number in range(1, len(regions) + 1) if own[number] >= least)
    matches = {number: pairs[1, pairs[0] == number] for number in counted}
    unmatched = np.setdiff1d(np.arange(1, len(voxels) + 1), pairs[1])
    return _Lesions(np.where(true, near, 0), components, matches, int(np.count_nonzero(voxels[unmatched - 1] >= least)))


def _scores(predicted: NDArray[np.bool_], true: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[float, float]:
    """Dice and HD95 of two masks that are not empty."""
    dice = 2.0 * np.count_nonzero(predicted & true) / (np.count_nonzero(predicted) + np.count_nonzero(true))
    return float(dice), surface_metrics(predicted, true, spacing)["hd95"]
