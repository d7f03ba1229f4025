# SPDX-License-Identifier: Apache-2.0
"""How much memory there is, and along which axis windows are streamed so that what they add to fits."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: Of the free memory what the sums over windows may take; the network and the volume need the rest.
_SHARE = 0.3
#: And that where there is much of it: 55 classes at 512 x 512 x 300 are to fit into 6 GB on any machine.
_MOST = 2 << 30
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


_sharers = 1


def shared_by(processes: int) -> None:
    """Tell that so many processes like this one run on this machine, each with its share of the free memory."""
    global _sharers
    _sharers = max(processes, 1)


def free_bytes() -> int:
    """Memory that this process can still take: of the machine, or of the container that it runs in."""
    free = sys.maxsize
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    for limit, used in zip(_LIMITS, _USED, strict=True):
        with suppress(OSError, ValueError):  # "max", or no control group
            free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 0) // _sharers


def peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def buffer_bytes(size: Sequence[int], roi: Sequence[int], axis: int, channels: int) -> int:
    """Bytes of the planes that are held at a time along ``axis``."""
    planes = [max(length, window) for length, window in zip(size, roi, strict=True)]
    planes[axis] = roi[axis]
    return 4 * (channels + 1) * math.prod(planes)


def streaming_axis(shape: Sequence[int], window: Sequence[int], channels: int, free: int | None = None) -> int:
    """The axis that planes are finished along.

    Args:
        shape: of the volume.
        window: of the sliding windows.
        channels: of the scores.
        free: bytes; None asks the machine.

    Returns:
        0, along which the sums are MONAI's to the bit, where the planes held fit into 2 GiB and a third of the free
        memory; else the axis along which they are smallest.
    """
    sizes = [buffer_bytes(shape, window, axis, channels) for axis in range(3)]
    if sizes[0] <= min(_SHARE * (free_bytes() if free is None else free), _MOST):
        return 0
    return sizes.index(min(sizes))


def windows_at_once(wanted: int, of_one: int, free: int | None = None) -> int:
    """How many windows the network sees at a time: as many as are wanted, fewer where memory is short.

    Args:
        wanted: by the bundle.
        of_one: bytes that the network takes for one window.
        free: bytes; None asks the machine.
    """
    room = (free_bytes() if free is None else free) * (1 - _SHARE)
    return max(min(wanted, int(room // max(of_one, 1))), 1)
