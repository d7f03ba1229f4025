# SPDX-License-Identifier: Apache-2.0
"""Running a bundle as its users do, in a process of its own."""

from __future__ import annotations

import ctypes
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import ROOT, bundle

_PR_SET_PDEATHSIG = 1  # of Linux' prctl


def run_bundle(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
    """Run ``python -m monai.bundle run`` from the repository's root, showing the command.

    Args:
        name: of the bundle.
        configs: names of its configs, merged in this order.
        overrides: keys of the config and their values.
        run_id: what to run.

    Raises:
        InputError: the run ended with an error, which it has shown.
    """
    folder = bundle(name).folder
    assert folder is not None
    files = [str((folder / "configs" / f"{config}.json").relative_to(ROOT)) for config in configs]
    command = ["-m", "monai.bundle", "run", run_id, "--config_file", files[0] if len(files) == 1 else str(files)]
    for key, value in overrides.items():
        command += [f"--{key}", str(value).replace(" ", "") if isinstance(value, list) else str(value)]
    print(f"\n$ python {shlex.join(command)}", flush=True)
    words = [sys.executable, "-W", "ignore", *command]
    on_start = _die_with_parent if sys.platform == "linux" else None  # Windows knows no such function
    ended = subprocess.run(words, cwd=ROOT, check=False, preexec_fn=on_start)
    if ended.returncode:
        raise InputError(f"this run of bundle {name} ended with exit status {ended.returncode}; see above.")


def _die_with_parent() -> None:
    """Let this process be killed when its parent is: else a training would go on beside the one that resumes it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
