# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed (SIGKILL) at exact moments, each in a process of its own.

``python -m tests.killed_runs RUNS`` with RUNS, JSON: moment -> (bundle, data, folder, options). The interpreter is
started once and forks a process a moment before anything has been computed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from custom_nets.training import records
from tests.bundle_runs import Runs


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_epoch_2(trainer: Any, evaluator: Any) -> None:
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=trainer.state.epoch_length + 1), kill)


def in_the_validation_of_epoch_2(trainer: Any, evaluator: Any) -> None:
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kill() if e.state.epoch == 2 else None)


def while_the_first_last_pt_is_written(trainer: Any, evaluator: Any, epoch: int = 1) -> None:
    save = torch.save

    def half(content: Any, path: Path) -> None:
        save(content, path)
        if content.get("epoch") == epoch:
            os.truncate(path, path.stat().st_size // 2)
            kill()

    torch.save = half


def while_the_second_last_pt_is_written(trainer: Any, evaluator: Any) -> None:
    while_the_first_last_pt_is_written(trainer, evaluator, epoch=2)


MOMENTS: dict[str, Callable[[Any, Any], None]] = {
    moment.__name__: moment
    for moment in (
        in_epoch_2,
        in_the_validation_of_epoch_2,
        while_the_first_last_pt_is_written,
        while_the_second_last_pt_is_written,
    )
}


def forked(action: Callable[[], Any]) -> int:
    """Do something in a fork of this process; return how that ended."""
    process = os.fork()
    if process == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def start(moment: str, bundle: str, data: str, folder: str, options: dict[str, Any]) -> int:
    """Fork a training that kills itself; return how it ended."""

    def train() -> None:
        records.learning_curves = lambda *paths: paths[-1]  # half the time of such an epoch
        workflow = Runs(bundle, Path(data), Path(folder)).workflow(**options)
        workflow.initialize()
        parsed = workflow.parser.get_parsed_content
        MOMENTS[moment](parsed("train::trainer"), parsed("validate::evaluator"))
        workflow.run()

    return forked(train)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ended = {moment: start(moment, *arguments) for moment, arguments in json.loads(sys.argv[1]).items()}
    sys.exit(f"not killed: {ended}" if set(ended.values()) != {-signal.SIGKILL} else 0)
