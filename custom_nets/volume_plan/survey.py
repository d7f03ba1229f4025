# SPDX-License-Identifier: Apache-2.0
"""One pass over the training masks: what each scan's lesions are like, and what each crop size does to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from custom_nets.components import bounding_box, connected_components
from custom_nets.errors import InputError
from custom_nets.volume_plan.candidates import Size
from custom_nets.volume_plan.occurrence import LesionBox, Occurrence
from custom_nets.volume_plan.scans import Grid, Scan
from custom_nets.volume_plan.statistics import CropStatistics, CropSummary, crop_statistics
from custom_nets.volume_plan.summed_area import LesionTable


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one scan; indices along R, A, S.

    Attributes:
        name: of the case.
        grid: of the scan.
        voxels: lesion voxels, at least 1.
        components: 26-connected.
        first: lowest index of the bounding box.
        last: highest index of the bounding box, which belongs to it.
        centroid: mean index of all lesion voxels.
    """

    name: str
    grid: Grid
    voxels: int
    components: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    centroid: tuple[float, ...]

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions in millilitres."""
        return self.voxels * self.grid.voxel_ml


@dataclass(frozen=True, eq=False)
class Survey:
    """What a pass over the masks gave. Scans without any lesion are named and count nowhere.

    Attributes:
        lesions: one entry a scan with lesion, at least one.
        without_lesion: names of the others.
        crops: the summary of each crop size.
        box: the lesion box.
        occurrence: None when the scans lie on different grids.
    """

    lesions: list[Lesions]
    without_lesion: list[str]
    crops: dict[Size, CropSummary]
    box: LesionBox
    occurrence: Occurrence | None


def survey(scans: Iterable[Scan], sizes: Sequence[Size], shape: Sequence[int] | None) -> Survey:
    """Look at each scan once.

    Args:
        scans: the masks, one after the other.
        sizes: crop sizes, none larger than any scan.
        shape: of the grid when all scans lie on one; None when they do not.

    Raises:
        InputError: no scan has a lesion.
    """
    lesions: list[Lesions] = []
    without: list[str] = []
    crops: dict[Size, list[CropStatistics]] = {size: [] for size in sizes}
    box, occurrence = LesionBox(), None if shape is None else Occurrence(shape)
    for scan in scans:
        if not scan.mask.any():
            without.append(scan.name)
            continue
        lesions.append(describe(scan))
        table = LesionTable(scan.mask)
        for size, of_size in crops.items():
            of_size.append(crop_statistics(table, size))
        box.add(scan.mask)
        if occurrence is not None:
            occurrence.add(scan.mask)
    if not lesions:
        raise InputError(f"none of the {len(without)} training labels has a voxel above 0: check the label files")
    return Survey(lesions, without, {size: CropSummary(tuple(each)) for size, each in crops.items()}, box, occurrence)


def describe(scan: Scan) -> Lesions:
    """Volume, components, bounding box and centroid of a scan's lesions, of which there is at least one."""
    box = bounding_box(scan.mask)
    inside = scan.mask[box]
    corner = np.array([span.start for span in box])
    components = connected_components(inside, connectivity=26)
    return Lesions(
        name=scan.name,
        grid=scan.grid,
        voxels=int(components.voxels.sum()),
        components=len(components.voxels),
        first=tuple(int(span.start) for span in box),
        last=tuple(int(span.stop) - 1 for span in box),
        centroid=tuple(float(mean) for mean in np.argwhere(inside).mean(axis=0) + corner),
    )
