# SPDX-License-Identifier: Apache-2.0
"""One fold of a cross-validation: a model, its scores and its predictions of cases that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from custom_nets.datasets.datalist import Case
from custom_nets.files import write_json
from custom_nets.option_checks import check_options
from tools._bundle_options import OF_MACHINES, options_of, overlays, read_config, require_known
from tools._bundle_runs import run_bundle
from tools._stages import Stage
from tools._steps import Evaluation, Step, Training, cases_digest, changed_input, digests_of, run_steps

WORKFLOWS = ("train", "evaluate", "inference")
PREDICTIONS = "predictions"
#: Keys that a cross-validation sets itself.
_SET = (
    *("bundle_root", "dataset_dir", "section", "ckpt_dir", "output_dir", "output_ext", "output_postfix"),
    *("separate_folder", "resume", "keep_last", "checkpoint"),
)
#: Keys that a record tells apart from the options.
_TOLD = ("seed", "datalist")


class Fold(Protocol):
    """One fold."""

    @property
    def folder(self) -> Path:
        """Of everything but the predictions, which go into one folder for all folds."""
        ...

    @property
    def model(self) -> Path:
        """The weights."""
        ...

    @property
    def scores(self) -> Path:
        """Folder of the tables of the evaluation."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """All trainings."""
        ...

    @property
    def inference(self) -> Mapping[str, Any]:
        """Options with which the bundle's inference.json segments as the model was trained."""
        ...

    def check(self) -> None:
        """Refuse wrong options; nothing is written."""
        ...

    def check_cases(self, training: Sequence[Case]) -> None:
        """Refuse cases that are too few to train on; nothing is written."""
        ...

    def recipe(self) -> dict[str, Any]:
        """What the result depends on beside cases and seed."""
        ...

    def run(self, within: str) -> None:
        """Train, score and predict, each unless it is done; ``within`` tells the fold."""
        ...


@dataclass(frozen=True)
class SingleFold:
    """A fold of a bundle that is trained by its train.json alone.

    Attributes:
        bundle: its name.
        dataset_dir: folder of the data set, absolute.
        folder: of this fold.
        datalist: the fold's list: its own cases are for testing.
        overlay: a configuration that is laid over train.json.
        options: of the configurations, "seed" among them.
    """

    bundle: str
    dataset_dir: Path
    folder: Path
    datalist: str
    overlay: str | None
    options: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The weights."""
        return self.folder / "models" / "model.pt"

    @property
    def scores(self) -> Path:
        """Folder of the tables of the evaluation."""
        return self.folder / "evaluation"

    @cached_property
    def stages(self) -> list[Stage]:
        """The one training."""
        options = {**options_of(self.bundle, "train", self.options), **self._place()}
        configs = ["train", *overlays(self.bundle, self.overlay)]
        return [Stage(self.bundle, configs, self.folder / "models", self.folder / "eval", options)]

    @property
    def inference(self) -> dict[str, Any]:
        """Options of inference.json."""
        return self._settings("inference")

    def check(self) -> None:
        """Refuse wrong options; nothing is written.

        Raises:
            InputError: naming the option, the value found and what would do.
        """
        require_known(self.bundle, self.options, WORKFLOWS, _SET)
        values = {key: self.stages[0].value(key) for key in ("epochs", "patch_size")}
        check_options({"device": "cpu", "amp": False, **self.options, **values})

    def check_cases(self, training: Sequence[Case]) -> None:
        """Refuse nothing: the folds leave as many as one training needs."""

    def recipe(self) -> dict[str, Any]:
        """What the result depends on beside cases and seed."""
        options = {key: str(value) for key, value in self.options.items() if key not in (*OF_MACHINES, *_TOLD)}
        sizes = {key: self.stages[0].value(key) for key in ("epochs", "patch_size")}
        return {**sizes, "overlay": self.overlay, "options": options}

    def run(self, within: str) -> None:
        """Train, score and predict, each unless it is done."""
        own = {**self._settings("evaluate"), **self._place(), "section": "testing"}
        steps: list[Step] = [
            Training("training", self.stages[0], {}),
            Evaluation("scores of its own cases", self.bundle, ["evaluate"], self.model, self.scores, own),
            prediction_of(self, self.bundle, self._place()),
        ]
        run_steps(steps, within)

    def _place(self) -> dict[str, Any]:
        return {"dataset_dir": self.dataset_dir, "datalist": self.datalist}

    def _settings(self, workflow: str) -> dict[str, Any]:
        """What the overlay and the options set, of that which the workflow has."""
        laid_over = [read_config(self.bundle, overlay) for overlay in overlays(self.bundle, self.overlay)]
        merged = {key: value for content in [*laid_over, self.options] for key, value in content.items()}
        return {
            key: value for key, value in options_of(self.bundle, workflow, merged).items() if key not in (*_SET, *_TOLD)
        }


@dataclass(frozen=True)
class OutOfFold:
    """Segment a fold's own cases, which its model has not seen.

    Attributes:
        title: for people.
        bundle: its name.
        model: the weights.
        note: file that tells from what the predictions were made.
        output_dir: of the predictions.
        options: of inference.json, with data set and list.
    """

    title: str
    bundle: str
    model: Path
    note: Path
    output_dir: Path
    options: Mapping[str, Any]

    def run(self) -> None:
        """Predict, unless these very weights have segmented these cases.

        Raises:
            InputError: the inference ended with an error, which it has shown.
        """
        digests = {**digests_of({"model": self.model}), "data list": cases_digest(self.options, "testing")}
        if self.output_dir.is_dir() and changed_input(self.note, digests) is None:
            print(f"{self.note} says that they are in {self.output_dir}")
            return
        self.note.unlink(missing_ok=True)
        own = {"checkpoint": self.model, "output_dir": self.output_dir, "section": "testing"}
        run_bundle(self.bundle, ["inference"], {**self.options, **own})
        write_json(self.note, digests)


def prediction_of(fold: Fold, bundle: str, place: Mapping[str, Any]) -> OutOfFold:
    """The step that segments a fold's own cases; pictures are the evaluation's."""
    return OutOfFold(
        "predictions of its own cases",
        bundle,
        fold.model,
        fold.folder / "predictions.json",
        fold.folder.parent / PREDICTIONS,
        {**fold.inference, **place, "pictures": 0},
    )
