# SPDX-License-Identifier: Apache-2.0
"""Weights of voxels that grow towards borders, for the optional losses of SpineParseNet (sections 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from custom_nets.errors import InputError

Floats = NDArray[np.float64]


def volume_border_weights(labels: ArrayLike, alpha: float = 1.0, beta: float = 8.0, omega: float = 2.0) -> Floats:
    """Weights of the coarse stage, alpha + beta exp(-d² / omega²).

    d is the distance, in voxels, from a voxel of any label to the background, or from a background voxel to a label.

    Args:
        labels: D x H x W, the padded volume; 0 is background.
        alpha: far from any border.
        beta: how much borders add.
        omega: how far they reach, in voxels.

    Returns:
        D x H x W; alpha everywhere where there is no border.
    """
    foreground = np.asarray(labels) > 0
    if foreground.all() or not foreground.any():
        return np.full(foreground.shape, float(alpha))
    return alpha + beta * np.exp(-np.square(_to_border(foreground) / omega))


def slice_border_weights(
    labels: ArrayLike, alpha: float = 1.0, beta: float = 40.0, omega: float = 6.0, absent: str = "published"
) -> Floats:
    """Weights of the refinement: in each slice the mean of alpha + beta exp(-d² / omega²) over the volume's labels.

    d is the distance in the slice, in pixels, to the border of one label, background counted as one.

    Args:
        labels: D x H x W.
        alpha: far from any border.
        beta: how much borders add.
        omega: how far they reach, in pixels.
        absent: a label of the volume that a slice lacks has no border there. "published": its border counts as lying
            in the one pixel above the slice's first, where the library's distances of a full mask happen to begin.
            "none": it adds no more than alpha.

    Returns:
        D x H x W.

    Raises:
        InputError: for another rule.
    """
    if absent not in ("published", "none"):
        raise InputError(f"absent is {absent!r}: choose published or none.")
    volume = np.asarray(labels)
    present = np.unique(volume)
    missing = np.full(volume.shape[1:], np.inf)
    if absent == "published":
        missing = np.hypot(*np.ogrid[1 : volume.shape[1] + 1, : volume.shape[2]])
    weights = np.empty(volume.shape)
    for index, plane in enumerate(volume):
        masks = (plane == label for label in present)
        distances = (missing if mask.all() or not mask.any() else _to_border(mask) for mask in masks)
        borders = sum(np.exp(-np.square(distance / omega)) for distance in distances)
        weights[index] = alpha + beta * borders / len(present)
    return weights


class BorderWeightsd(MapTransform):
    """Compute a map of weights from a label map and keep it as an entry of its own.

    `monai.transforms.ConcatItemsd` joins both for the loss: behind the augmentation, which deforms the weights as an
    image if it is told to (``map_keys``), or before it, when they are sampled by nearest neighbour as labels are.

    Args:
        keys: one label map, 1 x D x H x W.
        weight_key: where the weights go, 1 x D x H x W, float32.
        stage: "coarse" (:func:`volume_border_weights`, of the padded volume) or "refinement"
            (:func:`slice_border_weights`), with their published numbers.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for another stage.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        weight_key: str = "weight",
        stage: str = "coarse",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        functions = {"coarse": volume_border_weights, "refinement": slice_border_weights}
        if stage not in functions:
            raise InputError(f"the stage of border weights is {stage!r}: choose coarse or refinement.")
        self.function = functions[stage]
        self.weight_key = weight_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add ``data[weight_key]`` with the metadata of the label map."""
        result = dict(data)
        for key in self.key_iterator(result):
            label = torch.as_tensor(result[key])
            weights = torch.from_numpy(self.function(label.numpy(force=True)[0])).float()[None].to(label.device)
            result[self.weight_key] = (
                MetaTensor(weights, meta=dict(label.meta)) if isinstance(label, MetaTensor) else weights
            )
        return result


def _to_border(mask: NDArray[np.bool_]) -> Floats:
    """From each voxel to the nearest one on the other side, both sides being there."""
    return distance_transform_edt(mask) + distance_transform_edt(~mask)
