# SPDX-License-Identifier: Apache-2.0
"""Randomness as a function of seed, epoch and case alone.

Nothing random survives an epoch: every epoch seeds the generators anew, and every case is augmented with a state of its
own. So a run that starts again at the beginning of an epoch repeats it exactly, on any number of loader processes.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset
from monai.transforms import Compose


def derived_seed(*entropy: int) -> int:
    """Mix non-negative integers into one seed of 32 bits (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def choose_fastest_kernels(enabled: bool) -> None:
    """Let cuDNN time its kernels and take the fastest; a run then repeats to rounding only, no longer bit for bit."""
    if enabled:
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True


class ReproducibleCacheDataset(CacheDataset):
    """MONAI's `CacheDataset` whose random transforms depend on (seed, epoch, case) alone.

    Args:
        data: list of cases.
        transform: deterministic transforms first (cached), random ones behind.
        seed: of the run.
        cache_rate: share of the cases that is kept in memory.
        num_workers: threads that fill the cache.
        progress: show the filling of the cache.
    """

    def __init__(
        self,
        data: list[Any],
        transform: Compose,
        seed: int = 0,
        cache_rate: float = 1.0,
        num_workers: int = 1,
        progress: bool = True,
    ) -> None:
        self.seed = seed
        self.epoch = 0
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress)

    def _transform(self, index: int) -> Any:
        self.transform.set_random_state(seed=derived_seed(self.seed, self.epoch, index % len(self.data)))
        return super()._transform(index)


class SeedEpoch:
    """Handler: at the start of every epoch seed torch, NumPy and Python, and tell the data set the epoch.

    The order of the cases, the augmentation and the dropout of an epoch then follow from the seed and the epoch's
    number.  Each process of a distributed run draws its own dropout.

    Args:
        seed: of the run.
        dataset: the training data set.
    """

    def __init__(self, seed: int, dataset: Any) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Seed everything for the epoch that starts."""
        seed = derived_seed(self.seed, engine.state.epoch, engine.state.rank)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        if hasattr(self.dataset, "epoch"):  # a host of the bundle may bring a data set of its own
            self.dataset.epoch = engine.state.epoch
