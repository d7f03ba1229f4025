# SPDX-License-Identifier: Apache-2.0
"""Dictionary transforms that MONAI lacks, for the bundles' pre- and postprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Spacingd
from monai.utils import convert_to_dst_type
from torch import Tensor

from custom_nets.components import neighbourhood, remove_small_components
from custom_nets.errors import InputError


class SafeSpacingd(Spacingd):
    """MONAI's `Spacingd` that leaves alone what it was not asked to resample.

    Since MONAI 1.6 `Spacingd` on the key ``image`` of a NIfTI file calls ``update()`` on every entry whose key starts
    with ``image_``, as if it were a metadata dictionary. MONAI Label always passes ``image_path``, a string, so there
    every request fails; own data lists with ``image_id`` fail alike. Such entries do not take part in the call here.
    Arguments, result and inverse are those of `Spacingd`. Two keys of one instance must not begin alike (``label`` and
    ``label_mask``): give each its own instance.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample ``data[key]`` (C x D x H x W) for every key; see `monai.transforms.Spacingd`."""
        bystanders = {key: value for key, value in data.items() if key not in self.keys and not isinstance(value, dict)}
        taking_part = {key: value for key, value in data.items() if key not in bystanders}
        return {**super().__call__(taking_part, lazy), **bystanders}


class ReorderChannelsd(MapTransform):
    """Put the channels of an image into another order, such as that of the network.

    Args:
        keys: of images, C x D x H x W.
        order: channel ``order[i]`` becomes channel i; every number from 0 to C - 1 once. 0, 1, 2 ... changes nothing,
            and then the image is not copied and may have any number of channels.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for an order that is none; when called, for an image with another number of channels.
    """

    def __init__(self, keys: KeysCollection, order: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if sorted(order) != list(range(len(order))):
            raise InputError(f"the order of channels is {list(order)}; give every number from 0 once, as [1, 3, 2, 0]")
        self.order = list(order)
        self.changes = self.order != sorted(self.order)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by the same image with its channels in order; type and metadata kept."""
        result = dict(data)
        for key in self.key_iterator(result) if self.changes else ():
            if result[key].shape[0] != len(self.order):
                raise InputError(
                    f"an order of {len(self.order)} channels is given but '{key}' has {result[key].shape[0]}; "
                    "correct 'modality' in the data list, or give each case that many"
                )
            result[key] = result[key][self.order]
        return result


class LesionThresholdd(MapTransform):
    """Turn the lesion's probabilities into a label: 1 where they exceed a threshold.

    Of two channels the lesion's is the second, and 0.5 is argmax, a tie being background. MONAI's `AsDiscreted` cannot
    take its place: it applies the threshold to both channels and keeps them both, and it counts a probability that
    equals the threshold as lesion.

    Args:
        keys: of probabilities, 1 x D x H x W (lesion) or 2 x D x H x W (background, lesion).
        threshold: above 0 and below 1; lower finds more lesions.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a threshold out of range; when called, for more than two channels.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0.0 < threshold < 1.0:
            raise InputError(f"the lesion threshold is {threshold}; choose a probability between 0 and 1, such as 0.5")
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by its label map, 1 x D x H x W, uint8, metadata kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            probabilities = result[key]
            if probabilities.shape[0] > 2:
                raise InputError(
                    f"a lesion threshold needs 1 channel (lesion) or 2 (background, lesion) but '{key}' has"
                    f" {probabilities.shape[0]}; use AsDiscreted with argmax for other numbers of classes"
                )
            result[key] = (probabilities[-1:] > self.threshold).to(torch.uint8)
        return result


class RemoveSmallComponentsd(MapTransform):
    """Delete connected components of a label map that are smaller than a volume in mm³.

    The voxel volume comes from the affine (1 mm³ without metadata), so the result does not depend on the voxel size.
    Each label value is treated by itself: touching lesions of two values are two components.

    Args:
        keys: of 1 x D x H x W label maps; 0 is background.
        min_volume: in mm³; a component is kept when its volume is at least this. 0 switches the transform off. MS
            protocols often ask for 3 mm³ or more.
        connectivity: neighbours that make two voxels one component: 6, 18 or 26.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a negative volume or another connectivity; when called, for more than one channel.
    """

    def __init__(
        self, keys: KeysCollection, min_volume: float = 0.0, connectivity: int = 26, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if min_volume < 0:
            raise InputError(f"the smallest volume is {min_volume} mm³; choose 0 (off) or more")
        neighbourhood(connectivity)  # refuse a wrong value before inference, not after it
        self.min_volume = min_volume
        self.connectivity = connectivity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by a label map without its small components; type and metadata kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            if result[key].shape[0] != 1:
                raise InputError(
                    f"small components are removed from label maps of 1 channel but '{key}' has {result[key].shape[0]};"
                    " put the threshold or argmax before it"
                )
            if self.min_volume > 0:
                result[key] = self._remove(result[key])
        return result

    def _remove(self, label: Tensor) -> Tensor:
        voxel_volume = 1.0
        if isinstance(label, MetaTensor):
            voxel_volume = float(torch.linalg.det(label.affine[:3, :3].double()).abs())
        values = label.numpy(force=True)[0]
        kept = np.zeros_like(values)
        for value in np.unique(values[values != 0]):
            mask = remove_small_components(values == value, self.min_volume, voxel_volume, self.connectivity)
            kept[mask] = value
        return convert_to_dst_type(kept[None], label)[0]
