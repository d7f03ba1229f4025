# SPDX-License-Identifier: Apache-2.0
"""zoom-in&out trainings, whole or killed (SIGKILL) at exact moments, each in a process of its own.

``python -m tests.tools.killed_zooms RUNS`` with RUNS, JSON: moment -> (data, folder). The interpreter is started once
and forks a process a moment before anything has been computed.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from custom_nets.training import records
from custom_nets.training.records import RunRecords
from tests.bundle_runs import run_here
from tests.killed_runs import forked, kill, while_the_first_last_pt_is_written
from tools import _stages, zoom_in_out

#: A run of two epochs in each stage; kinds that reach one workflow only, or both.
OPTIONS: dict[str, Any] = {
    "zoom_in_size": [16, 16, 16],
    "zoom_out_size": [24, 20, 28],
    "zoom_in_epochs": 2,
    "zoom_out_epochs": 2,
    "base_width": 4,
    "intensity": "percentile",
    "restart_epochs": 3,
    "lesion_share": 0.5,
    "bootstrap_resamples": 10,
    "device": "cpu",
    "amp": False,
    "num_workers": 0,
    "pictures": 0,
}


def in_epoch_2() -> None:
    """Behind the first of its two iterations."""
    note: Any = RunRecords._note

    def killed(self: Any, engine: Any) -> None:
        note(self, engine)
        if engine.state.epoch == 2:
            kill()

    RunRecords._note = killed  # type: ignore[method-assign]


def in_the_write_of_last_pt() -> None:
    while_the_first_last_pt_is_written(None, None)


BETWEEN = "between the stages"
#: Moment -> which of the four runs (training and evaluation of zoom-in, the same of zoom-out), and what comes then.
MOMENTS: dict[str, tuple[int, Callable[[], None]]] = {
    "never": (0, kill),
    "within zoom-in": (1, in_epoch_2),
    BETWEEN: (3, kill),
    "within zoom-out": (3, in_epoch_2),
    "while zoom-out writes last.pt": (3, in_the_write_of_last_pt),
    "before the last evaluation": (4, kill),
}


def run(data: Path, folder: Path, **changes: Any) -> None:
    """The tool's run in this process, without curves."""
    zoom_in_out.zoom_in_out(str(data), output_dir=str(folder), **{**OPTIONS, **changes})


def use(runner: Callable[..., None]) -> None:
    """Let the tool run bundles by another function, and draw no curves, in this process for good."""
    for module in (_stages, zoom_in_out):
        module.run_bundle = runner  # type: ignore[attr-defined]
    records.learning_curves = lambda *paths: Path()  # type: ignore[attr-defined]
    logging.basicConfig(level=logging.INFO)


def coming(number: int, come: Callable[[], None]) -> Callable[..., None]:
    """A runner of bundles that calls ``come`` before its run of that number, counted from 1."""
    started: list[str] = []

    def runner(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
        started.append(run_id)
        if len(started) == number:
            come()
        run_here(name, configs, overrides, run_id)

    return runner


def start(moment: str, data: str, folder: str, between: str) -> int:
    """Fork a run that kills itself; return how it ended.

    One that dies within the second stage goes on from a copy of the one that died before it, which takes less time.
    """
    number, come = MOMENTS[moment]
    if folder != between and number >= MOMENTS[BETWEEN][0]:
        shutil.copytree(between, folder, dirs_exist_ok=True)
        number -= MOMENTS[BETWEEN][0] - 1

    def zoom() -> None:
        use(coming(number, come))
        run(Path(data), Path(folder))

    return forked(zoom)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = {moment: 0 if moment == "never" else -signal.SIGKILL for moment in MOMENTS}
    orders = json.loads(sys.argv[1])
    ended = {moment: start(moment, *order, orders[BETWEEN][1]) for moment, order in orders.items()}
    sys.exit(f"ended otherwise: {ended}" if ended != wanted else 0)
