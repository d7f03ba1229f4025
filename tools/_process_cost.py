# SPDX-License-Identifier: Apache-2.0
"""What a whole command costs: time, processor time, and the most memory of it and its children together."""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_nets.errors import InputError

_EVERY = 0.4  # seconds from one look at the memory to the next


@dataclass(frozen=True)
class Cost:
    """Of one run of a command.

    Attributes:
        seconds: from start to end.
        processor_seconds: of all its threads and processes.
        peak_mib: the most memory of all its processes together; what they share counts once.
    """

    seconds: float
    processor_seconds: float
    peak_mib: float


def cost_of(command: Sequence[str], cwd: Path) -> Cost:
    """Run a command and measure it.

    Raises:
        InputError: it fails; with the last line that it says.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    peak = 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=cwd, stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, _memory_kib(process.pid))
            time.sleep(_EVERY)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["nothing said"]
            raise InputError(f"{' '.join(command)}: ended with {process.returncode}: {lines[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(seconds, used, peak / 1024)


def _memory_kib(pid: int) -> int:
    """Proportional set size of a process and all below it."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text(encoding="ascii").split()
            total += sum(_memory_kib(int(child)) for child in children)
    except (OSError, ValueError):  # it has ended meanwhile
        pass
    return total
