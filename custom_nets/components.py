# SPDX-License-Identifier: Apache-2.0
"""Connected components of a mask: what counts as one lesion, and how large it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.errors import InputError

#: Neighbours of a voxel -> how many axes a step may move along at once.
CONNECTIVITIES: dict[int, int] = {6: 1, 18: 2, 26: 3}

#: A spacing is stored in float32: a lesion of exactly 3 mm³ must not come out as 2.9999998 mm³.
VOLUME_TOLERANCE = 1e-5


class Components(NamedTuple):
    """The connected components of a mask.

    Attributes:
        labels: D x H x W, int32: 0 background, 1 … n the components.
        voxels: n counts, those of components 1 … n.
    """

    labels: NDArray[np.int32]
    voxels: NDArray[np.int64]


def neighbourhood(connectivity: int) -> NDArray[np.bool_]:
    """Return the 3 x 3 x 3 structuring element of a connectivity.

    Args:
        connectivity: 6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).

    Raises:
        InputError: for any other connectivity.
    """
    if connectivity not in CONNECTIVITIES:
        raise InputError(f"connectivity is {connectivity!r}; choose 6 (faces), 18 (edges too) or 26 (corners too)")
    return ndimage.generate_binary_structure(3, CONNECTIVITIES[connectivity])


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds every true voxel of ``mask`` (D x H x W); an empty box when there is none."""
    plane = np.any(mask, axis=2)  # the large array is read twice, not once per axis
    spans = [np.flatnonzero(line) for line in (np.any(plane, axis=1), np.any(plane, axis=0), np.any(mask, axis=(0, 1)))]
    first, second, third = (slice(span[0], span[-1] + 1) if span.size else slice(0, 0) for span in spans)
    return first, second, third


def connected_components(mask: NDArray[np.bool_], connectivity: int = 26) -> Components:
    """Label the connected components of a mask.

    Args:
        mask: D x H x W. Crop it to its bounding box first: the time goes with the number of voxels.
        connectivity: 6, 18 or 26 neighbours.

    Raises:
        InputError: for any other connectivity.
    """
    labels, count = ndimage.label(mask, neighbourhood(connectivity))
    return Components(labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])


def remove_small_components(
    mask: NDArray[np.bool_], min_volume: float, voxel_volume: float = 1.0, connectivity: int = 26
) -> NDArray[np.bool_]:
    """Return ``mask`` without its components smaller than ``min_volume``.

    MONAI's `RemoveSmallObjects` is not used: with scikit-image 0.26 it also removes objects of exactly the smallest
    size, it takes all voxels of a label for one object, and it connects the channels of a one-hot mask.

    Args:
        mask: D x H x W.
        min_volume: in mm³, 0 or more; a component is kept when its volume is at least this.
        voxel_volume: of one voxel, in mm³.
        connectivity: 6, 18 or 26 neighbours.

    Raises:
        InputError: for any other connectivity.
    """
    box = bounding_box(mask)
    labels, voxels = connected_components(mask[box], connectivity)
    large = voxels * voxel_volume >= min_volume * (1.0 - VOLUME_TOLERANCE)
    kept = np.zeros_like(mask)
    kept[box] = np.concatenate(([False], large))[labels]
    return kept
