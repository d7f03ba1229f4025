# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.dry_run NAME`: does a bundle run at all on this machine? Under a minute on a CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_nets.phantoms import write_dataset
from custom_nets.registry import bundle
from tools._bundle_runs import run_bundle
from tools._command import run


def dry_run(name: str) -> None:
    """Make coarse phantoms, train on two of them for two epochs, validate and segment one, in a temporary folder.

    Args:
        name: of the bundle.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"dry_run_{name}_") as folder:
        data, work = Path(folder) / "data", Path(folder) / "run"
        write_dataset(name, data, cases=4, spacing=4.0)
        common = {"dataset_dir": data, "num_workers": 0, **_coarse(name)}
        training = {"epochs": 2, "val_interval": 2, "ckpt_dir": work, "output_dir": work / "eval"}
        run_bundle(name, ["train"], common | training, "training")
        inference = {"checkpoint": work / "model.pt", "output_dir": work / "prediction", **_first_stage(name)}
        run_bundle(name, ["inference"], common | inference)
        written = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    print(f"\nbundle {name} runs: two epochs, a validation and an inference in {time.perf_counter() - started:.0f} s")
    print("it wrote (and the dry run removed) " + ", ".join(written))


def _coarse(name: str) -> dict[str, Any]:
    """Options of a small patch, and of the phantoms' voxel size where the bundle resamples."""
    keys = _keys(name, "train")
    options: dict[str, Any] = {"patch_size": [32] * len(keys["patch_size"])}
    return options | {"spacing": [4, 4, 4]} if "spacing" in keys else options


def _first_stage(name: str) -> dict[str, Any]:
    """Options with which a network of stages runs the one that train.json trains alone."""
    return {"stages": "coarse"} if "stages" in _keys(name, "inference") else {}


def _keys(name: str, workflow: str) -> dict[str, Any]:
    folder = bundle(name).folder
    assert folder is not None
    return dict(ConfigParser.load_config_file(folder / "configs" / f"{workflow}.json"))


if __name__ == "__main__":
    run(dry_run)
