# SPDX-License-Identifier: Apache-2.0
"""Dictionary transforms between label maps, overlapping regions and logits of brain tumours; metadata are kept.

Label maps in memory are 1 x D x H x W in the convention "brats"; regions are 4 x D x H x W, in the order of
:data:`~custom_nets.tumours.regions.CHANNELS`: background, enhancing tumour, tumour core, whole tumour.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.tumours.cleaning import (
    Nesting,
    SuppressionMode,
    check_choice,
    check_regions,
    labels_from_regions,
    remove_small_regions,
    suppress_small_enhancing,
)
from custom_nets.tumours.regions import converted, region_masks, values_of


class _Arrayd(MapTransform):
    """Replaces ``data[key]`` by a function of its array; the input itself is not changed."""

    dtype = torch.uint8

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            value = torch.as_tensor(result[key])
            array = np.ascontiguousarray(self.changed(value.numpy(force=True)))
            result[key] = convert_to_dst_type(array, value, dtype=self.dtype)[0]
        return result

    @abstractmethod
    def changed(self, array: NDArray[Any]) -> NDArray[Any]:
        """The new value of one entry."""


class TumourLabelsd(_Arrayd):
    """Bring label maps of any convention into "brats": 0 background, 1 core, 2 oedema, 4 enhancing tumour.

    Args:
        keys: 1 x D x H x W each; values that are no part become background.
        convention: of the label maps: brats, brats2023 or msd.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for an unknown convention; when called, for more than one channel.
    """

    def __init__(self, keys: KeysCollection, convention: str = "brats", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        values_of(convention)  # refuse a wrong name before the first case
        self.convention = convention

    def changed(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """1 x D x H x W of the convention -> 1 x D x H x W of "brats", uint8."""
        return converted(_one_channel(array), self.convention)


class OutputConventiond(_Arrayd):
    """Bring label maps from "brats" into the convention that is to be written.

    Args:
        keys: 1 x D x H x W each, 0, 1, 2 or 4.
        convention: wanted: brats (for the portal of BraTS 2021 and before), brats2023 or msd.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for an unknown convention; when called, for more than one channel.
    """

    def __init__(self, keys: KeysCollection, convention: str = "brats", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        values_of(convention)
        self.convention = convention

    def changed(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """1 x D x H x W of "brats" -> 1 x D x H x W of the convention, uint8."""
        return converted(_one_channel(array), "brats", self.convention)


class TumourRegionsd(_Arrayd):
    """Turn label maps into the network's target: background and the three overlapping regions.

    Args:
        keys: 1 x D x H x W each, 0, 1, 2 or 4.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: when called, for more than one channel.
    """

    dtype = torch.float32

    def changed(self, array: NDArray[Any]) -> NDArray[Any]:
        """1 x D x H x W -> 4 x D x H x W, float32, 0 or 1."""
        regions = region_masks(_one_channel(array)[0])
        return np.stack([~regions["WT"], *regions.values()])


class RegionsFromLogitsd(MapTransform):
    """Turn logits into binary channels: 1 where the sigmoid is at least a threshold.

    Args:
        keys: 4 x D x H x W each.
        threshold: above 0 and below 1; lower finds more.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a threshold out of range; when called, for another number of channels.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0.0 < threshold < 1.0:
            raise InputError(f"the threshold is {threshold}; choose a probability between 0 and 1, such as 0.5")
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by 4 x D x H x W, uint8."""
        result = dict(data)
        for key in self.key_iterator(result):
            check_regions(result[key].shape)
            result[key] = (_as_float(result[key]).sigmoid() >= self.threshold).to(torch.uint8)
        return result


class RemoveSmallRegionsd(_Arrayd):
    """Delete small face-connected components of ET, TC and WT; see `remove_small_regions`.

    Args:
        keys: 4 x D x H x W each, 0 or 1.
        min_voxels: the fewest voxels that a component keeps; 0 switches the transform off.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a negative number; when called, for another number of channels.
    """

    def __init__(self, keys: KeysCollection, min_voxels: int = 10, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.min_voxels = _count("min_voxels", min_voxels)

    def changed(self, array: NDArray[Any]) -> NDArray[Any]:
        """4 x D x H x W -> 4 x D x H x W, uint8."""
        return remove_small_regions(array, self.min_voxels)


class SuppressSmallEnhancingd(_Arrayd):
    """Take a small enhancing tumour for core; see `suppress_small_enhancing`.

    Args:
        keys: 4 x D x H x W each, 0 or 1.
        threshold: fewer voxels are small; 0 switches the transform off.
        mode: "global" counts all enhancing tumour, "local" each component by itself.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a negative number or another mode; when called, for another number of channels.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: int = 400,
        mode: SuppressionMode = "global",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_choice("mode", mode, ("global", "local"))
        self.threshold = _count("threshold", threshold)
        self.mode: SuppressionMode = mode

    def changed(self, array: NDArray[Any]) -> NDArray[Any]:
        """4 x D x H x W -> 4 x D x H x W, uint8."""
        return suppress_small_enhancing(array, self.threshold, self.mode)


class LabelsFromRegionsd(_Arrayd):
    """Write one label a voxel, 0, 1, 2 or 4; see `labels_from_regions`.

    Args:
        keys: 4 x D x H x W each, 0 or 1.
        nesting: "published", or "nested": where regions contradict each other the innermost one decides.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for another rule; when called, for another number of channels.
    """

    def __init__(self, keys: KeysCollection, nesting: Nesting = "published", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        check_choice("nesting", nesting, ("published", "nested"))
        self.nesting: Nesting = nesting

    def changed(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """4 x D x H x W -> 1 x D x H x W, uint8."""
        return labels_from_regions(array, self.nesting)[None]


def _as_float(logits: Any) -> Tensor:
    """At least float32: a half-precision sigmoid rounds onto the threshold."""
    tensor = torch.as_tensor(logits)
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _one_channel(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 4 or len(array) != 1:
        raise InputError(f"a tumour's label map has the shape {list(array.shape)}: give 1 x D x H x W")
    return array


def _count(option: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{option} is {value!r}: give a number of voxels, 0 (off) or more")
    return value
