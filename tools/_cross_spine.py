# SPDX-License-Identifier: Apache-2.0
"""One fold of a cross-validation of SpineParseNet: its whole pipeline of trainings within the other folds' cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import Case
from custom_nets.errors import InputError
from tools._bundle_options import OF_MACHINES, options_of
from tools._cross_folds import prediction_of
from tools._spine_plan import Plan
from tools._spine_steps import NAME
from tools._stages import Stage
from tools.spine_pipeline import run_plan

#: Options of the pipeline itself, beside those of the configurations, and their defaults.
_PIPELINE = {"inner_folds": 5, "logits": "out_of_fold", "coarse_size": None, "fine_size": None}


@dataclass(frozen=True)
class SpineFold:
    """A fold of SpineParseNet.

    Attributes:
        dataset_dir: folder of the data set, absolute.
        folder: of this fold.
        datalist: the fold's list: its own cases are for testing.
        overlay: a configuration with settings for the coarse stages; OVERLAY_refine, if it is there, for the third.
        options: of the pipeline (inner_folds, logits, coarse_size, fine_size) and of the configurations.
    """

    dataset_dir: Path
    folder: Path
    datalist: str
    overlay: str | None
    options: Mapping[str, Any]

    @cached_property
    def plan(self) -> Plan:
        """Of the pipeline."""
        given = {key: self.options.get(key, default) for key, default in _PIPELINE.items()}
        sizes = {key: given[key] for key in ("coarse_size", "fine_size") if given[key] is not None}
        rest = {key: value for key, value in self.options.items() if key not in _PIPELINE}
        options = {**rest, "datalist": self.datalist}
        pipeline = (given["inner_folds"], str(given["logits"]), "testing", self.overlay)
        return Plan(self.dataset_dir, self.folder, *pipeline, sizes, options)

    @property
    def model(self) -> Path:
        """The weights of both networks."""
        return self.plan.model

    @property
    def scores(self) -> Path:
        """Folder of the tables of both stages' evaluation."""
        return self.plan.evaluations()[-1].output_dir

    @property
    def stages(self) -> list[Stage]:
        """All trainings."""
        return self.plan.stages

    @property
    def inference(self) -> dict[str, Any]:
        """Options of inference.json."""
        place = ("dataset_dir", "datalist", "section")
        settings = options_of(NAME, "inference", self.plan.evaluations()[-1].options)
        return {key: value for key, value in settings.items() if key not in place}

    def check(self) -> None:
        """Refuse wrong options; nothing is written.

        Raises:
            InputError: naming the option, the value found and what would do.
        """
        self.plan.check_options()

    def check_cases(self, training: Sequence[Case]) -> None:
        """Refuse fewer cases than the inner folds need.

        Raises:
            InputError: naming the numbers.
        """
        try:
            self.plan.check_folds(training)
        except InputError as error:
            raise InputError(f"inner folds, within each fold: {error}") from None

    def recipe(self) -> dict[str, Any]:
        """What the result depends on beside cases and seed."""
        recipe = self.plan.recipe()
        told = (*OF_MACHINES, "seed", "datalist")
        return {**recipe, "options": {key: value for key, value in recipe["options"].items() if key not in told}}

    def run(self, within: str) -> None:
        """All steps of the pipeline, and the predictions."""
        run_plan(self.plan, within)
        step = prediction_of(self, NAME, {"dataset_dir": self.dataset_dir, "datalist": self.datalist})
        print(f"\n[{within}last] {step.title}", flush=True)
        step.run()
