# SPDX-License-Identifier: Apache-2.0
"""What a crop size does to the lesions: at the centre of the volume (inference), at random places (training)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom_nets.volume_crops import centre_start
from custom_nets.volume_plan.candidates import Size
from custom_nets.volume_plan.summed_area import LesionTable


@dataclass(frozen=True)
class CropStatistics:
    """One crop size on one scan with lesion.

    Attributes:
        share: φ, voxels of the crop by voxels of the volume.
        lesion_voxels: of the whole scan, at least 1.
        voxels_inside: those in the centred crop.
        hit_probability: share of the starts 0 … N - s whose crop holds a lesion voxel.
        hit_probability_official: the same over 0 … N - s - 1, the starts that the published training draws; None where
            there is no such start, because the crop is as long as the volume on an axis.
        lesion_share: mean of lesion voxels by crop voxels, over the starts 0 … N - s.
    """

    share: float
    lesion_voxels: int
    voxels_inside: int
    hit_probability: float
    hit_probability_official: float | None
    lesion_share: float

    @property
    def coverage(self) -> float:
        """c, the share of the lesion in the centred crop."""
        return self.voxels_inside / self.lesion_voxels

    @property
    def dice_ceiling(self) -> float:
        """The best Dice of inference on the centred crop, 2c / (1 + c): perfect inside, nothing found outside."""
        return 2 * self.coverage / (1 + self.coverage)


def crop_statistics(table: LesionTable, size: Size) -> CropStatistics:
    """Count the lesion in the centred crop and in all crops of a size.

    Args:
        table: of a mask with at least one lesion voxel.
        size: voxels of the crop, on no axis more than the volume's.
    """
    room = [length - cut for length, cut in zip(table.shape, size, strict=True)]
    voxels, starts = table.over_starts(size, [length + 1 for length in room])
    official = None
    if min(room) > 0:
        fewer_voxels, fewer_starts = table.over_starts(size, room)
        official = float(fewer_starts[fewer_voxels > 0].sum() / math.prod(room))
    number = int(starts.sum())
    return CropStatistics(
        share=math.prod(size) / math.prod(table.shape),
        lesion_voxels=table.voxels,
        voxels_inside=table.inside(centre_start(table.shape, size), size),
        hit_probability=float(starts[voxels > 0].sum() / number),
        hit_probability_official=official,
        lesion_share=float((voxels * starts).sum() / number / math.prod(size)),
    )


@dataclass(frozen=True)
class CropSummary:
    """One crop size on all scans.

    Attributes:
        scans: its statistics on each scan with lesion, at least one.
    """

    scans: tuple[CropStatistics, ...]

    @property
    def share(self) -> float:
        """φ, mean over scans (equal in all of them on one grid)."""
        return _mean([scan.share for scan in self.scans])

    @property
    def mean_coverage(self) -> float:
        """Mean of the scans' coverage by the centred crop."""
        return _mean([scan.coverage for scan in self.scans])

    @property
    def pooled_coverage(self) -> float:
        """Share of all scans' lesion voxels in the centred crop."""
        return self._inside / self._voxels

    @property
    def fully_inside(self) -> int:
        """Number of scans whose whole lesion is in the centred crop."""
        return sum(scan.voxels_inside == scan.lesion_voxels for scan in self.scans)

    @property
    def missed(self) -> int:
        """Number of scans without any lesion in the centred crop."""
        return sum(scan.voxels_inside == 0 for scan in self.scans)

    @property
    def mean_dice_ceiling(self) -> float:
        """Mean of the scans' Dice ceiling."""
        return _mean([scan.dice_ceiling for scan in self.scans])

    @property
    def micro_dice_ceiling(self) -> float:
        """Dice ceiling of all voxels of all scans pooled."""
        return 2 * self._inside / (self._inside + self._voxels)

    @property
    def mean_hit_probability(self) -> float:
        """Mean of the scans' hit probability."""
        return _mean([scan.hit_probability for scan in self.scans])

    @property
    def mean_hit_probability_official(self) -> float | None:
        """The same over the published range of starts; None where a scan leaves no such start."""
        values = [scan.hit_probability_official for scan in self.scans]
        known = [value for value in values if value is not None]
        return _mean(known) if len(known) == len(values) else None

    @property
    def mean_lesion_share(self) -> float:
        """Mean over scans of the expected share of lesion voxels in a random crop."""
        return _mean([scan.lesion_share for scan in self.scans])

    @property
    def _inside(self) -> int:
        return sum(scan.voxels_inside for scan in self.scans)

    @property
    def _voxels(self) -> int:
        return sum(scan.lesion_voxels for scan in self.scans)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
