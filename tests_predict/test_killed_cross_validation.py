# SPDX-License-Identifier: Apache-2.0
"""A cross-validation that is killed goes on by the same command, and its ensemble segments a scan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom_nets.files import file_digest
from custom_nets.registry import ROOT
from tests.tools.test_cross_validate import NAME, data, words

__all__ = ["data"]  # a fixture
_PATIENCE = 300  # seconds


@pytest.mark.timeout(900)
def test_killed_within_a_training_and_gone_on_with(data: Path, tmp_path: Path) -> None:
    folder, scans = tmp_path / "a run", tmp_path / "scans"
    command = [sys.executable, "-W", "ignore", "-m", "tools.cross_validate", *words(NAME, data, folder, epochs=4)]
    with (tmp_path / "log.txt").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as run:
        started, last = time.monotonic(), folder / "fold2" / "models" / "last.pt"
        while not last.is_file() and run.poll() is None and time.monotonic() - started < _PATIENCE:
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL and last.is_file(), (tmp_path / "log.txt").read_text(encoding="utf-8")
    first = folder / "fold1" / "models" / "model.pt"
    before = file_digest(first), first.stat().st_mtime
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    assert ended.returncode == 0, ended.stderr
    assert "all 4 epochs are done" in ended.stdout and "--resume True" in ended.stdout
    assert (file_digest(first), first.stat().st_mtime) == before
    assert len(list((folder / "predictions").iterdir())) == 5
    assert json.loads((folder / "scores" / "metrics_summary.json").read_text(encoding="utf-8"))["cases"] == 5
    scans.mkdir()
    for file in data.glob("case0_[TF]*.nii.gz"):
        (scans / file.name).symlink_to(file)
    model = ["--checkpoint", str(folder / "ensemble"), "--device", "cpu"]
    predict = [sys.executable, "-m", "tools.predict", NAME, str(scans), str(tmp_path / "out"), *model]
    ended = subprocess.run(predict, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "case0_seg.nii.gz").is_file()
