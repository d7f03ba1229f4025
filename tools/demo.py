# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.demo NAME`: the whole way of a bundle on made-up scans, from data to pictures, in minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from custom_nets.phantoms import write_dataset
from custom_nets.registry import ROOT
from tools._bundle_runs import run_bundle
from tools._command import run


def demo(
    name: str = "rsanet", directory: str | None = None, cases: int = 8, spacing: float | None = None, seed: int = 0
) -> None:
    """Make synthetic scans, train, evaluate and segment scans that the network has not seen.

    Args:
        name: of the bundle; its overlay `configs/demo.json` makes the run short.
        directory: where everything goes; default `demo/NAME` in the repository. Data that are there are used again.
        cases: number of synthetic scans.
        spacing: their voxel size in mm; left out, the bundle's own.
        seed: of the data and the training.
    """
    started = time.perf_counter()
    folder = ROOT / "demo" / name if directory is None else Path(directory).absolute()
    data, models = folder / "data", folder / "models"
    if not (data / "datalist.json").is_file():
        write_dataset(name, data, cases=cases, seed=seed, spacing=spacing)
    training = {"dataset_dir": data, "ckpt_dir": models, "output_dir": folder / "training", "seed": seed}
    run_bundle(name, ["train", "demo"], training, "training")
    unseen = {"dataset_dir": data, "checkpoint": models / "model.pt", "section": "testing", "tta": True}
    run_bundle(name, ["evaluate", "demo"], unseen | {"output_dir": folder / "evaluation"})
    run_bundle(name, ["inference", "demo"], unseen | {"output_dir": folder / "prediction"})
    _report(name, folder, time.perf_counter() - started)


def _report(name: str, folder: Path, seconds: float) -> None:
    summary = json.loads((folder / "evaluation" / "metrics_summary.json").read_text())["metrics"]
    print(f"\n{name} on unseen synthetic scans, after {seconds / 60:.1f} minutes:")
    for metric, value in summary.items():
        if value["mean"] is not None:
            print(f"  {metric:<20} {value['mean']:.3f} ± {value['std'] or 0.0:.3f}")
    print("\nlook at:")
    for pattern in ("training/learning_curves.png", "evaluation/*.png", "prediction/*.nii.gz"):
        for path in sorted(folder.glob(pattern)):
            print(f"  {path}")


if __name__ == "__main__":
    run(demo)
