# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.zoom_in_out DATASET_DIR`: both stages of zoom-in&out training in a row, and their evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets.datalist import load_section
from custom_nets.option_checks import check_options
from custom_nets.registry import ROOT, bundle
from tools._bundle_options import OF_MACHINES, options_of, overlays, require_known
from tools._bundle_runs import run_bundle
from tools._command import run
from tools._run_record import claim
from tools._stages import Stage

NAME = "zoom_resunet"
RECORD = "zoom_in_out.json"
_OF_STAGES = (
    *("epochs", "patch_size", "learning_rate", "ckpt_dir", "output_dir", "pretrained", "resume", "checkpoint"),
    "bundle_root",
)


def zoom_in_out(
    dataset_dir: str,
    *,
    output_dir: str | None = None,
    zoom_in_size: Sequence[int] | None = None,
    zoom_out_size: Sequence[int] | None = None,
    zoom_in_epochs: int | None = None,
    zoom_out_epochs: int | None = None,
    section: str = "validation",
    overlay: str | None = None,
    **options: Any,
) -> None:
    """Train on small crops (zoom-in), go on with larger ones (zoom-out), and score both on whole volumes.

    The same command resumes a run that was stopped at any moment, and does nothing twice. Below OUTPUT_DIR:
    models/zoom_in/model.pt, models/model.pt (the result, from zoom-out), eval/ with curves, tables and pictures, and
    eval/evaluation/{zoom_in,zoom_out}/ with the scores.

    Args:
        dataset_dir: folder of the data set with its datalist.json.
        output_dir: where everything goes; left out, the bundle's own folder, where inference looks for models/model.pt.
        zoom_in_size: crop of the first stage, as [128,128,128], which is the paper's.
        zoom_out_size: crop of the second stage, as [144,172,168], which is the paper's.
        zoom_in_epochs: of the first stage; 1200 in the paper.
        zoom_out_epochs: of the second stage; 150 in the paper.
        section: which list of cases the scores are of: validation, or testing.
        overlay: a configuration of the bundle with settings for both stages, such as demo; OVERLAY_zoom_out, if it is
            there, is laid over the second stage.
        options: any option of the bundle's train.json and evaluate.json, for both stages.
    """
    root = bundle(NAME).folder if output_dir is None else Path(str(output_dir)).absolute()
    require_known(NAME, options, ("train", "evaluate"), _OF_STAGES)
    common = {"dataset_dir": Path(str(dataset_dir)).absolute(), **options}
    first_given = {"patch_size": zoom_in_size, "epochs": zoom_in_epochs}
    second_given = {"patch_size": zoom_out_size, "epochs": zoom_out_epochs}
    first = Stage(
        NAME,
        ["train", *overlays(NAME, overlay)],
        root / "models" / "zoom_in",
        root / "eval" / "zoom_in",
        {**options_of(NAME, "train", common), **_set(first_given)},
    )
    second = Stage(
        NAME,
        ["train", *overlays(NAME, overlay), "zoom_out", *overlays(NAME, f"{overlay}_zoom_out", optional=True)],
        root / "models",
        root / "eval",
        {**options_of(NAME, "train", common), **_set(second_given), "pretrained": first.ckpt_dir / "model.pt"},
    )
    _check((first, second), common, section)
    recipe = _recipe(first, second, {**common, "section": section, "overlay": overlay})
    claim(root / RECORD, recipe, (first, second))
    for name, stage in (("zoom_in", first), ("zoom_out", second)):
        stage.run()
        _evaluate(root / "eval" / "evaluation" / name, stage, common, section)
        claim(root / RECORD, recipe, (first, second))
    _report(root)


def _set(given: dict[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value is not None
    }


def _check(stages: Sequence[Stage], common: dict[str, Any], section: str) -> None:
    """Refuse now what the second stage or an evaluation would refuse after days of training."""
    for stage in stages:
        own = {key: stage.value(key) for key in ("epochs", "patch_size")}
        check_options({"device": "cpu", "amp": False, **common, **own})
    load_section(common["dataset_dir"], common.get("datalist", "datalist.json"), section)


def _recipe(first: Stage, second: Stage, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "zoom_in_size": first.value("patch_size"),
        "zoom_out_size": second.value("patch_size"),
        "zoom_in_epochs": first.value("epochs"),
        "zoom_out_epochs": second.value("epochs"),
        "options": {key: str(value) for key, value in options.items() if key not in OF_MACHINES},
    }


def _evaluate(output_dir: Path, stage: Stage, common: dict[str, Any], section: str) -> None:
    """Score a stage's model on whole volumes, unless that has been done."""
    summary, model = output_dir / "metrics_summary.json", stage.ckpt_dir / "model.pt"
    if summary.is_file() and model.is_file() and summary.stat().st_mtime >= model.stat().st_mtime:
        print(f"\n{summary} is there")
        return
    configs = ["evaluate", *(config for config in stage.configs if config not in ("train", "zoom_out"))]
    options = {**options_of(NAME, "evaluate", common), "patch_size": stage.value("patch_size")}
    run_bundle(NAME, configs, {**options, "checkpoint": model, "output_dir": output_dir, "section": section})


def _report(root: Path) -> None:
    for name in ("zoom_in", "zoom_out"):
        folder = root / "eval" / "evaluation" / name
        print(
            f"\n{name.replace('_', '-')}, whole volumes:\n{(folder / 'metrics_table.md').read_text(encoding='utf-8')}"
        )
    model = root / "models" / "model.pt"
    print(f"the model: {model.relative_to(ROOT) if model.is_relative_to(ROOT) else model}")


if __name__ == "__main__":
    run(zoom_in_out)
