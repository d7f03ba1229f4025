# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of a training set's spines, with which SpineParseNet's input is normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from tqdm import tqdm

from custom_nets.datasets.volumes import only_volume
from custom_nets.errors import InputError
from custom_nets.slices.planes import axis_codes
from custom_nets.spine.cropping import central_rows

_ANTERIOR = 1  # of right, anterior, superior


@dataclass(frozen=True)
class CropStatistics:
    """What was measured of the central crops of a data set, in the scans' own units.

    Attributes:
        mean: over all voxels of all crops.
        std: population deviation of the same voxels.
        of_case: mean and deviation of each crop alone.
    """

    mean: float
    std: float
    of_case: tuple[tuple[float, float], ...]


def crop_statistics(
    cases: Sequence[Mapping[str, Any]], crop_share: float = 0.5, *, progress: bool = True
) -> CropStatistics:
    """Measure what the published 466 and 379 are for MRSpineSeg: the central rows of all volumes (section 3.2).

    The rows run from posterior to anterior, whatever the order of the axes in the files. One volume is held at a time.

    Args:
        cases: of a data list, with one image each.
        crop_share: of the rows, see :func:`~custom_nets.spine.cropping.central_rows`.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        InputError: no case, a case without exactly one image, an image that is no 3D volume of finite numbers.
    """
    if not cases:
        raise InputError("there is no volume to measure: give at least one")
    counts, means, squares = list[int](), list[float](), list[float]()
    for case in tqdm(cases, desc="reading volumes", unit="case", disable=None if progress else True):
        crop = _central(case, crop_share)
        counts.append(crop.size)
        means.append(float(crop.mean()))
        squares.append(float(crop.var()))
    total = sum(counts)
    mean = math.fsum(count * one for count, one in zip(counts, means, strict=True)) / total
    # Within the crops, and of their means around that of all: the squares of raw intensities would cancel.
    spread = math.fsum(
        count * (square + (one - mean) ** 2) for count, one, square in zip(counts, means, squares, strict=True)
    )
    of_case = tuple((one, math.sqrt(square)) for one, square in zip(means, squares, strict=True))
    return CropStatistics(mean, math.sqrt(spread / total), of_case)


def _central(case: Mapping[str, Any], crop_share: float) -> NDArray[np.float64]:
    file = str(case["image"][0])
    image, voxels = only_volume(case)
    if not np.isfinite(voxels).all():
        raise InputError(f"{file}: has NaN or infinite voxels: replace them, for example by 0")
    axis_codes(image.affine, "sagittal", file)  # refuses an affine without directions
    along = int(np.flatnonzero(io_orientation(image.affine)[:, 0] == _ANTERIOR)[0])
    first, end = central_rows(voxels.shape[along], crop_share)
    return np.moveaxis(voxels, along, 0)[first:end].astype(np.float64)
