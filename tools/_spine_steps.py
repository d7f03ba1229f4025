# SPDX-License-Identifier: Apache-2.0
"""Steps of a SpineParseNet pipeline: each is done, gone on with, or found to be done from the very same inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from custom_nets.datasets.datalist import load_section
from custom_nets.errors import InputError
from custom_nets.files import file_digest, write_json
from custom_nets.spine.folds import relative_case
from custom_nets.spine.weights import join_stages
from tools._bundle_runs import run_bundle
from tools._stages import Stage
from tools.coarse_logits import predict

NAME = "spineparsenet"


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
        digests = {**_digests(self.inputs), "data list": cases_digest(self.stage.options, "training", "validation")}
        if self.stage.finished_epochs() == 0:
            write_json(note, digests)
        elif (changed := _changed(note, digests)) is not None:
            raise InputError(
                f"{self.stage.ckpt_dir}: was trained from another {changed} than there is now: delete that folder to "
                "train it anew, or put the file back."
            )
        self.stage.run()


@dataclass(frozen=True)
class Prediction:
    """Store the coarse logits of a section by the network that was trained on the same list.

    Attributes:
        title: for people.
        dataset_dir: folder of the data set.
        datalist: that the network was trained with.
        section: whose cases.
        stage: the network's training.
        folder: of the logits.
    """

    title: str
    dataset_dir: Path
    datalist: str
    section: str
    stage: Stage
    folder: Path

    def run(self) -> None:
        """Compute those logits that are missing, or are of another checkpoint."""
        checkpoint = self.stage.ckpt_dir / "model.pt"
        place = (self.dataset_dir, self.datalist, self.section, checkpoint, self.folder)
        written, kept = predict(*place, self.stage.configs, self.stage.options)
        print(f"{self.folder}: the coarse logits of {written} cases were written, those of {kept} were there")


@dataclass(frozen=True)
class Assembly:
    """Put both networks' weights into one file, as `custom_nets.SpineParseNet` has them.

    Attributes:
        title: for people.
        coarse: weights of the first.
        refinement: weights of the second.
        model: the file.
    """

    title: str
    coarse: Path
    refinement: Path
    model: Path

    def run(self) -> None:
        """Write the file, unless it is there from the same parts."""
        note = self.model.with_suffix(".json")
        digests = _digests({"coarse": self.coarse, "refinement": self.refinement})
        if self.model.is_file() and _changed(note, {**digests, "model": file_digest(self.model)}) is None:
            print(f"{self.model} is there")
            return
        join_stages(self.coarse, self.refinement, self.model)
        write_json(note, {**digests, "model": file_digest(self.model)})
        print(f"wrote {self.model}")


@dataclass(frozen=True)
class Evaluation:
    """Score a model on whole scans.

    Attributes:
        title: for people.
        configs: names of the configurations.
        model: the weights.
        output_dir: of the tables.
        options: of the configuration.
    """

    title: str
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
        note, digests = self.output_dir / "inputs.json", _digests({"model": self.model})
        digests["data list"] = cases_digest(self.options, str(self.options["section"]))
        if self.summary.is_file() and _changed(note, digests) is None:
            print(f"{self.summary} is there")
            return
        note.unlink(missing_ok=True)
        run_bundle(NAME, self.configs, {**self.options, "checkpoint": self.model, "output_dir": self.output_dir})
        write_json(note, digests)


def cases_digest(options: Mapping[str, Any], *sections: str) -> str:
    """SHA-256 of what sections of the data list name, in their order, wherever the data set's folder lies.

    A list that has changed deals cases out anew: logits of a network that was trained before might not be out of fold.
    """
    root = Path(options["dataset_dir"]).absolute()
    lists = [load_section(root, options["datalist"], section) for section in sections]
    cases = [[relative_case(case, root) for case in cases] for cases in lists]
    return hashlib.sha256(json.dumps(cases, sort_keys=True).encode()).hexdigest()


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {what: file_digest(path) for what, path in files.items()}


def _changed(note: Path, digests: Mapping[str, str]) -> str | None:
    """The first input that is not what ``note`` tells; None if all are the same."""
    try:
        noted = dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        noted = {}
    keys = sorted(noted.keys() | digests.keys() or {"input"})
    if not note.is_file():
        return keys[0]
    return next((key for key in keys if noted.get(key) != digests.get(key)), None)
