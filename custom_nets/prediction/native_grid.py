# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of a prepared volume lie in the scan that it was made from, axis by axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import AFFINE_TOL
from numpy.typing import NDArray
from torch import Tensor

_PADS = ("Pad", "SpatialPad", "BorderPad", "DivisiblePad")
#: Voxels by which a resampling along the axes may drift sideways, over the whole volume: rounding of the header.
_STRAIGHT = 2e-4
_CROPS = ("Crop", "SpatialCrop", "CenterSpatialCrop", "CropForeground")


@dataclass(frozen=True)
class Axis:
    """One axis between the network's grid and that of the scan, turned as the network sees it.

    Attributes:
        length: voxels of the scan along it.
        spaced: voxels of the resampled scan.
        size: voxels of the network's grid: of the resampled scan, cropped or padded.
        offset: a voxel's number on the network's grid less its number in the resampled scan.
        seen: first voxel of the network's grid that is one of the resampled scan, and the first behind the last one;
            what was cropped away, or padded, lies outside.
        positions: of the scan's voxels in the resampled scan, float64; None where nothing was resampled.
    """

    length: int
    spaced: int
    size: int
    offset: int
    seen: tuple[int, int]
    positions: NDArray[np.float64] | None

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """For each voxel of the scan the two of the network's grid around it, and the share of the second.

        Numbers outside of ``seen`` are voxels that were cropped away.
        """
        if self.positions is None:
            own = np.arange(self.length) + self.offset
            return own, own, np.zeros(self.length)
        inside = np.clip(self.positions, 0, self.spaced - 1)  # the border's value goes on beyond it
        below = np.minimum(np.floor(inside).astype(np.int64), max(self.spaced - 2, 0))
        share = inside - below
        above = np.where(share > 0, np.minimum(below + 1, self.spaced - 1), below)
        return below + self.offset, above + self.offset, share


@dataclass(frozen=True)
class NativeGrid:
    """The scan's own grid, as seen from the prepared volume.

    Attributes:
        axes: of the network's grid, in its order.
        turned_affine: of the scan, turned as the network sees it.
        affine: of the scan as it was read.
    """

    axes: tuple[Axis, Axis, Axis]
    turned_affine: NDArray[np.float64]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the scan, turned as the network sees it."""
        first, second, third = (axis.length for axis in self.axes)
        return first, second, third

    def as_read(self, volume: Tensor) -> Tensor:
        """Turn C x D x H x W, oriented as the network sees it, to the scan's own order of axes."""
        change = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(self.turned_affine), nib.orientations.io_orientation(self.affine)
        )
        flipped = [axis + 1 for axis, (_, sign) in enumerate(change) if sign < 0]
        order = np.argsort(change[:, 0].astype(int))
        volume = volume.flip(flipped) if flipped else volume
        return volume.permute(0, *(int(axis) + 1 for axis in order)).contiguous()


def native_grid(image: MetaTensor) -> NativeGrid | None:
    """Return the grid of the scan that ``image``, C x D x H x W, was prepared from.

    Args:
        image: with the record of what was done to it: turned, then resampled along its axes, then cropped and padded,
            each step at most once or, of the last two, any number of times.

    Returns:
        None where something else was done; MONAI's `Invertd` then has to undo it.
    """
    shape = tuple(int(length) for length in image.shape[1:])
    affine = np.asarray(image.affine, dtype=np.float64)
    steps = [dict(step) for step in image.applied_operations]
    read = turned = None
    if steps and steps[0]["class"] == "Orientation":
        read = np.asarray(steps.pop(0)["extra_info"]["original_affine"], dtype=np.float64)
    resampled: Mapping[str, Any] | None = None
    if steps and steps[0]["class"] == "SpatialResample":
        resampled = steps.pop(0)
    if any(step["class"] not in (*_PADS, *_CROPS) for step in steps):
        return None
    spaced = tuple(int(length) for length in (steps[0]["orig_size"] if steps else shape))
    offsets, seen = _crops_and_pads(spaced, steps)
    spaced_affine = affine @ _shift(offsets)
    lengths, positions = spaced, [None, None, None]
    turned = spaced_affine
    if resampled is not None:
        lengths = tuple(int(length) for length in resampled["orig_size"])
        turned = np.asarray(resampled["extra_info"]["src_affine"], dtype=np.float64)
        change = np.linalg.solve(spaced_affine, turned)
        off_axis = change[:3, :3] - np.diag(np.diag(change[:3, :3]))
        if resampled["extra_info"]["padding_mode"] != "border" or np.abs(off_axis * lengths).max() > _STRAIGHT:
            return None
        if not _same(spaced, lengths, spaced_affine, turned, change):
            positions = [change[n, n] * np.arange(lengths[n]) + change[n, 3] for n in range(3)]
    first, second, third = (
        Axis(lengths[n], spaced[n], shape[n], int(offsets[n]), seen[n], positions[n]) for n in range(3)
    )
    return NativeGrid((first, second, third), turned, turned if read is None else read)


def _same(
    spaced: Sequence[int], lengths: Sequence[int], a: NDArray[Any], b: NDArray[Any], change: NDArray[Any]
) -> bool:
    """MONAI's rule for a resampling that it leaves out."""
    alike = np.allclose(a, b, atol=AFFINE_TOL) or np.allclose(change, np.eye(4), atol=AFFINE_TOL)
    return tuple(spaced) == tuple(lengths) and alike


def _crops_and_pads(
    shape: Sequence[int], steps: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """What crops and pads add to the numbers of voxels, and which of the last grid's voxels are left of the first's."""
    offsets, low, high = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), np.array(shape, dtype=np.int64)
    for step in steps:
        told, size = step["extra_info"], np.array(step["orig_size"], dtype=np.int64)
        if "cropped" in told:
            before, after = np.asarray(told["cropped"], dtype=np.int64).reshape(-1, 2)[:3].T
            offsets, low, high = offsets - before, low - before, np.minimum(high, size - after) - before
            told = told.get("pad_info", {}).get("extra_info", {})
        if "padded" in told:
            before = np.asarray([first for first, _ in told["padded"][1:4]], dtype=np.int64)
            offsets, low, high = offsets + before, np.maximum(low, 0) + before, high + before
        low = np.maximum(low, 0)
    return offsets, [(int(first), int(stop)) for first, stop in zip(low, high, strict=True)]


def _shift(offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    shift = np.eye(4)
    shift[:3, 3] = offsets
    return shift


def turned_grid(shape: Sequence[int], turned_affine: Any, affine: Any) -> NativeGrid:
    """The grid of a scan that was turned and nothing else; ``shape`` is that of the turned one."""
    first, second, third = (Axis(int(length), int(length), int(length), 0, (0, int(length)), None) for length in shape)
    as_array = [torch.as_tensor(one).double().numpy() for one in (turned_affine, affine)]
    return NativeGrid((first, second, third), *as_array)
