# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.demo NAME`: the whole way of a bundle on made-up scans, from data to pictures, in minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_nets.phantoms import write_dataset
from custom_nets.registry import ROOT
from tools._bundle_runs import run_bundle
from tools._command import run
from tools.compare import main as compare
from tools.spine_pipeline import spine_pipeline
from tools.zoom_in_out import zoom_in_out


@dataclass(frozen=True)
class Trained:
    """What a demo's training and evaluation left below its folder.

    Attributes:
        evaluations: what was scored -> folder of metrics_summary.json and pictures.
        overlays: configurations that make the other workflows fit the model.
        tta: whether test-time augmentation helps a model that was trained like this.
    """

    evaluations: dict[str, Path]
    overlays: tuple[str, ...] = ("demo",)
    tta: bool = True


def demo(
    name: str = "rsanet",
    directory: str | None = None,
    cases: int | None = None,
    spacing: float | None = None,
    seed: int = 0,
) -> None:
    """Make synthetic scans, train, evaluate and segment scans that the network has not seen.

    Args:
        name: of the bundle; its overlay `configs/demo.json` makes the run short.
        directory: where everything goes; default `demo/NAME` in the repository. Data that are there are used again.
        cases: number of synthetic scans; left out, 8, 16 for zoom_resunet, s2anet and s2ca_net, or 20 for
            spineparsenet.
        spacing: their voxel size in mm; left out, the bundle's own.
        seed: of the data and the training.
    """
    started = time.perf_counter()
    folder = ROOT / "demo" / name if directory is None else Path(directory).absolute()
    data = folder / "data"
    if not (data / "datalist.json").is_file():
        write_dataset(name, data, cases=cases or _CASES.get(name, 8), seed=seed, spacing=spacing)
    trained = _TRAININGS.get(name, _one_stage)(name, data, folder, seed)
    unseen = {
        "dataset_dir": data,
        "section": "testing",
        "tta": trained.tta,
        "checkpoint": folder / "models" / "model.pt",
    }
    run_bundle(name, ["inference", *trained.overlays], unseen | {"output_dir": folder / "prediction"})
    _report(name, folder, trained, time.perf_counter() - started)


def _one_stage(
    name: str, data: Path, folder: Path, seed: int, options: Mapping[str, Any] | None = None, tta: bool = True
) -> Trained:
    models, evaluation = folder / "models", folder / "evaluation"
    training = {"dataset_dir": data, "ckpt_dir": models, "output_dir": folder / "training", "seed": seed}
    run_bundle(name, ["train", "demo"], {**training, **(options or {})}, "training")
    unseen = {"dataset_dir": data, "section": "testing", "tta": tta, "checkpoint": models / "model.pt"}
    run_bundle(name, ["evaluate", "demo"], {**unseen, "output_dir": evaluation, **(options or {})})
    return Trained({name: evaluation})


def _zoom_in_out(name: str, data: Path, folder: Path, seed: int) -> Trained:
    zoom_in_out(str(data), output_dir=str(folder), section="testing", overlay="demo", seed=seed, tta=True)
    evaluations = {f"{name}, {stage}": folder / "eval" / "evaluation" / stage for stage in ("zoom_in", "zoom_out")}
    return Trained(evaluations, ("demo", "demo_zoom_out"))


def _slices(name: str, data: Path, folder: Path, seed: int) -> Trained:
    """The same training twice, with the neighbours of each slice and without."""
    without = {"num_slices": 1}
    two = _one_stage(name, data, folder / "2d", seed, without, tta=False)
    three = _one_stage(name, data, folder, seed, tta=False)
    evaluations = {f"{name}, 2D": two.evaluations[name], f"{name}, 2.5D": three.evaluations[name]}
    compare(*map(str, evaluations.values()), names="2D,2.5D", output_dir=str(folder / "comparison"))
    unseen = {"dataset_dir": data, "section": "testing", "checkpoint": folder / "2d" / "models" / "model.pt"}
    run_bundle(name, ["inference", "demo"], unseen | without | {"output_dir": folder / "2d" / "prediction"})
    return Trained(evaluations, tta=False)


def _two_stages(name: str, data: Path, folder: Path, seed: int) -> Trained:
    """All three trainings, then the first stage once more without the graph, from the same pre-training.

    Logits are in-sample, as published: of the few cases that a demo has, folds would leave too few to train on.
    """
    spine_pipeline(str(data), output_dir=str(folder), logits="in_sample", section="testing", overlay="demo", seed=seed)
    without, model = {"graph_mode": "none"}, folder / "without_graph" / "models"
    start = {"pretrained": folder / "models" / "pretrain" / "model.pt", "pretrained_share": 1.0}
    places = {"dataset_dir": data, "ckpt_dir": model, "output_dir": folder / "without_graph" / "training"}
    run_bundle(name, ["train", "demo"], {**places, **start, **without, "seed": seed}, "training")
    evaluations = {
        f"{name}, first stage without the graph": folder / "without_graph" / "evaluation",
        f"{name}, first stage": folder / "eval" / "evaluation" / "coarse",
        f"{name}, both stages": folder / "eval" / "evaluation" / "both",
    }
    unseen = {"dataset_dir": data, "section": "testing", "checkpoint": model / "model.pt", "stages": "coarse"}
    run_bundle(name, ["evaluate", "demo"], {**unseen, **without, "output_dir": next(iter(evaluations.values()))})
    names = "without graph,with graph,refined"
    compare(*map(str, evaluations.values()), names=names, output_dir=str(folder / "comparison"))
    return Trained(evaluations)


#: Bundles whose demo is more than one training.
_TRAININGS: dict[str, Callable[[str, Path, Path, int], Trained]] = {
    "s2anet": _slices,
    "spineparsenet": _two_stages,
    "zoom_resunet": _zoom_in_out,
}
_CASES = {"s2anet": 16, "s2ca_net": 16, "spineparsenet": 20, "zoom_resunet": 16}


def _report(name: str, folder: Path, trained: Trained, seconds: float) -> None:
    print(f"\n{name} on unseen synthetic scans, after {seconds / 60:.1f} minutes:")
    for title, evaluation in trained.evaluations.items():
        print(f"\n{title}")
        summary = json.loads((evaluation / "metrics_summary.json").read_text(encoding="utf-8"))["metrics"]
        for metric, value in summary.items():
            if value["mean"] is not None:
                print(f"  {metric:<28} {value['mean']:.3f} ± {value['std'] or 0.0:.3f}")
    print("\nlook at:")
    for pattern in ("**/learning_curves.png", "**/evaluation/**/*.png", "comparison/*.png", "prediction/*.nii.gz"):
        for path in sorted(folder.glob(pattern)):
            print(f"  {path}")


if __name__ == "__main__":
    run(demo)
