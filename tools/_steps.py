# SPDX-License-Identifier: Apache-2.0
"""Steps of several trainings: each is done, gone on with, or found to be done from the very same inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from custom_nets.datasets.datalist import load_section
from custom_nets.errors import InputError
from custom_nets.files import file_digest, json_digest, write_json
from custom_nets.spine.folds import relative_case
from tools._bundle_runs import run_bundle
from tools._stages import Stage


class Step(Protocol):
    """One step of a pipeline."""

    @property
    def title(self) -> str:
        """What it does, for people."""
        ...

    def run(self) -> None:
        """Do it, go on with it, or find it done."""
        ...


@dataclass(frozen=True)
class Training:
    """Train a stage.

    Attributes:
        title: for people.
        stage: the training.
        inputs: files that its result depends on beside cases and options, by what they are.
    """

    title: str
    stage: Stage
    inputs: Mapping[str, Path]

    def run(self) -> None:
        """Train, or go on.

        Raises:
            InputError: the training ended with an error, or was begun from other inputs than those that there are now.
        """
        note = self.stage.ckpt_dir / "inputs.json"
        digests = {**digests_of(self.inputs), "data list": cases_digest(self.stage.options, "training", "validation")}
        if self.stage.finished_epochs() == 0:
            write_json(note, digests)
        elif (changed := changed_input(note, digests)) is not None:
            raise InputError(
                f"{self.stage.ckpt_dir}: was trained from another {changed} than there is now: delete that folder to "
                "train it anew, or put the file back."
            )
        self.stage.run()


@dataclass(frozen=True)
class Evaluation:
    """Score a model on whole scans.

    Attributes:
        title: for people.
        bundle: its name.
        configs: names of the configurations.
        model: the weights.
        output_dir: of the tables.
        options: of the configuration.
    """

    title: str
    bundle: str
    configs: Sequence[str]
    model: Path
    output_dir: Path
    options: Mapping[str, Any]

    @property
    def summary(self) -> Path:
        """The means of all scores."""
        return self.output_dir / "metrics_summary.json"

    def run(self) -> None:
        """Score, unless these very weights have been scored on these cases.

        Raises:
            InputError: the evaluation ended with an error, which it has shown.
        """
        note, digests = self.output_dir / "inputs.json", digests_of({"model": self.model})
        digests["data list"] = cases_digest(self.options, str(self.options["section"]))
        if self.summary.is_file() and changed_input(note, digests) is None:
            print(f"{self.summary} is there")
            return
        note.unlink(missing_ok=True)
        run_bundle(self.bundle, self.configs, {**self.options, "checkpoint": self.model, "output_dir": self.output_dir})
        write_json(note, digests)


def run_steps(steps: Sequence[Step], within: str = "", after: Callable[[], object] = lambda: None) -> None:
    """Do steps in their order.

    Args:
        steps: of a pipeline.
        within: what it is a part of, before the numbers of the steps: "fold 1 of 5, ".
        after: called behind each step.

    Raises:
        InputError: a step ended with an error.
    """
    for number, step in enumerate(steps, start=1):
        print(f"\n[{within}{number}/{len(steps)}] {step.title}", flush=True)
        step.run()
        after()


def cases_digest(options: Mapping[str, Any], *sections: str) -> str:
    """SHA-256 of what sections of the data list name, in their order, wherever the data set's folder lies.

    A list that has changed deals cases out anew: logits of a network that was trained before might not be out of fold.
    """
    root = Path(options["dataset_dir"]).absolute()
    lists = [load_section(root, options["datalist"], section) for section in sections]
    cases = [[relative_case(case, root) for case in cases] for cases in lists]
    return json_digest(cases)


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of files, by what they are."""
    return {what: file_digest(path) for what, path in files.items()}


def changed_input(note: Path, digests: Mapping[str, str]) -> str | None:
    """The first input that is not what ``note`` tells; None if all are the same."""
    try:
        noted = dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        noted = {}
    keys = sorted(noted.keys() | digests.keys() or {"input"})
    if not note.is_file():
        return keys[0]
    return next((key for key in keys if noted.get(key) != digests.get(key)), None)
