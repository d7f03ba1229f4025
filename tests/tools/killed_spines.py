# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet pipelines, whole or killed (SIGKILL) at exact moments, each in a process of its own.

``python -m tests.tools.killed_spines RUNS`` with RUNS, JSON: moment -> (data, folder). The interpreter is started once
and forks a process a moment before anything has been computed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_nets.training import records
from tests.killed_runs import forked, kill
from tests.tools.killed_zooms import coming, in_epoch_2, in_the_write_of_last_pt
from tests.tools.small_spines import OPTIONS
from tools import _stages, _steps, spine_pipeline

#: Two epochs in those stages that are killed.
EPOCHS = {"train_epochs": 2, "refine_epochs": 2}


def while_logits_are_written() -> None:
    """Of the first case, half of the file."""
    save = np.savez_compressed

    def half(path: Path, **arrays: Any) -> None:
        save(path, **arrays)
        os.truncate(path, path.stat().st_size // 2)
        kill()

    np.savez_compressed = half


#: Moment -> which of the nine runs (pre-training and coarse network of two folds and of all; refinement; evaluation of
#: coarse and of both), and what comes then.
MOMENTS: dict[str, tuple[int, Callable[[], None]]] = {
    "never": (0, kill),
    "within a fold's coarse network": (2, in_epoch_2),
    "while the second fold's logits are written": (4, while_logits_are_written),
    "within the refinement": (7, in_epoch_2),
    "while the refinement writes last.pt": (7, in_the_write_of_last_pt),
    "before the last evaluation": (9, kill),
}


def run(data: Path, folder: Path, **changes: Any) -> None:
    """The tool's run in this process."""
    spine_pipeline.spine_pipeline(str(data), output_dir=str(folder), **{**OPTIONS, **EPOCHS, **changes})


def use(runner: Callable[..., None]) -> None:
    """Let the tool run bundles by another function, and draw no curves, in this process for good."""
    for module in (_stages, _steps):
        module.run_bundle = runner  # type: ignore[attr-defined]
    records.learning_curves = lambda *paths: Path()  # type: ignore[attr-defined]
    logging.basicConfig(level=logging.INFO)


def start(moment: str, data: str, folder: str) -> int:
    """Fork a run that kills itself; return how it ended."""

    def pipeline() -> None:
        use(coming(*MOMENTS[moment]))
        run(Path(data), Path(folder))

    return forked(pipeline)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = {moment: 0 if moment == "never" else -signal.SIGKILL for moment in MOMENTS}
    ended = {moment: start(moment, *arguments) for moment, arguments in json.loads(sys.argv[1]).items()}
    sys.exit(f"ended otherwise: {ended}" if ended != wanted else 0)
