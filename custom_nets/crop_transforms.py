# SPDX-License-Identifier: Apache-2.0
"""The crops of zoom-in&out training as dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, SpatialCrop

from custom_nets.errors import InputError
from custom_nets.volume_crops import lesion_start, random_start, random_start_around


class RandVolumeCropd(RandomizableTransform, MapTransform):
    """Crop at random, all starts alike; a share of the crops, if wished, is made to hold lesion.

    As published, but that a crop may begin at the last possible place, and may be as large as the volume. MONAI's
    `RandCropByPosNegLabeld` centres its crops on lesion voxels, which makes the middle of a crop mean something.

    Args:
        keys: C x D x H x W each, of one size, not smaller than the crop (pad before).
        label_key: among them; lesion where it is above 0.
        roi_size: of the crop.
        lesion_share: probability that a crop has to hold lesion, 0 (as published) to 1; the lesion voxel it must hold
            is drawn alike from all. A case without lesion is cropped anywhere.

    Raises:
        InputError: for a share outside 0 to 1.
    """

    def __init__(
        self, keys: KeysCollection, label_key: str, roi_size: Sequence[int], lesion_share: float = 0.0
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        if not 0 <= lesion_share <= 1:
            raise InputError(f"lesion_share is {lesion_share!r}: give a probability from 0 to 1")
        self.label_key = label_key
        self.roi_size = tuple(roi_size)
        self.lesion_share = lesion_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key at the same place; metadata follow."""
        label = data[self.label_key]
        shape = tuple(label.shape[1:])
        voxels: Any = ()
        if self.R.uniform() < self.lesion_share:
            voxels = np.flatnonzero(label[0].numpy(force=True) > 0)
        if len(voxels):
            voxel = np.unravel_index(voxels[self.R.randint(len(voxels))], shape)
            start = random_start_around([int(v) for v in voxel], shape, self.roi_size, self.R)
        else:
            start = random_start(shape, self.roi_size, self.R)
        return _cropped(self, data, start, self.roi_size)


class LesionCropd(MapTransform):
    """Crop around the lesions' median, as the validation of zoom-in&out training does; see `lesion_start`.

    Args:
        keys: C x D x H x W each, of one size, not smaller than the crop (pad before).
        label_key: among them; lesion where it is above 0.
        roi_size: of the crop.
    """

    def __init__(self, keys: KeysCollection, label_key: str, roi_size: Sequence[int]) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.roi_size = tuple(roi_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key at the same place; metadata follow."""
        start = lesion_start(data[self.label_key][0].numpy(force=True), self.roi_size)
        return _cropped(self, data, start, self.roi_size)


def _cropped(
    transform: MapTransform, data: Mapping[Hashable, Any], start: Sequence[int], size: Sequence[int]
) -> dict[Hashable, Any]:
    crop = SpatialCrop(roi_start=start, roi_end=[s + length for s, length in zip(start, size, strict=True)])
    return {**data, **{key: crop(data[key]) for key in transform.key_iterator(dict(data))}}
