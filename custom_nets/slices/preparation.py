# SPDX-License-Identifier: Apache-2.0
"""What happens to a slice before a slice network sees it, the same in training and in inference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.intensity import MEAN, STD, check_intensity_rule, normalise, scale_slices
from custom_nets.slices.resize import check_index_rule, resize_nearest, source_position


class SlicePreparation:
    """Scale each slice to 8 bits, bring it to the network's size by nearest neighbour, normalise it.

    As published for S2aNet: each slice by its own minimum and maximum, 512 x 512 whatever its shape and spacing, then
    (u / 255 - 0.196) / 0.205. A slice is prepared alike in every window that it takes part in.

    Args:
        size: rows and columns of the network's input; None keeps the slices' own.
        mean: of u / 255 over the training set.
        std: of u / 255 over the training set, above 0.
        intensity: rule of :func:`~custom_nets.slices.intensity.scale_slices`: ``minmax``,
            ``percentile`` or ``none``.
        index_rule: of :func:`~custom_nets.slices.resize.nearest_indices`: ``accumulated`` or ``endpoints``.

    Raises:
        InputError: naming the option, the value found and what would do.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        mean: float = MEAN,
        std: float = STD,
        intensity: str = "minmax",
        index_rule: str = "accumulated",
    ) -> None:
        check_intensity_rule(intensity)
        check_index_rule(index_rule)
        check_normalisation(mean, std)
        self.size = None if size is None else _rows_and_columns(size)
        self.mean = mean
        self.std = std
        self.intensity = intensity
        self.index_rule = index_rule

    def resized(self, x: Tensor) -> Tensor:
        """Bring images or label maps, ... x H x W, to the network's size; values and type stay."""
        return x if self.size is None else resize_nearest(x, self.size, self.index_rule)

    def scaled(self, slices: Tensor) -> Tensor:
        """Return slices (... x H x W, any real type) as 8 bits, uint8, at the network's size."""
        return self.resized(scale_slices(slices, self.intensity))

    def __call__(self, slices: Tensor) -> Tensor:
        """Return slices (... x H x W, any real type) as the network's input, float32, at the network's size."""
        return normalise(self.scaled(slices), self.mean, self.std)

    def affine(self, affine: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
        """Return the affine (4 x 4, float64) of volumes of slices whose rows and columns went from one size to another.

        Args:
            affine: of slices x rows x columns before.
            before: rows and columns.
            after: rows and columns.
        """
        index_to_index = torch.eye(4, dtype=torch.float64, device=affine.device)
        for axis, sizes in enumerate(zip(before, after, strict=True), start=1):
            index_to_index[axis, axis], index_to_index[axis, 3] = source_position(*sizes, self.index_rule)
        return affine.double() @ index_to_index


def _rows_and_columns(size: Sequence[int]) -> tuple[int, int]:
    if not (isinstance(size, Sequence) and len(size) == 2 and all(type(n) is int and n >= 1 for n in size)):
        raise InputError(f"size is {size!r}: give two whole numbers, rows and columns, as [512, 512]")
    return size[0], size[1]


def check_normalisation(mean: float, std: float) -> None:
    """Refuse numbers that no training set has.

    Raises:
        InputError: naming the option and the value found.
    """
    if not math.isfinite(mean):
        raise InputError(f"mean is {mean!r}: give the mean of the slices scaled to 0 to 1, such as {MEAN}")
    if not (math.isfinite(std) and std > 0):
        raise InputError(f"std is {std!r}: give the deviation of the slices scaled to 0 to 1, above 0, such as {STD}")
