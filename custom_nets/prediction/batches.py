# SPDX-License-Identifier: Apache-2.0
"""Windows through a network, as many at a time as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from custom_nets.prediction import memory

#: Free memory with which no batch of windows is too large for a CPU.
_PLENTY = 8 << 30  # bytes

#: Size of a window -> the most bytes that the network was seen to take for one: the peak of a process grows only once.
_costs: dict[tuple[int, ...], int] = {}

#: Where a window lies in the volume.
Place = tuple[slice, ...]


def scored(
    image: Tensor, places: Sequence[Place], network: Callable[[Tensor], Tensor], wanted: int
) -> Iterator[tuple[Sequence[Place], Tensor]]:
    """Give the windows of a volume to a network, in their order.

    On a CPU with little free memory the first window goes alone, and by what it takes follows how many go together. On
    a GPU whose memory does not suffice the batch is halved.

    Args:
        image: 1 x C x D x H x W.
        places: of the windows.
        network: takes N x C x d x h x w.
        wanted: windows at a time, where there is room.

    Yields:
        Places of the next windows, and their scores N x K x d x h x w, which are not kept here.

    Raises:
        torch.OutOfMemoryError: a single window is too much.
    """
    window = tuple(image[_index(places[0])].shape)
    short = wanted > 1 and image.device.type == "cpu" and memory.free_bytes() < _PLENTY
    size = memory.windows_at_once(wanted, _costs[window]) if short and window in _costs else 1 if short else wanted
    done = 0
    while done < len(places):
        some = places[done : done + size]
        before = memory.peak_mib()
        scores = _tried(image, some, network)
        if scores is None:
            size //= 2
            continue
        if short and len(some) == 1:
            taken = int((memory.peak_mib() - before) * (1 << 20))
            _costs[window] = max(_costs.get(window, 0), taken)
            size = memory.windows_at_once(wanted, _costs[window])
        yield some, scores
        del scores
        done += len(some)


def _tried(image: Tensor, places: Sequence[Place], network: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Scores of these windows; None where they are too many for the memory of a GPU."""
    try:
        return network(torch.cat([image[_index(place)] for place in places]))
    except torch.OutOfMemoryError:
        if len(places) == 1:
            raise
    torch.cuda.empty_cache()
    return None


def _index(place: Place) -> tuple[slice, ...]:
    return (slice(None), slice(None), *place)
