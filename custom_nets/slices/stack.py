# SPDX-License-Identifier: Apache-2.0
"""A whole stack of slices through a 2.5D network: every slice encoded once, every window decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from custom_nets.allocator import give_back
from custom_nets.blocks.frugal import is_wanted

#: From so many voxels a slice on, its maps are worth saving. Below, PyTorch convolves one slice and several by
#: different formulas, whose last bits differ.
_VOXELS_WORTH_SAVING = 256 * 256

#: Gives the prepared slices from a first one up to, but not, a last one: M x C x H x W.
Slices = Callable[[int, int], Tensor]


def stack_logits(network: Any, slices: Slices, count: int, num_slices: int, batch_size: int) -> Iterator[Tensor]:
    """Label all slices of a stack, each from the window around it; end slices are repeated beyond the ends.

    A network with ``encode``, ``decode`` and ``encodes_once``, such as S2aNet, sees every slice once: the maps of a
    window are those of its slices, so that for S slices the encoder runs once a slice in place of S times and the
    logits stay the same (S2aNet: 22 % fewer operations for 3 slices, 32 % for 5). Any other network is given whole
    windows. In memory are the maps of ``batch_size`` + S - 1 slices, however many slices there are; within
    `custom_nets.blocks.frugal.frugal`, if they are not small, those of S slices, and windows are decoded one at a time.

    Args:
        network: in eval mode; called with N x (S · C) x H x W.
        slices: gives prepared slices.
        count: number of slices.
        num_slices: S, of a window, odd.
        batch_size: windows at a time.

    Yields:
        Logits of the next slices, at most ``batch_size`` x K x H x W.
    """
    if _shares(network, num_slices) and _saves(network, slices):
        yield from _one_by_one(network, slices, count, num_slices)
        return
    maps: list[Tensor] = []  # of the slices low … done - 1, level by level
    low = done = 0
    for windows in _batches(count, num_slices, batch_size):
        if not _shares(network, num_slices):
            yield _labelled(network, slices(int(windows.min()), int(windows.max()) + 1), windows - windows.min())
            continue
        maps = [level[int(windows.min()) - low :] for level in maps]
        low = int(windows.min())
        if windows.max() >= done:
            maps = _joined(maps, network.encode(slices(done, int(windows.max()) + 1)))
            done = int(windows.max()) + 1
        yield _decoded(network, maps, windows - low)


def sliding_logits(
    network: Any,
    slices: Slices,
    count: int,
    num_slices: int,
    batch_size: int,
    roi_size: Sequence[int],
    overlap: float,
    padding: float,
) -> Iterator[Tensor]:
    """As :func:`stack_logits`, in windows that slide over the rows and columns, blended by a Gaussian.

    Slices at the ends of a batch are encoded for both batches that need them.

    Args:
        network: as there.
        slices: as there; of any size.
        count: as there.
        num_slices: as there.
        batch_size: slices labelled at a time.
        roi_size: rows and columns of a window.
        overlap: of windows, a share of ``roi_size``.
        padding: value around slices smaller than a window.

    Yields:
        Logits of the next slices, at most ``batch_size`` x K x H x W.
    """
    for windows in _batches(count, num_slices, batch_size):
        low = int(windows.min())
        near = slices(low, int(windows.max()) + 1)

        def label(regions: Tensor, number: int = len(near), windows: Tensor = windows - low) -> Tensor:
            # all slices of one region are its channels for the sliding window, and so are all their logits
            parts = [_labelled(network, region.unflatten(0, (number, -1)), windows) for region in regions]
            return torch.stack(parts).flatten(1, 2)

        logits: Any = sliding_window_inference(
            near.flatten(0, 1)[None], roi_size, 1, label, overlap, mode="gaussian", cval=padding
        )
        yield logits[0].unflatten(0, (windows.shape[1], -1))


def _one_by_one(network: Any, slices: Slices, count: int, num_slices: int) -> Iterator[Tensor]:
    """`stack_logits` with the maps of S slices in memory, which are never copied."""
    maps: dict[int, list[Tensor]] = {}
    done = 0
    for windows in _batches(count, num_slices, 1):
        near = windows[:, 0].tolist()
        for number in [number for number in maps if number < near[0]]:
            del maps[number]
        for number in range(done, near[-1] + 1):
            maps[number] = network.encode(slices(number, number + 1))
        done = near[-1] + 1
        levels = zip(*(maps[near[place]] for place in network.order), strict=True)
        give_back()  # small maps of the steps before, which large ones do not fit into
        yield network.decode([list(level) for level in levels])


def _saves(network: Any, slices: Slices) -> bool:
    """Whether the network, or what hands its inputs on to one, is to be frugal, can, and has something to save."""
    if getattr(network, "training", True):
        return False
    weight = next(iter(network.parameters()), None)
    return weight is not None and is_wanted(weight) and slices(0, 1)[0, 0].numel() >= _VOXELS_WORTH_SAVING


def _batches(count: int, num_slices: int, batch_size: int) -> Iterator[Tensor]:
    """Indices of the slices in the windows of each batch: num_slices x windows."""
    offsets = torch.arange(num_slices) - num_slices // 2
    for centres in torch.arange(count).split(batch_size):
        yield (centres + offsets[:, None]).clamp(0, count - 1)


def _shares(network: Any, num_slices: int) -> bool:
    """Whether the windows of a network share the maps of their slices."""
    return getattr(network, "encodes_once", False) and network.num_slices == num_slices


def _labelled(network: Any, near: Tensor, windows: Tensor) -> Tensor:
    """Logits of windows (their slices' indices, S x B) of a few slices, M x C x H x W."""
    if _shares(network, len(windows)):
        return _decoded(network, network.encode(near), windows)
    return network(torch.cat([near[place] for place in windows], dim=1))


def _decoded(network: Any, maps: list[Tensor], windows: Tensor) -> Tensor:
    return network.decode([[_picked(level, windows[place]) for place in network.order] for level in maps])


def _joined(maps: list[Tensor], new: list[Tensor]) -> list[Tensor]:
    return [torch.cat(pair) for pair in zip(maps, new, strict=True)] if maps else new


def _picked(level: Tensor, indices: Tensor) -> Tensor:
    """The maps of these slices; away from the ends they follow one another, and nothing is copied."""
    low, high = int(indices[0]), int(indices[-1])
    return level[low : high + 1] if high - low + 1 == len(indices) else level[indices.to(level.device)]
