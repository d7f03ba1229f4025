# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.spine_pipeline DATASET_DIR`: all trainings of SpineParseNet in a row, and their evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.option_checks import require_writable
from custom_nets.registry import ROOT, bundle
from custom_nets.spine.folds import cross_validation_lists, write_lists
from tools._command import run
from tools._run_record import claim
from tools._spine_plan import Plan
from tools._spine_scores import merged_scores
from tools._spine_steps import NAME
from tools._steps import run_steps

RECORD = "spine_pipeline.json"


def spine_pipeline(
    dataset_dir: str,
    *,
    output_dir: str | None = None,
    folds: int = 5,
    logits: str = "out_of_fold",
    section: str = "validation",
    coarse_size: Sequence[int] | None = None,
    fine_size: Sequence[int] | None = None,
    overlay: str | None = None,
    cross_validate: bool | int = False,
    **options: Any,
) -> None:
    """Pre-train and train the coarse network, train the refinement on its logits, and score both on whole scans.

    The refinement learns from logits of coarse networks that have not seen the case: for each of FOLDS parts of the
    training cases a coarse network is trained on the others. The same command resumes a run that was stopped at any
    moment, and does nothing twice. Below OUTPUT_DIR: models/model.pt (the result, both networks), folds/, logits/,
    eval/ with curves and pictures, and eval/evaluation/{coarse,both}/ with the scores.

    Args:
        dataset_dir: folder of the data set with its datalist.json.
        output_dir: where everything goes; left out, the bundle's own folder, where inference looks for models/model.pt.
        folds: parts of the training cases, for out-of-fold logits.
        logits: out_of_fold, or in_sample: the refinement learns from logits of a network that was trained on the very
            case, as published; FOLDS + 1 coarse trainings become one.
        section: which list of cases the scores are of: validation, or testing.
        coarse_size: slices, rows and columns that the coarse network sees; [18,128,256] as published.
        fine_size: rows and columns that the refinement sees; [256,512] as published.
        overlay: a configuration of the bundle with settings for the coarse stages, such as demo; OVERLAY_refine, if it
            is there, is laid over the refinement instead.
        cross_validate: the paper's protocol, with this many folds (True: 5) of all labelled cases: each fold in turn is
            only tested on, everything above happens within the others, below OUTPUT_DIR/cross_validation/.
        options: any option of the bundle's pretrain.json, train.json, refine.json and evaluate.json, for all of them,
            but graph_mode not for the pre-training; for one stage with its name before it, as --refine_epochs 20.
    """
    folder = bundle(NAME).folder
    assert folder is not None
    root = folder if output_dir is None else Path(str(output_dir)).absolute()
    sizes = {"coarse_size": coarse_size, "fine_size": fine_size}
    given = {key: list(size) if isinstance(size, tuple) else size for key, size in sizes.items() if size is not None}
    plan = Plan(Path(str(dataset_dir)).absolute(), root, folds, str(logits), str(section), overlay, given, options)
    require_writable(output_dir=root)
    if cross_validate is False:
        plan.check()
        run_plan(plan)
        _report(plan)
    else:
        _cross_validate(plan, 5 if cross_validate is True else cross_validate)


def run_plan(plan: Plan, within: str = "") -> None:
    """Do all steps of a pipeline, each unless it is done.

    Args:
        plan: of the pipeline, checked.
        within: what it is a part of, before the numbers of the steps: "fold 1 of 5, ".

    Raises:
        InputError: a step ended with an error, or the folder holds another run.
    """
    record, foreign = plan.root / RECORD, plan.model.with_name("last.pt")
    if foreign.is_file():
        raise InputError(
            f"{foreign}: is of a training by train.json alone, whose model.pt would be overwritten: give another "
            "--output_dir, or move that training away."
        )
    note = partial(claim, record, plan.recipe(), plan.stages)
    note()
    run_steps(plan.steps(), within, after=note)


def _cross_validate(plan: Plan, folds: int) -> None:
    """Run the pipeline for every fold of all labelled cases, and score all of them together."""
    root = plan.root / "cross_validation"
    plan.check_options()
    contents = cross_validation_lists(plan.dataset_dir, plan.datalist, folds, plan.seed)
    for content in contents:
        plan.check_folds(content["training"])
    claim(root / RECORD, {**plan.recipe(), "section": "testing", "cross_validate": folds}, [])
    lists = write_lists(contents, root)
    plans = [
        replace(plan, root=path.parent, section="testing", options={**plan.options, "datalist": str(path)})
        for path in lists
    ]
    for number, one in enumerate(plans, start=1):
        run_plan(one, within=f"fold {number} of {folds}, ")
    for stages in ("coarse", "both"):
        folders = [one.root / "eval" / "evaluation" / stages for one in plans]
        merged_scores(folders, plan.graph, root / "evaluation" / stages)
    _print_scores(root / "evaluation", f"all test cases of {folds} folds")


def _report(plan: Plan) -> None:
    _print_scores(plan.root / "eval" / "evaluation", f"{plan.section} cases, whole scans")
    model = plan.model
    print(f"the model: {model.relative_to(ROOT) if model.is_relative_to(ROOT) else model}")


def _print_scores(folder: Path, cases: str) -> None:
    """Both tables, and what the refinement gains."""
    means = {}
    for stages, title in (("coarse", "coarse stage alone"), ("both", "both stages")):
        table = (folder / stages / "metrics_table.md").read_text(encoding="utf-8")
        print(f"\n{title}, {cases}:\n{table}")
        means[stages] = json.loads((folder / stages / "metrics_summary.json").read_text(encoding="utf-8"))["metrics"]
    for key in (key for key in means["both"] if key.startswith("dice_")):
        coarse, both = (means[stages][key]["mean"] for stages in ("coarse", "both"))
        if coarse is not None and both is not None:
            print(f"{key}: {coarse:.4f} -> {both:.4f}, the refinement gains {both - coarse:+.4f}")


if __name__ == "__main__":
    run(spine_pipeline)
