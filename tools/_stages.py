# SPDX-License-Identifier: Apache-2.0
"""Trainings of several stages: each is run, gone on with, or found to be done already."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.training.run_state import read_run
from tools._bundle_runs import run_bundle


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        bundle: its name.
        configs: names of the configurations, merged in this order.
        options: keys of the configuration and their values.
        ckpt_dir: of model.pt and last.pt.
        output_dir: of metrics.csv and pictures.
    """

    bundle: str
    configs: Sequence[str]
    ckpt_dir: Path
    output_dir: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """The value that an option will have, read from the files and ``options`` without running anything."""
        if key in self.options:
            return self.options[key]
        folder = bundle(self.bundle).folder
        assert folder is not None
        values = [ConfigParser.load_config_file(folder / "configs" / f"{config}.json") for config in self.configs]
        return next(content[key] for content in reversed(values) if key in content)

    def finished_epochs(self) -> int:
        """How many epochs are done; 0 where the stage has not begun.

        Raises:
            InputError: last.pt is there and cannot be read.
        """
        last = self.ckpt_dir / "last.pt"
        return int(read_run(last)["epoch"]) if last.is_file() else 0

    def seconds(self) -> float:
        """Time of all epochs so far."""
        table = self.output_dir / "metrics.csv"
        if not table.is_file():
            return 0.0
        with table.open(newline="", encoding="utf-8") as file:
            return sum(float(row["seconds"]) for row in csv.DictReader(file))

    def run(self) -> None:
        """Train from the beginning, go on where a killed training ended, or do nothing where all epochs are done.

        Raises:
            InputError: the training ended with an error, which it has shown.
        """
        done, wanted = self.finished_epochs(), self.value("epochs")
        if done >= wanted:
            print(f"\n{self.ckpt_dir}: all {done} epochs are done")
            return
        places = {"ckpt_dir": self.ckpt_dir, "output_dir": self.output_dir, "resume": done > 0}
        run_bundle(self.bundle, self.configs, {**self.options, **places}, "training")
        if not (self.ckpt_dir / "model.pt").is_file():
            raise InputError(f"{self.ckpt_dir}: the training has ended without a model.pt; see its output above.")
