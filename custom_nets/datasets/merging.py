# SPDX-License-Identifier: Apache-2.0
"""Binary masks, one a structure, to one label map: who gets a voxel that several claim, and how many there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.errors import InputError

Rule = Literal["first", "last", "largest", "smallest", "error"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class Overlap:
    """Voxels that two structures claim.

    Attributes:
        winner: label value of the structure that got them.
        loser: label value of the other one.
        voxels: their number. A voxel that three structures claim counts for the winner with each of the two losers.
    """

    winner: int
    loser: int
    voxels: int


@dataclass(frozen=True)
class Merged:
    """A label map made of masks.

    Attributes:
        label: 0 where no mask is, else the value of the structure; uint8 where the values fit, else int16.
        claimed: label value to the voxels of its mask, in the order in which voxels were given away.
        overlaps: the pairs of structures that share voxels, most voxels first.
    """

    label: NDArray[Any]
    claimed: dict[int, int]
    overlaps: list[Overlap]

    @property
    def kept(self) -> dict[int, int]:
        """Label value to the voxels that the structure got."""
        counts = np.bincount(self.label.reshape(-1), minlength=max(self.claimed, default=0) + 1)
        return {value: int(counts[value]) for value in self.claimed}


def merge_masks(masks: Sequence[ArrayLike], indices: Sequence[int]) -> NDArray[Any]:
    """Merge masks in processing order; the first one that claims a voxel gets it (S2aNet, data preparation).

    With masks m_k, values c_k and occupancy o_0 = 0: n_k = m_k (1 - o_(k-1)), o_k = o_(k-1) + n_k, L = sum c_k n_k.

    Args:
        masks: arrays of one shape, foreground where they are not 0.
        indices: the label value of each mask.

    Returns:
        The label map: uint8 where the values fit, else int16.
    """
    arrays = [np.asarray(mask) for mask in masks]
    foreground = {index: np.flatnonzero(array) for index, array in zip(indices, arrays, strict=True)}
    return merge_foreground(arrays[0].shape, foreground).label


def merge_foreground(shape: Sequence[int], foreground: Mapping[int, NDArray[Any]]) -> Merged:
    """As ``merge_masks`` with a report, for masks of which only the foreground is held.

    Args:
        shape: of the label map.
        foreground: label value to the flat (C order) indices of the mask's voxels, in processing order.

    Returns:
        The label map and who shared voxels.
    """
    flat = np.zeros(int(np.prod(shape)), dtype=label_type(max(foreground, default=0)))
    overlaps = []
    for value, voxels in foreground.items():
        owners = flat[voxels]
        flat[voxels[owners == 0]] = value
        counts = np.bincount(owners[owners > 0])
        overlaps += [Overlap(int(owner), value, int(counts[owner])) for owner in np.flatnonzero(counts)]
    overlaps.sort(key=lambda pair: (-pair.voxels, pair.winner, pair.loser))
    claimed = {value: len(voxels) for value, voxels in foreground.items()}
    return Merged(flat.reshape(tuple(shape)), claimed, overlaps)


def label_type(highest: int) -> type[np.uint8] | type[np.int16]:
    """The smallest type for label values up to ``highest``.

    Raises:
        InputError: no label map holds so many.
    """
    if highest > np.iinfo(np.int16).max:
        raise InputError(f"label value {highest} is too high: number the structures from 1 to at most 32767")
    return np.uint8 if highest <= np.iinfo(np.uint8).max else np.int16


def processing_order(sizes: Mapping[int, int], rule: Rule = "first", preferred: Sequence[int] = ()) -> list[int]:
    """The order of the masks in which "the first one gets the voxel" is what the rule says.

    Args:
        sizes: label value to the voxels of its mask.
        rule: who gets a voxel that several structures claim. ``first``: the one that comes first, which is the lowest
            label value unless ``preferred`` says otherwise; ``last``: the one that comes last; ``smallest`` and
            ``largest``: by the voxels of the masks, equal ones as with ``first``; ``error``: as ``first``.
        preferred: label values that come first, in this order; those without a mask are passed over.

    Returns:
        Every label value of ``sizes`` once.
    """
    listed = [value for value in dict.fromkeys(preferred) if value in sizes]
    order = [*listed, *sorted(set(sizes) - set(listed))]
    if rule == "last":
        return order[::-1]
    if rule in ("smallest", "largest"):
        sign = 1 if rule == "smallest" else -1
        return sorted(order, key=lambda value: sign * sizes[value])
    return order
