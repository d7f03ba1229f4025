# SPDX-License-Identifier: Apache-2.0
"""What a SpineParseNet pipeline consists of: its options, its trainings and its steps in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import Case, load_section
from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.label_graphs.reading import label_graph_of
from custom_nets.option_checks import check_options
from custom_nets.spine.coarse_logits import graph_digest
from custom_nets.spine.folds import fold_lists, fold_of_cases, write_lists
from tools._bundle_options import OF_MACHINES, option_keys, options_of, overlays, read_config
from tools._spine_steps import NAME, Assembly, Prediction
from tools._stages import Stage
from tools._steps import Evaluation, Step, Training
from tools.coarse_logits import coarse_stage

WORKFLOWS = ("pretrain", "train", "refine")
LOGITS = ("out_of_fold", "in_sample")
#: Keys that the pipeline sets itself; the first of them may be given for one stage, as --refine_epochs.
_OF_ONE_STAGE = ("epochs", "batch_size", "learning_rate")
_OF_STAGES = (
    *("patch_size", "ckpt_dir", "output_dir", "pretrained", "resume", "bundle_root", "stages"),
    *("checkpoint", "refinement_checkpoint", "coarse_checkpoint", "coarse_logits", "logits_dir", "out_of_fold"),
)
#: Keys that all stages have to agree on: they are given for all of them.
_OF_ALL = (
    *("dataset_dir", "datalist", "label_graph", "in_channels", "width", "coarse_size"),
    *("crop_share", "slice_spacing", "intensity_mean", "intensity_std"),
)


@dataclass(frozen=True)
class Plan:
    """A pipeline.

    Attributes:
        dataset_dir: folder of the data set, absolute.
        root: where everything goes, absolute.
        folds: of the out-of-fold logits.
        logits: one of `LOGITS`.
        section: which cases are scored.
        overlay: a configuration with settings for the coarse stages; OVERLAY_refine, if it is there, for the third.
        sizes: "coarse_size" and "fine_size", where they are given.
        options: of the configurations; PREFIX_KEY, with one of `WORKFLOWS`, is KEY of that stage alone.
    """

    dataset_dir: Path
    root: Path
    folds: int
    logits: str
    section: str
    overlay: str | None
    sizes: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The weights of both stages."""
        return self.root / "models" / "model.pt"

    @property
    def datalist(self) -> str:
        """The list of the data set's cases."""
        return str(self.options.get("datalist", "datalist.json"))

    @property
    def graph(self) -> LabelGraph:
        """The label graph of all stages."""
        return label_graph_of(self.dataset_dir, self.datalist, self.final[1].value("label_graph"))

    @property
    def fold_folders(self) -> list[Path]:
        """Where each fold's data list and trainings lie; none for in-sample logits."""
        count = self.folds if self.logits == "out_of_fold" else 0
        return [self.root / "folds" / f"fold{fold + 1}" for fold in range(count)]

    @cached_property
    def final(self) -> tuple[Stage, Stage]:
        """Pre-training and training of the coarse network on all training cases."""
        return self._coarse(self.root, self.datalist)

    @cached_property
    def refinement(self) -> Stage:
        """Training of the refinement."""
        own = {
            **{"coarse_size": self.final[1].value("patch_size"), "coarse_logits": "stored"},
            **{"logits_dir": self.root / "logits", "out_of_fold": self.logits == "out_of_fold"},
        }
        return self._stage("refine", self.root, self.datalist, "fine_size", own)

    @cached_property
    def coarse_stages(self) -> list[tuple[Stage, Stage]]:
        """Pre-training and training of every fold, then of all cases."""
        return [*(self._coarse(folder, str(folder / "datalist.json")) for folder in self.fold_folders), self.final]

    @property
    def stages(self) -> list[Stage]:
        """All trainings."""
        return [*(stage for pair in self.coarse_stages for stage in pair), self.refinement]

    def check(self) -> None:
        """Refuse now what a later step would refuse after days of training. Nothing is written.

        Raises:
            InputError: naming the option, the value found and what would do.
        """
        self.check_options()
        load_section(self.dataset_dir, self.datalist, "validation")
        load_section(self.dataset_dir, self.datalist, self.section)
        self.check_folds(load_section(self.dataset_dir, self.datalist, "training"))

    def check_options(self) -> None:
        """Refuse options that a step would refuse, but for the data.

        Raises:
            InputError: naming the option, the value found and what would do.
        """
        known = {key for workflow in (*WORKFLOWS, "evaluate") for key in option_keys(NAME, workflow)}
        for key in self.options:
            prefix, _, rest = key.partition("_")
            own = prefix in WORKFLOWS and rest in option_keys(NAME, prefix) and rest not in (*_OF_STAGES, *_OF_ALL)
            if not own and (key not in known or key in (*_OF_STAGES, *_OF_ONE_STAGE)):
                advice = f"; give it for one stage, as --refine_{key}" if key in _OF_ONE_STAGE else ""
                advice = f"; give it for all stages, as --{rest}" if prefix in WORKFLOWS and rest in _OF_ALL else advice
                raise InputError(
                    f"option --{key} is unknown here{advice}: see --help, and `python -m tools.info {NAME}`"
                )
        if self.logits not in LOGITS:
            raise InputError(f"logits is {self.logits!r}: choose one of {', '.join(LOGITS)}.")
        for stage in (*self.final, self.refinement):
            own_values = {key: stage.value(key) for key in ("epochs", "patch_size", "label_graph")}
            values = {**options_of(NAME, "evaluate", self.options), **stage.options, **own_values}
            check_options({"device": "cpu", "amp": False, **values})
        coarse_stage(self.dataset_dir, self.datalist, self.final[1].configs, self.final[1].options).build()

    def check_folds(self, training: Sequence[Case]) -> None:
        """Refuse a number of folds that the training cases do not have.

        Raises:
            InputError: naming the numbers.
        """
        if self.logits == "out_of_fold":
            fold_of_cases(training, self.folds, self.seed)
        elif len(training) < 2:
            raise InputError(f"{len(training)} training case: batch norm needs at least 2.")

    def recipe(self) -> dict[str, Any]:
        """What the results depend on, for `tools._run_record.claim`."""
        trainings = (*self.final, self.refinement)
        epochs = {f"{one}_epochs": stage.value("epochs") for one, stage in zip(WORKFLOWS, trainings, strict=True)}
        sizes = {"coarse_size": self.final[1].value("patch_size"), "fine_size": self.refinement.value("patch_size")}
        told = (*OF_MACHINES, *epochs)
        options = {key: str(value) for key, value in self.options.items() if not key.endswith(told)}
        folds = {"logits": self.logits, **({"folds": self.folds} if self.logits == "out_of_fold" else {})}
        graph = {"digest of the label graph": graph_digest(self.graph)[:12]}
        return {
            **epochs,
            **sizes,
            **folds,
            **graph,
            "section": self.section,
            "overlay": self.overlay,
            "options": options,
        }

    def steps(self) -> list[Step]:
        """All steps in their order; the folds' data lists are written."""
        if self.fold_folders:
            lists = fold_lists(self.dataset_dir, self.datalist, self.folds, self.seed)
            write_lists(lists, self.root / "folds")
        steps: list[Step] = []
        for number, (folder, pair) in enumerate(zip(self.fold_folders, self.coarse_stages, strict=False), start=1):
            where = f"fold {number} of {self.folds}"
            steps += self._coarse_steps(where, pair)
            steps.append(
                self._prediction(f"{where}: its own cases' logits", str(folder / "datalist.json"), pair[1], "testing")
            )
        steps += self._coarse_steps("all training cases", self.final)
        for section in ("training", "validation") if self.logits == "in_sample" else ("validation",):
            steps.append(self._prediction(f"logits of the {section} cases", self.datalist, self.final[1], section))
        sources = {f"coarse network {n}": pair[1].ckpt_dir / "model.pt" for n, pair in enumerate(self.coarse_stages, 1)}
        steps.append(Training("refinement", self.refinement, sources))
        coarse, refinement = (stage.ckpt_dir / "model.pt" for stage in (self.final[1], self.refinement))
        steps.append(Assembly("both networks into one file", coarse, refinement, self.model))
        return [*steps, *self.evaluations()]

    def evaluations(self) -> list[Evaluation]:
        """The scores of the coarse stage alone, and of both."""
        return [
            Evaluation(
                f"evaluation, {'coarse stage alone' if stages == 'coarse' else 'both stages'}",
                NAME,
                ["evaluate"],
                self.model,
                self.root / "eval" / "evaluation" / stages,
                {**self._of_evaluation(), "stages": stages, "section": self.section},
            )
            for stages in ("coarse", "both")
        ]

    @property
    def seed(self) -> int:
        """Of the folds, as of everything else."""
        return int(self.options.get("seed", 0))

    def _coarse(self, folder: Path, datalist: str) -> tuple[Stage, Stage]:
        first = self._stage("pretrain", folder, datalist, "coarse_size")
        start = {"pretrained": first.ckpt_dir / "model.pt"}
        return first, self._stage("train", folder, datalist, "coarse_size", start)

    def _stage(
        self, workflow: str, folder: Path, datalist: str, size: str, own: Mapping[str, Any] | None = None
    ) -> Stage:
        common = {key: value for key, value in self.options.items() if workflow != "pretrain" or key != "graph_mode"}
        prefix = f"{workflow}_"
        given = {key.removeprefix(prefix): value for key, value in self.options.items() if key.startswith(prefix)}
        sizes = {"patch_size": self.sizes[size]} if size in self.sizes else {}
        place = {"dataset_dir": self.dataset_dir, "datalist": datalist}
        options = {**options_of(NAME, workflow, common), **given, **sizes, **place, **(own or {})}
        name = {"pretrain": "pretrain", "train": "coarse", "refine": "refine"}[workflow]
        return Stage(NAME, self._configs(workflow), folder / "models" / name, folder / "eval" / name, options)

    def _configs(self, workflow: str) -> list[str]:
        if self.overlay is None:
            return [workflow]
        special = overlays(NAME, f"{self.overlay}_{workflow}", optional=True)
        return [workflow, *(special or overlays(NAME, self.overlay))]

    def _coarse_steps(self, where: str, pair: tuple[Stage, Stage]) -> Iterator[Step]:
        first, second = pair
        yield Training(f"{where}: pre-training", first, {})
        yield Training(f"{where}: coarse network", second, {"pre-training": first.ckpt_dir / "model.pt"})

    def _prediction(self, title: str, datalist: str, stage: Stage, section: str) -> Prediction:
        return Prediction(title, self.dataset_dir, datalist, section, stage, self.root / "logits")

    def _of_evaluation(self) -> dict[str, Any]:
        """The stages' settings, from overlays and options, that the evaluation has too."""
        settings: dict[str, Any] = {}
        for stage in (self.final[1], self.refinement):
            for overlay in stage.configs[1:]:
                settings |= read_config(NAME, overlay)
            settings |= stage.options
        settings |= self.options
        settings["datalist"] = self.datalist
        sizes = {"patch_size": self.final[1].value("patch_size"), "fine_size": self.refinement.value("patch_size")}
        skipped = (*_OF_STAGES, *_OF_ONE_STAGE)
        return {
            key: value for key, value in options_of(NAME, "evaluate", settings).items() if key not in skipped
        } | sizes
