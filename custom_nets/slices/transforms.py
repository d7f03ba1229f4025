# SPDX-License-Identifier: Apache-2.0
"""Dictionary transforms that prepare volumes and windows of slices for training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple
from torch import Tensor

from custom_nets.case_names import file_of
from custom_nets.errors import InputError
from custom_nets.slices.intensity import MEAN, STD, normalise
from custom_nets.slices.preparation import SlicePreparation, check_normalisation

_LARGEST_LABEL = torch.iinfo(torch.int16).max


class PrepareSlicesd(MapTransform):
    """Bring volumes to 8-bit slices of the network's size, and their label maps along.

    Labels take the very pixels that the image takes. Metadata are kept; the affine follows the new pixel size.

    Args:
        image_keys: 1 x D x H x W each, D slices; become uint8.
        label_keys: 1 x D x H x W each, whole numbers from 0; become uint8, or int16 if a label is above 255.
        preparation: scaling, size and index rule.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: when called, for a label that is negative or too large, naming the file.
    """

    def __init__(
        self,
        image_keys: KeysCollection,
        label_keys: KeysCollection,
        preparation: SlicePreparation,
        allow_missing_keys: bool = False,
    ) -> None:
        self.label_keys = ensure_tuple(label_keys)
        super().__init__((*ensure_tuple(image_keys), *self.label_keys), allow_missing_keys)
        self.preparation = preparation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by 1 x D x rows x columns for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = torch.as_tensor(result[key]).as_subclass(Tensor)
            if key in self.label_keys:
                made = _compact(self.preparation.resized(volume), file_of(result[key], key))
            else:
                made = self.preparation.scaled(volume)
            result[key] = _with_metadata(made, result[key], self.preparation)
        return result


class NormaliseSlicesd(MapTransform):
    """Turn windows of 8-bit slices into the network's input, float32, (u / 255 - mean) / std.

    Args:
        keys: any shape, 0 to 255; metadata are dropped.
        mean: of u / 255 over the training set.
        std: of u / 255 over the training set, above 0.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a mean or a deviation that cannot be.
    """

    def __init__(
        self, keys: KeysCollection, mean: float = MEAN, std: float = STD, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_normalisation(mean, std)
        self.mean = mean
        self.std = std

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = normalise(torch.as_tensor(result[key]), self.mean, self.std)
        return result


def _compact(label: Tensor, file: str) -> Tensor:
    """Store a label map in the smallest type that holds it."""
    low, high = label.aminmax()
    if not 0 <= low <= high <= _LARGEST_LABEL:
        raise InputError(f"{file} holds {low:g} to {high:g}: a label map has whole numbers from 0 to {_LARGEST_LABEL}")
    return label.round().to(torch.uint8 if high <= 255 else torch.int16)


def _with_metadata(made: Tensor, volume: Any, preparation: SlicePreparation) -> Tensor:
    """Give what was made of ``volume`` its metadata, if it has any."""
    if not isinstance(volume, MetaTensor):
        return made
    affine = preparation.affine(volume.affine, volume.shape[-2:], made.shape[-2:])
    return MetaTensor(made, meta={**volume.meta, "affine": affine})
