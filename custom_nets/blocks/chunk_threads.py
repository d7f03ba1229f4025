# SPDX-License-Identifier: Apache-2.0
"""Work on many small pieces, spread over as many threads as PyTorch may use, each piece on one core.

PyTorch splits each operation over its threads, which wait for one another behind each. With thousands of operations on
pieces that fit into a cache this waiting costs more than it brings, and much more while other programs run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def in_threads(work: Callable[[Sequence[Piece]], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Call ``work``, without gradients, for equal shares of the pieces at the same time.

    Returns:
        The results, in the pieces' order: for one number of threads always the same.
    """
    count = min(torch.get_num_threads(), len(pieces))
    bounds = [len(pieces) * number // count for number in range(count + 1)]
    shares = [pieces[start:stop] for start, stop in pairwise(bounds)]
    inference = torch.is_inference_mode_enabled()

    def call(share: Sequence[Piece]) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(share)

    return [call(pieces)] if count == 1 else list(_pool(torch.get_num_threads()).map(call, shares))


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            started = threading.Barrier(threads + 1)
            _pools[threads] = ThreadPoolExecutor(threads, "chunks", _on_one_core, (started,))
            for _ in range(threads):
                _pools[threads].submit(int)
            started.wait()
            torch.set_num_threads(threads)  # the threads set theirs, and with it what others begin with
        return _pools[threads]


def _forget_pools() -> None:
    _pools.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_pools)


def _on_one_core(started: threading.Barrier) -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes the number over when it is first asked for, then for good
    started.wait()
