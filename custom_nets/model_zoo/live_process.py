# SPDX-License-Identifier: Apache-2.0
"""Rules that run a bundle, in a process of its own that imports the code which the bundle brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from custom_nets.model_zoo.verdicts import Subject, Verdict

#: Runs the live rules. What an editable installation adds to Python's search would give a bundle whose code lacks a
#: module that of the repository.
_CODE = """
import runpy, sys
sys.meta_path[:] = [one for one in sys.meta_path if not getattr(one, "__module__", "").startswith("__editable__")]
runpy.run_module("custom_nets.model_zoo.live_rules", run_name="__main__", alter_sys=True)
"""
_REPOSITORY = Path(__file__).resolve().parents[2]
_TEXT = "The bundle's code can be imported and its workflows built"
#: Seconds after which a bundle that does not come to an end breaks the rule.
_PATIENCE = 1800


def live_verdicts(subject: Subject) -> list[Verdict]:
    """Run the live rules in a process whose current folder is the bundle and return their verdicts.

    A bundle that has no code of its own is run with this package.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTHONSAFEPATH", None)
    environment.pop("PYTHONPATH", None)
    if not (subject.folder / "custom_nets").is_dir():
        environment["PYTHONPATH"] = str(_REPOSITORY)
    with tempfile.TemporaryDirectory(prefix="check_bundle_") as scratch:
        told = Path(scratch) / "verdicts.json"
        command = [sys.executable, "-W", "ignore", "-c", _CODE, scratch, str(told)]
        try:
            ended = subprocess.run(
                command,
                cwd=subject.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return [Verdict(_TEXT, "fails", f"still runs after {_PATIENCE} s -> give a smaller patch_size")]
        if ended.returncode != 0 or not told.is_file():
            last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
            return [Verdict(_TEXT, "fails", f"{last} -> mend the code, or export the bundle again")]
        return [Verdict(*entry) for entry in json.loads(told.read_text(encoding="utf-8"))]
