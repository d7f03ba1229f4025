# SPDX-License-Identifier: Apache-2.0
"""Distances between the surfaces of two masks, in mm.

MONAI's `get_edge_surface_distance` computes the same in float32 and warns of its own deprecated argument; its public
functions repeat the work for each metric, which took 0.33 s in place of 0.02 s for a 20 ml lesion in 197 x 233 x 189
voxels. A KD-tree of the surface voxels is as fast there as distance transforms of the cropped masks, and faster when a
false positive far away makes the crop large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from custom_nets.components import neighbourhood
from custom_nets.errors import InputError
from custom_nets.metrics.masks import cropped_pair

#: The values of :func:`surface_metrics`.
SURFACE_KEYS = ("hd", "hd95", "assd")


class SurfaceDistances(NamedTuple):
    """Distances in mm from every surface voxel of one mask to the nearest surface voxel of the other; none if empty.

    Attributes:
        from_prediction: one a surface voxel of the prediction.
        from_reference: one a surface voxel of the reference.
    """

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]


def _pooled(distances: SurfaceDistances) -> float:
    return float(np.mean(np.concatenate(distances)))


def _directed(distances: SurfaceDistances) -> float:
    return float(np.mean([directed.mean() for directed in distances]))


#: Conventions of the average symmetric surface distance: over the voxels of both surfaces, as MONAI's symmetric
#: average and MedPy from version 0.5, or the mean of the two directed means, as older MedPy. The 3D-ResU-Net paper does
#: not say which is its own; the reference values of the S2A-Net paper's evaluation are those of MedPy 0.5.2.
ASSD_CONVENTIONS: dict[str, Callable[[SurfaceDistances], float]] = {"pooled": _pooled, "directed": _directed}


def _larger_percentile(distances: SurfaceDistances) -> float:
    return float(max(np.percentile(directed, 95) for directed in distances))


def _joined_percentile(distances: SurfaceDistances) -> float:
    return float(np.percentile(np.concatenate(distances), 95))


#: Conventions of the 95th percentile: the larger of the two directed ones, as MONAI, or that of both directed sets
#: joined, as MedPy and with it the S2A-Net paper.
HD95_CONVENTIONS: dict[str, Callable[[SurfaceDistances], float]] = {
    "larger": _larger_percentile,
    "joined": _joined_percentile,
}


def assd_convention(name: str) -> Callable[[SurfaceDistances], float]:
    """Return the average symmetric surface distance of a convention, "pooled" or "directed".

    Raises:
        InputError: for another name.
    """
    return _convention("assd", name, ASSD_CONVENTIONS)


def hd95_convention(name: str) -> Callable[[SurfaceDistances], float]:
    """Return the 95th percentile of a convention, "larger" or "joined".

    Raises:
        InputError: for another name.
    """
    return _convention("hd95", name, HD95_CONVENTIONS)


def _convention(
    option: str, name: str, conventions: dict[str, Callable[[SurfaceDistances], float]]
) -> Callable[[SurfaceDistances], float]:
    if name not in conventions:
        raise InputError(f"{option} is {name!r}; choose one of {', '.join(conventions)}")
    return conventions[name]


def surface(mask: NDArray[np.bool_], connectivity: int = 6) -> NDArray[np.bool_]:
    """Return the voxels of ``mask`` (D x H x W) with a neighbour in the background; outside the volume is background.

    Args:
        mask: D x H x W.
        connectivity: 6, neighbours that share a face, 18 or 26.
    """
    return mask & ~ndimage.binary_erosion(mask, neighbourhood(connectivity))


def surface_distances(
    prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1.0, 1.0, 1.0), connectivity: int = 6
) -> SurfaceDistances:
    """Measure both directed sets of distances between two surfaces.

    Args:
        prediction: D x H x W; lesion where it is not 0.
        reference: the same shape.
        spacing: voxel size in mm along the three axes.
        connectivity: of :func:`surface`.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, if the spacing is not three positive numbers, or
            for another connectivity.
    """
    size = np.asarray(spacing, dtype=float)
    if size.shape != (3,) or not np.all(size > 0):
        raise InputError(f"spacing is {spacing}; give three voxel sizes in mm, all above 0")
    points = [np.argwhere(surface(mask, connectivity)) * size for mask in cropped_pair(prediction, reference)]
    if not all(len(own) for own in points):
        return SurfaceDistances(np.empty(0), np.empty(0))
    # larger leaves than the default of 10: a tree is queried only once
    trees = [KDTree(own, leafsize=32) for own in points]
    return SurfaceDistances(trees[1].query(points[0])[0], trees[0].query(points[1])[0])


def surface_metrics(
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    assd: str = "pooled",
    both_empty_is_zero: bool = False,
    hd95: str = "larger",
    connectivity: int = 6,
) -> dict[str, float]:
    """Compare the surfaces of two masks.

    Args:
        prediction: D x H x W; lesion where it is not 0.
        reference: the same shape.
        spacing: voxel size in mm along the three axes.
        assd: "pooled" (mean over the voxels of both surfaces) or "directed" (mean of the two directed means).
        both_empty_is_zero: two empty masks agree; NaN otherwise.
        hd95: "larger" (of the two directed 95th percentiles) or "joined" (percentile of both directed sets together).
        connectivity: of :func:`surface`.

    Returns:
        In mm: ``hd``, the Hausdorff distance, the largest of all distances; ``hd95``, its 95th percentile; ``assd``,
        the average symmetric surface distance. NaN when a mask is empty.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, for a wrong spacing, or for another convention or
            connectivity.
    """
    average, percentile = assd_convention(assd), hd95_convention(hd95)
    if both_empty_is_zero and not np.any(prediction) and not np.any(reference):
        return dict.fromkeys(SURFACE_KEYS, 0.0)
    distances = surface_distances(prediction, reference, spacing, connectivity)
    if not distances.from_prediction.size:
        return dict.fromkeys(SURFACE_KEYS, math.nan)
    return {
        "hd": float(max(directed.max() for directed in distances)),
        "hd95": percentile(distances),
        "assd": average(distances),
    }
