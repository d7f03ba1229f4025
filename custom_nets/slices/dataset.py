# SPDX-License-Identifier: Apache-2.0
"""The slices of a set of volumes as training samples, such as each with its neighbours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset

from custom_nets.errors import InputError
from custom_nets.training.reproducible import derived_seed


class SlicesOfVolumes(Dataset, ABC):
    """One item a slice of every volume; what an item holds of its volume is the subclass's.

    Volumes are brought into memory by deterministic transforms; random ones work on items and depend on (seed, epoch,
    slice) alone.

    Args:
        data: list of cases.
        volume_transform: makes of a case volumes of C x D x H x W, slices along D; "image" is one of them.
        transform: of the items.
        seed: of the run.
        cache_rate: share of the volumes kept in memory; another one is read again for each of its slices.
        num_workers: threads that fill the cache.
        progress: show the filling of the cache.
    """

    def __init__(
        self,
        data: Sequence[Any],
        volume_transform: Compose,
        transform: Compose,
        seed: int = 0,
        cache_rate: float = 1.0,
        num_workers: int = 1,
        progress: bool = True,
    ) -> None:
        self.volumes = CacheDataset(
            list(data), volume_transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress
        )
        self.transform = transform
        self.seed = seed
        self.epoch = 0
        depths = [self.volumes[case]["image"].shape[1] for case in range(len(self.volumes))]
        self.slices = [(case, index) for case, depth in enumerate(depths) for index in range(depth)]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> Any:
        """Return item ``index`` of all slices, transformed."""
        case, centre = self.slices[index]
        item = self.item(self.volumes[case], centre)
        self.transform.set_random_state(seed=derived_seed(self.seed, self.epoch, index))
        return self.transform(item)

    @abstractmethod
    def item(self, volume: Mapping[str, Any], centre: int) -> dict[str, Tensor]:
        """Return what belongs to slice ``centre`` of a volume; the volume's memory must not be shared."""


class SliceWindows(SlicesOfVolumes):
    """One item a slice of every volume: the window around it, and its label.

    At the ends of a volume the first and the last slice are repeated, as published for S2aNet.

    Args:
        data: list of cases.
        volume_transform: makes of a case volumes of C x D x H x W (image) and 1 x D x H x W (label), slices along D.
        transform: of the windows {"image": (num_slices · C) x H x W, "label": 1 x H x W}.
        num_slices: of a window, odd.
        options: seed, cache_rate, num_workers, progress of `SlicesOfVolumes`.

    Raises:
        InputError: for an even number of slices.
    """

    def __init__(
        self, data: Sequence[Any], volume_transform: Compose, transform: Compose, num_slices: int = 3, **options: Any
    ) -> None:
        if num_slices < 1 or num_slices % 2 == 0:
            raise InputError(f"num_slices is {num_slices}: give an odd number, such as 3")
        self.num_slices = num_slices
        super().__init__(data, volume_transform, transform, **options)

    def item(self, volume: Mapping[str, Any], centre: int) -> dict[str, Tensor]:
        """Return the window around slice ``centre``."""
        image = plain(volume["image"])
        offsets = torch.arange(self.num_slices) - self.num_slices // 2
        window = image[:, (centre + offsets).clamp(0, image.shape[1] - 1)]
        return {"image": window.transpose(0, 1).flatten(0, 1), "label": plain(volume["label"])[:, centre].clone()}


def plain(volume: Tensor) -> Tensor:
    """The volume as a tensor without metadata, in the same memory."""
    return torch.as_tensor(volume).as_subclass(Tensor)
