# SPDX-License-Identifier: Apache-2.0
"""Two implementations of one function side by side: time, interleaved in one process, and peak memory, each alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

import torch

from custom_nets.errors import InputError

MIB = 2**20
#: Environment variables that change how memory is handed out, and with it the time of every large tensor.
ALLOCATOR_VARIABLES = ("LD_PRELOAD", "THP_MEM_ALLOC_ENABLE", "GLIBC_TUNABLES")

_STATUS = Path("/proc/self/status")
_CLEAR_REFERENCES = Path("/proc/self/clear_refs")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Comparison:
    """Medians of two implementations.

    Attributes:
        ours: median of ours, in `unit`.
        plain: median of the plain transcription, in `unit`.
        unit: "s" or "MiB".
        runs: measurements of each.
    """

    ours: float
    plain: float
    unit: str
    runs: int

    @property
    def ratio(self) -> float:
        """Median of ours over median of the plain one; below 1 is better."""
        return self.ours / self.plain


def compare_seconds(ours: Callable[[], object], plain: Callable[[], object], runs: int) -> Comparison:
    """Time two functions in turn, A B A B …, so that a machine that slows down slows both.

    With one thread it is processor time, which other programs hardly lengthen; with several the time that passes.

    Call each once before, for instance to compare their results: PyTorch chooses and compiles its kernels then.

    Args:
        ours: to be called without arguments.
        plain: the same.
        runs: measured calls of each, 1 or more.
    """
    functions = (ours, plain)
    clock = process_time if torch.get_num_threads() == 1 else perf_counter
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for function, times in zip(functions, seconds, strict=True):
            start = clock()
            function()
            times.append(clock() - start)
    return Comparison(median(seconds[0]), median(seconds[1]), "s", runs)


def peak_growth(function: Callable[[], object], warm_up: Callable[[], object]) -> float:
    """Growth of this process's resident memory during a call, at its highest, in MiB.

    Args:
        function: the call to be measured.
        warm_up: the same on a small input, so that libraries loaded at first use are not counted.

    Raises:
        InputError: on systems other than Linux, which do not tell the peak of a part of a program.
    """
    if not _CLEAR_REFERENCES.exists():
        raise InputError(f"peak memory is read from /proc, which {platform.system()} lacks; measure on Linux")
    warm_up()
    _CLEAR_REFERENCES.write_text("5", encoding="ascii")  # the peak starts again at the present size
    before = _status_mib("VmRSS")
    function()
    return _status_mib("VmHWM") - before


def compare_memory(measure: Callable[..., float], ours: Sequence[Any], plain: Sequence[Any], runs: int) -> Comparison:
    """Call ``measure(*ours)`` and ``measure(*plain)`` in turn, each in a fresh process.

    Args:
        measure: a function of a module that returns MiB, as :func:`peak_growth` does.
        ours: its arguments for ours.
        plain: its arguments for the plain implementation.
        runs: measurements of each, 1 or more.
    """
    pairs = [(in_fresh_process(measure, *ours), in_fresh_process(measure, *plain)) for _ in range(runs)]
    return Comparison(median(pair[0] for pair in pairs), median(pair[1] for pair in pairs), "MiB", runs)


def in_fresh_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return ``function(*arguments)`` from a new interpreter that has run nothing else; exceptions come through."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def conditions() -> dict[str, str]:
    """What a time depends on besides the program: processor, threads, versions, allocator."""
    settings = [f"{name}={value}" for name, value in os.environ.items() if _sets_allocator(name)]
    return {
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "allocator": ", ".join(settings) or f"{' '.join(platform.libc_ver()).strip() or 'C library'}, default settings",
    }


def processor() -> str:
    """Model name of the CPU and the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def _sets_allocator(variable: str) -> bool:
    return variable in ALLOCATOR_VARIABLES or variable.startswith("MALLOC_")


def _status_mib(field: str) -> float:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / MIB
    raise InputError(f"{_STATUS} has no line {field}; measure on Linux")
