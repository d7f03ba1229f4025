# SPDX-License-Identifier: Apache-2.0
"""Memory that a process keeps from one tensor to the next, in place of giving it back to the kernel each time.

glibc returns every block above 32 MB as soon as it is freed, so that each feature map of a 3D network is paid for with
page faults anew. Nothing that is computed changes. Imports no torch, whose allocator reads the environment once.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_memory(most_mib: int = 1024) -> bool:
    """Let this process keep freed memory; called before the first large tensor.

    Args:
        most_mib: how much free memory at the end of the heap is kept.

    Returns:
        Whether the C library took it: Linux with glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's large tensors in huge pages: fewer faults
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, most_mib << 20), (_TOP_PAD, 64 << 20))
    return all(bool(mallopt(option, value)) for option, value in settings)


def give_back() -> None:
    """Return what is free now, between two cases."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
