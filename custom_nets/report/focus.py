# SPDX-License-Identifier: Apache-2.0
"""Where to look at a structure: inside it, at the middle of its largest part."""

from __future__ import annotations

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.components import connected_components


def focus_points(labels: NDArray[np.integer], affine: NDArray[np.float64]) -> dict[int, list[float]]:
    """Find a voxel of every structure to look at; the centroid of one that is scattered or bent lies outside of it.

    Args:
        labels: X x Y x Z, whole numbers; 0 is the background.
        affine: 4 x 4, voxel index -> RAS coordinates in mm.

    Returns:
        Label -> R, A, S in mm of the voxel, of its largest connected component, that is nearest to the component's
        centroid.
    """
    points = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        components, voxels = connected_components(labels[box] == value)
        inside = np.argwhere(components == voxels.argmax() + 1)
        nearest = inside[((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        position = apply_affine(affine, nearest + [part.start for part in box])
        points[value] = [round(float(one), 2) for one in position]
    return points
