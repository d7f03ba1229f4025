# SPDX-License-Identifier: Apache-2.0
"""What is done about stray voxels of a predicted spine: every label keeps its largest piece."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.components import connected_components, neighbourhood
from custom_nets.errors import InputError


def largest_component_per_label(labels: NDArray[Any], connectivity: int = 26) -> NDArray[Any]:
    """Return a label map in which every label keeps its largest connected component; the rest becomes background.

    MONAI's `KeepLargestConnectedComponent` searches the whole volume once a label, this the box of each label: 0.06 s
    in place of 2.4 s for 19 labels in 16 x 880 x 880 voxels.

    Args:
        labels: D x H x W, whole numbers, 0 is background. Of components of one size the first stays.
        connectivity: neighbours that make two voxels one component: 6, 18 or 26.

    Raises:
        InputError: if the shape is not D x H x W, or for another connectivity.
    """
    if labels.ndim != 3:
        raise InputError(f"the label map's shape is {labels.shape}: give D x H x W, without channels")
    kept = np.array(labels)
    for label, box in enumerate(ndimage.find_objects(kept.astype(np.int32, copy=False)), start=1):
        if box is not None:
            mask = kept[box] == label
            found = connected_components(mask, connectivity)
            kept[box][mask & (found.labels != 1 + found.voxels.argmax())] = 0
    return kept


class LargestComponentPerLabeld(MapTransform):
    """Apply :func:`largest_component_per_label` to label maps of 1 x D x H x W.

    Args:
        keys: of the label maps.
        connectivity: neighbours that make two voxels one component: 6, 18 or 26.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for another connectivity; when called, for another shape.
    """

    def __init__(self, keys: KeysCollection, connectivity: int = 26, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        neighbourhood(connectivity)  # refuse a wrong value before an hour of inference, not after it
        self.connectivity = connectivity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean ``data[key]`` for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            if volume.ndim != 4 or volume.shape[0] != 1:
                raise InputError(f"'{key}' has the shape {tuple(volume.shape)}: give one label map, 1 x D x H x W")
            cleaned = largest_component_per_label(convert_to_numpy(volume)[0], self.connectivity)
            result[key] = convert_to_dst_type(cleaned[None], volume)[0]
        return result
