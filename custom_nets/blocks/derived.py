# SPDX-License-Identifier: Apache-2.0
"""Products of a network's weights that are computed once, not at every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class DerivedWeights:
    """Calls ``derive(*weights)`` and hands out its result again while the weights stay the same.

    The same means equal in every value, dtype and device to a copy kept of them, which takes a fraction of a
    millisecond a million values. So nothing that writes weights (an optimiser, `load_state_dict`, `.to()`, an edit of
    `.data` or through NumPy) has to tell. Nothing kept goes into copies, pickles or state dicts.

    Args:
        derive: a function of tensors alone. Its results are shared: they must not be written to.
    """

    def __init__(self, derive: Callable[..., tuple[Tensor, ...]]) -> None:
        self.derive = derive
        self._kept: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None = None

    def __call__(self, *weights: Tensor) -> tuple[Tensor, ...]:
        """Return ``derive(*weights)``, without gradients."""
        kept = self._kept  # read once: another thread may replace it
        if kept is not None and all(map(_same, kept[0], weights)):
            return kept[1]
        with torch.no_grad():
            derived = self.derive(*weights)
            self._kept = tuple(weight.clone() for weight in weights), derived
        return derived

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}


def _same(kept: Tensor, weight: Tensor) -> bool:
    return kept.device == weight.device and kept.dtype == weight.dtype and torch.equal(kept, weight)
