# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.dry_run NAME`: does a bundle run at all on this machine? Under a minute on a CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from custom_nets.phantoms import write_dataset
from tools._bundle_runs import run_bundle
from tools._command import run


def dry_run(name: str) -> None:
    """Make a coarse phantom, take two training steps, validate once and segment once, in a temporary folder.

    Args:
        name: of the bundle.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"dry_run_{name}_") as folder:
        data, work = Path(folder) / "data", Path(folder) / "run"
        write_dataset(name, data, cases=3, spacing=4.0)
        common = {"dataset_dir": data, "patch_size": [32, 32, 32], "spacing": [4, 4, 4], "num_workers": 0}
        training = {"epochs": 2, "val_interval": 2, "ckpt_dir": work, "output_dir": work / "eval"}
        run_bundle(name, ["train"], common | training, "training")
        run_bundle(name, ["inference"], common | {"checkpoint": work / "model.pt", "output_dir": work / "prediction"})
        written = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    print(f"\nbundle {name} runs: two steps, a validation and an inference in {time.perf_counter() - started:.0f} s")
    print("it wrote (and the dry run removed) " + ", ".join(written))


if __name__ == "__main__":
    run(dry_run)
