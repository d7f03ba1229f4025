# SPDX-License-Identifier: Apache-2.0
"""Trainings of several bundles, each in two processes, whose interpreters are started once.

``torchrun --nproc_per_node=2 -m tests.two_processes TRAININGS`` with TRAININGS, JSON: a list of (port, configurations,
options, file). Each process forks for each training before anything has been computed, and the forks meet at the port
and do what `python -m monai.bundle run training` does; what they say goes to the file, the process's number behind it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle.scripts import run

from custom_nets.training import records
from tests.killed_runs import forked


def start(port: int, configs: list[str], options: dict[str, Any], told: str) -> int:
    """Fork this process's part of a training; return how it ended."""

    def train() -> None:
        records.learning_curves = lambda *paths: Path()  # half the time of such an epoch
        with Path(f"{told}.{os.environ['RANK']}").open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        # torchrun's own place to meet is for one training
        os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
        run("training", config_file=configs, **options)

    return forked(train)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(max(start(*training) for training in json.loads(sys.argv[1])))
