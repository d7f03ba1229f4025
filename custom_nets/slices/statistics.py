# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of a training set's slices, with which a slice network's input is normalised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from tqdm import tqdm

from custom_nets.datasets.volumes import only_volume
from custom_nets.errors import InputError
from custom_nets.slices.planes import axis_codes, check_plane
from custom_nets.slices.preparation import SlicePreparation


@dataclass(frozen=True)
class IntensityStatistics:
    """What was measured of a data set.

    Attributes:
        mean: of each channel of the windows, in units of u / 255.
        std: likewise.
        windows: their number, which is that of the slices.
        black: how many slices are black, because they are constant or hold values that are not finite.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    windows: int
    black: int


def intensity_statistics(images: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the images' means and mean of their deviations, as S2aNet's data preparation measures them.

    Of each image the mean and the population deviation of u / 255, then the mean of both over the images; the
    deviation is not that of all pixels together.

    Args:
        images: channels x H x W each, 0 to 255; sizes may differ.

    Returns:
        Mean and deviation, one value a channel.

    Raises:
        InputError: there is no image.
    """
    means, deviations = [], []
    for image in images:
        scaled = np.asarray(image, dtype=np.float64) / 255
        means.append(scaled.mean(axis=(1, 2)))
        deviations.append(scaled.std(axis=(1, 2)))
    if not means:
        raise InputError("there is no slice to measure: give at least one volume")
    return np.mean(means, axis=0), np.mean(deviations, axis=0)


def dataset_statistics(
    cases: Sequence[Mapping[str, Any]],
    preparation: SlicePreparation,
    slices: int = 3,
    plane: str = "auto",
    *,
    progress: bool = True,
) -> IntensityStatistics:
    """``intensity_statistics`` over the windows of all volumes; one volume is held at a time.

    Args:
        cases: of a data list, with one image each.
        preparation: how slices become 8-bit images; what it normalises with is not used.
        slices: of a window, odd; at the ends of a volume the first and the last slice are repeated.
        plane: of the slices, see :func:`~custom_nets.slices.planes.axis_codes`.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        Mean and deviation a channel, previous slices first.

    Raises:
        InputError: a case without exactly one image, an image that is no 3D volume, an unknown plane, an even number.
    """
    if slices < 1 or slices % 2 == 0:
        raise InputError(f"slices is {slices}: give an odd number, such as 3")
    check_plane(plane)
    counts = {"windows": 0, "black": 0}

    def windows() -> Iterator[NDArray[np.uint8]]:
        for case in tqdm(cases, desc="reading slices", unit="case", disable=None if progress else True):
            volume = torch.from_numpy(_slices_first(case, plane))
            scaled = preparation.scaled(volume).numpy()
            counts["windows"] += len(scaled)
            counts["black"] += int((scaled.max(axis=(1, 2)) == 0).sum())
            for centre in range(len(scaled)):
                around = np.arange(centre - slices // 2, centre + slices // 2 + 1)
                yield scaled[around.clip(0, len(scaled) - 1)]

    mean, std = intensity_statistics(windows())
    return IntensityStatistics(tuple(mean.tolist()), tuple(std.tolist()), **counts)


def _slices_first(case: Mapping[str, Any], plane: str) -> NDArray[np.float64]:
    """The volume as slices x rows x columns."""
    image, voxels = only_volume(case)
    end = axcodes2ornt(axis_codes(image.affine, plane, str(case["image"][0])))
    turned = apply_orientation(voxels, ornt_transform(io_orientation(image.affine), end))
    return np.ascontiguousarray(turned, dtype=np.float64)
