# SPDX-License-Identifier: Apache-2.0
"""The whole advice for a data set: read, survey, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from custom_nets.datasets.datalist import load_section
from custom_nets.errors import InputError
from custom_nets.volume_plan.advice import Judged, Recommendation, Thresholds, judge, pairs, recommendations
from custom_nets.volume_plan.candidates import candidate_sizes
from custom_nets.volume_plan.scans import Grid, read_grids, read_scans
from custom_nets.volume_plan.survey import Survey, survey


@dataclass(frozen=True)
class PlanOptions:
    """What is compared, and how strictly.

    Attributes:
        shares: of the volume, for the candidates.
        multiple: of every axis of a candidate.
        gpu_gib: memory of the GPUs in GiB.
        thresholds: for the verdicts.
    """

    shares: Sequence[float] = (0.25, 0.5, 0.75)
    multiple: int = 8
    gpu_gib: Sequence[float] = (12.0, 24.0)
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            InputError: naming the option; shares and multiple are checked where sizes are made of them.
        """
        if not self.gpu_gib or not all(np.isfinite(gib) and gib > 0 for gib in self.gpu_gib):
            raise InputError(f"gpu_gib is {list(self.gpu_gib)}: give one or several sizes in GiB, as 12,24")
        for name in ("dice_ceiling", "hit_probability"):
            value = getattr(self.thresholds, name)
            if not 0 <= value <= 1:
                raise InputError(f"least_{name} is {value!r}: give a number from 0 to 1")


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """The advice.

    Attributes:
        options: what it was asked with.
        grids: of the scans with lesion and without, in the order of the data list.
        one_grid: whether all scans put their voxels at the same places.
        shape: voxels along R, A, S of the grid; the median over scans where there are several.
        surveyed: the lesions.
        judged: the candidates, smallest first.
    """

    options: PlanOptions
    grids: list[Grid]
    one_grid: bool
    shape: tuple[int, ...]
    surveyed: Survey
    judged: list[Judged]

    @property
    def recommended(self) -> list[Recommendation]:
        """A pair for each GPU and precision."""
        return recommendations(self.judged, self.options.gpu_gib)

    @property
    def pairs(self) -> list[tuple[Judged, Judged]]:
        """The pairs of a systematic search, zoom-in and zoom-out, accepted ones first."""
        return pairs(self.judged, self.options.gpu_gib)


def plan_volume(
    dataset_dir: str | Path,
    datalist: str | Path = "datalist.json",
    options: PlanOptions | None = None,
    *,
    progress: bool = True,
) -> VolumePlan:
    """Advise on crop sizes from the labels of the training section; neither other sections nor images are read.

    Where the scans lie on several grids, shares refer to the median shape, sizes are kept within the smallest one, and
    statistics are taken scan by scan.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        options: what to compare; left out, the defaults.
        progress: show a progress bar on stderr.

    Raises:
        InputError: the data list or a label cannot be used, no label has a lesion, or an option does not fit the data.
    """
    options = options or PlanOptions()
    cases = load_section(dataset_dir, datalist, "training")
    grids = read_grids(cases, Path(dataset_dir).absolute())
    one_grid = all(grid.same_as(grids[0]) for grid in grids)
    shapes = np.array([grid.shape for grid in grids])
    shape = tuple(int(length) for length in np.median(shapes, axis=0))
    smallest = [int(length) for length in shapes.min(axis=0)]
    candidates = candidate_sizes(shape, options.shares, options.multiple, smallest)
    scans = tqdm(read_scans(cases), "reading labels", len(cases), unit="scan", disable=None if progress else True)
    surveyed = survey(scans, [candidate.size for candidate in candidates], shape if one_grid else None)
    judged = [judge(candidate, surveyed.crops[candidate.size], options.thresholds) for candidate in candidates]
    return VolumePlan(options, grids, one_grid, shape, surveyed, judged)
