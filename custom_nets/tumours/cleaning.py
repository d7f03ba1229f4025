# SPDX-License-Identifier: Apache-2.0
"""What cleans a predicted brain tumour: specks removed, a small enhancing tumour reclassified, one label a voxel.

All counts are voxels, as published for scans of 1 mm³ a voxel; voxels are connected through their faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.components import bounding_box, connected_components, remove_small_components
from custom_nets.errors import InputError
from custom_nets.tumours.regions import CHANNELS, CORE, ENHANCING, OEDEMA, values_of

#: The other form of a prediction: channels that exclude each other.
PART_CHANNELS = ("background", CORE, OEDEMA, ENHANCING)

#: Whether the enhancing tumour is small as a whole, or each of its components by itself.
SuppressionMode = Literal["global", "local"]

#: How regions that are not nested become labels; see :func:`labels_from_regions`.
Nesting = Literal["published", "nested"]


def remove_small_regions(channels: ArrayLike, min_voxels: int = 10) -> NDArray[Any]:
    """Delete the components of ET, TC and WT that have fewer voxels than a number, of each region by itself.

    The background is not touched, and a region may stick out of the one around it afterwards.

    Args:
        channels: 4 x D x H x W in the order of ``CHANNELS``, 0 or 1.
        min_voxels: the fewest voxels that stay; 0 or 1 keeps all.

    Returns:
        A new array of the same shape and type.

    Raises:
        InputError: for another number of channels.
    """
    result = np.array(channels)
    check_regions(result.shape)
    if min_voxels > 1:
        for region in result[1:]:
            region[...] = remove_small_components(region != 0, min_voxels, connectivity=6)
    return result


def suppress_small_enhancing(
    channels: ArrayLike, threshold: int = 400, mode: SuppressionMode = "global"
) -> NDArray[Any]:
    """Take a small enhancing tumour for non-enhancing core: its voxels leave ET and join TC and WT.

    BraTS scores a single wrong ET voxel in a case without enhancing tumour as a Dice of 0, hence the rule.

    Args:
        channels: 4 x D x H x W in the order of ``CHANNELS``, 0 or 1.
        threshold: ET with fewer voxels is small; 0 switches the rule off.
        mode: "global" counts all of ET, "local" each of its components.

    Returns:
        A new array of the same shape and type.

    Raises:
        InputError: for another mode or number of channels.
    """
    return _moved(channels, CHANNELS, "ET", ("TC", "WT"), threshold, mode)


def suppress_small_enhancing_part(
    channels: ArrayLike, threshold: int = 400, mode: SuppressionMode = "global"
) -> NDArray[Any]:
    """Take a small enhancing tumour for non-enhancing core where the channels exclude each other.

    Args:
        channels: 4 x D x H x W in the order of ``PART_CHANNELS``, 0 or 1.
        threshold: an enhancing tumour with fewer voxels is small; 0 switches the rule off.
        mode: "global" counts all of it, "local" each of its components.

    Returns:
        A new array of the same shape and type.

    Raises:
        InputError: for another mode or number of channels.
    """
    return _moved(channels, PART_CHANNELS, ENHANCING, (CORE,), threshold, mode)


def labels_from_regions(channels: ArrayLike, nesting: Nesting = "published") -> NDArray[np.uint8]:
    """Write one BraTS label a voxel: 4 enhancing tumour, 1 core, 2 oedema, 0 background.

    "published" writes 4 where ET, then 1 where TC and not ET, then 2 where WT and not TC: an ET voxel that lies in WT
    but not in TC ends as oedema. "nested" first enlarges the outer regions (TC by ET, WT by TC), so that the innermost
    region decides and no ET voxel is lost. Of regions that are nested both make the same labels.

    Args:
        channels: 4 x D x H x W in the order of ``CHANNELS``, 0 or 1; the background is not looked at.
        nesting: "published" or "nested".

    Returns:
        D x H x W.

    Raises:
        InputError: for another rule or number of channels.
    """
    check_choice("nesting", nesting, ("published", "nested"))
    regions = np.asarray(channels)
    check_regions(regions.shape)
    et, tc, wt = regions[1:] != 0
    values = values_of("brats")
    labels = np.zeros(et.shape, np.uint8)
    if nesting == "nested":
        labels[wt], labels[tc], labels[et] = values[OEDEMA], values[CORE], values[ENHANCING]
    else:
        labels[et], labels[tc & ~et], labels[wt & ~tc] = values[ENHANCING], values[CORE], values[OEDEMA]
    return labels


def check_regions(shape: Sequence[int]) -> None:
    """Raise `InputError` for a shape that is not 4 x D x H x W."""
    if len(shape) != 4 or shape[0] != len(CHANNELS):
        raise InputError(
            f"tumour regions have the shape {list(shape)}: give 4 x D x H x W, the channels {', '.join(CHANNELS)}"
        )


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InputError` for a value that is none of the choices."""
    if value not in choices:
        raise InputError(f"{option} is {value!r}: choose {' or '.join(choices)}")


def _moved(
    channels: ArrayLike, names: Sequence[str], source: str, targets: Sequence[str], threshold: int, mode: str
) -> NDArray[Any]:
    """The channels with what is small of ``source`` cleared there and set in ``targets``."""
    check_choice("mode", mode, ("global", "local"))
    result = np.array(channels)
    check_regions(result.shape)
    small = _small(result[names.index(source)] != 0, threshold, mode)
    for target in targets:
        result[names.index(target)][small] = 1
    result[names.index(source)][small] = 0
    return result


def _small(mask: NDArray[np.bool_], threshold: int, mode: str) -> NDArray[np.bool_]:
    if mode == "global":
        return mask if np.count_nonzero(mask) < threshold else np.zeros_like(mask)
    small = np.zeros_like(mask)
    box = bounding_box(mask)
    labels, voxels = connected_components(mask[box], connectivity=6)
    small[box] = np.concatenate(([False], voxels < threshold))[labels]
    return small
