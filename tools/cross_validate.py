# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.cross_validate NAME DATASET_DIR -k 5`: every case segmented by a model that has not seen it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import SECTIONS
from custom_nets.datasets.problems import text_table
from custom_nets.figures.cross_validation import cross_validation_figure, shown_metrics
from custom_nets.files import json_digest
from custom_nets.metrics.cross_validation import read_fold, write_fold_reports
from custom_nets.option_checks import require_writable
from custom_nets.registry import bundle
from custom_nets.spine.folds import cross_validation_lists, write_lists
from tools._arguments import whole
from tools._command import run
from tools._cross_ensemble import write_ensemble
from tools._cross_folds import PREDICTIONS, Fold, SingleFold
from tools._cross_spine import SpineFold
from tools._run_record import claim
from tools._spine_steps import NAME as SPINE

RECORD = "cross_validation.json"


def cross_validate(
    name: str,
    dataset_dir: str,
    *,
    k: int = 5,
    output_dir: str | None = None,
    seed: int = 0,
    overlay: str | None = None,
    with_testing: bool = False,
    **options: Any,
) -> None:
    """Train K models, each without a K-th of the patients, score and segment these, and keep all models as an ensemble.

    The cases of the lists training and validation are dealt out into K folds, a patient's cases together. For each fold
    a model is trained on the others, of which as many as DATASET_DIR's list has for validation choose the epoch; the
    fold's own cases are only tested on. The same command resumes a run that was stopped at any moment, also within a
    training, and does nothing twice. Below OUTPUT_DIR: scores/ (metrics.csv, metrics_per_case.csv, metrics.png and
    more), predictions/ of every case by the model that has not seen it, ensemble/ for
    `python -m tools.predict NAME SCANS OUT --checkpoint OUTPUT_DIR/ensemble`, and fold1/ and so on with all trainings.

    Args:
        name: of the bundle; zoom_resunet is trained by its train.json alone, spineparsenet by the whole of
            tools.spine_pipeline in each fold.
        dataset_dir: folder of the data set with its datalist.json.
        k: number of folds, at least 2.
        output_dir: where everything goes; left out, eval/cross_validation in the bundle's folder.
        seed: of the folds and of the trainings.
        overlay: a configuration of the bundle that is laid over train.json, such as demo.
        with_testing: the labelled cases of the list testing take part too.
        options: any option of the bundle's train.json, evaluate.json and inference.json, such as --epochs 30; of
            spineparsenet those of tools.spine_pipeline, with inner_folds for its folds.
    """
    found = bundle(str(name))
    root = found.folder / "eval" / "cross_validation" if output_dir is None else Path(str(output_dir)).absolute()
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    whole("-k", k, least=2, usual=5)
    whole("--seed", seed, least=0)
    require_writable(output_dir=root)
    data, listed = Path(str(dataset_dir)).absolute(), str(given.get("datalist", "datalist.json"))
    sections = SECTIONS if with_testing else SECTIONS[:2]
    first = _fold(found.name, data, root / "fold1", listed, overlay, {**given, "seed": seed})
    first.check()
    contents = cross_validation_lists(data, listed, k, seed, sections)
    told = {"bundle": found.name, "k": k, "seed": seed, "lists": list(sections)}
    recipe = {**told, "data list": json_digest(contents)[:12], **first.recipe()}
    folders = [root / f"fold{number}" for number in range(1, k + 1)]
    folds = [replace(first, folder=folder, datalist=str(folder / "datalist.json")) for folder in folders]
    for fold, content in zip(folds, contents, strict=True):
        fold.check_cases(content["training"])
    _tell(contents)
    stages = [stage for fold in folds for stage in fold.stages]
    claim(root / RECORD, recipe, stages, "fold*")
    write_lists(contents, root)
    for number, fold in enumerate(folds, start=1):
        fold.run(f"fold {number} of {k}, ")
        claim(root / RECORD, recipe, stages, "fold*")
    _report(found.name, root, folds)


def _fold(name: str, *place: Any) -> SingleFold | SpineFold:
    return SpineFold(*place) if name == SPINE else SingleFold(name, *place)


def _tell(contents: Sequence[Mapping[str, Any]]) -> None:
    """How many cases each fold has, and what that means."""
    rows = [(str(number), *(str(len(one[part])) for part in SECTIONS)) for number, one in enumerate(contents, 1)]
    print(text_table(("fold", "trained on", "validated", "its own"), rows))
    alone = [number for number, *_, own in rows if own == "1"]
    if alone:
        folds = f"fold {alone[0]} has" if len(alone) == 1 else f"folds {', '.join(alone)} have"
        print(f"{folds} one case of its own: its mean is that case's score, and the spread of folds that of cases.")


def _report(name: str, root: Path, folds: Sequence[Fold]) -> None:
    """Scores of all cases as tables and a figure; all models as an ensemble."""
    scores = [read_fold(fold.scores) for fold in folds]
    summary = write_fold_reports(scores, root / "scores")
    title = f"{name}: {summary['cases']} cases in {len(folds)} folds, each scored by a model that has not seen it"
    cross_validation_figure([fold.cases for fold in scores], root / "scores" / "metrics.png", title)
    ensemble = write_ensemble(root / "ensemble", name, [fold.model for fold in folds], folds[0].inference, summary)
    metrics = summary["metrics"]
    header = ("metric", "mean ± SD of cases", "mean ± SD of folds", "cases", "without a value")
    rows = [
        (
            key,
            _both(one, "mean", "std"),
            _both(one, "mean_of_folds", "std_of_folds"),
            str(one["n"]),
            str(one["left_out"]),
        )
        for key, one in ((key, metrics[key]) for key in shown_metrics(list(metrics)))
    ]
    print(f"\n{title}:\n{text_table(header, rows)}")
    print(f"\nall scores: {root / 'scores'}\npredictions: {root / PREDICTIONS}")
    checkpoint = shlex.quote(str(ensemble))
    print(f"all models together:\n  python -m tools.predict {name} SCANS OUT_DIR --checkpoint {checkpoint}")


def _both(one: Mapping[str, Any], mean: str, deviation: str) -> str:
    return "-" if one[mean] is None else f"{one[mean]:.4f} ± {one[deviation]:.4f}"


if __name__ == "__main__":
    run(cross_validate)
