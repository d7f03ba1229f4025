# SPDX-License-Identifier: Apache-2.0
"""Twenty cases on a local Ray cluster of two workers: interrupted, then one worker killed, complete in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import pytest

from custom_nets.prediction.ray_cluster import ray_cluster
from tests_predict.small_scans import SmallScans, hidden, records, volumes, voxels_and_affines

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers below /proc")

CASES = 20
#: Slow enough that a signal meets cases that are not done.
SLOW = ("--tta", "--overlap=0.7")
TWO = ("--engine", "ray", "--workers", "2", *SLOW)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallScans:
    return SmallScans("rsanet", tmp_path_factory.mktemp("ray")).make(CASES)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For Ray's files, whose sockets need a short path."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def family(pid: int) -> dict[int, str]:
    """The processes that a process has started, directly or not: id -> command line."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    found, below = set(), {pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below} - found
        found |= below
    return {child: titles[child] for child in found}


def workers(processes: dict[int, str]) -> list[int]:
    return [pid for pid, title in processes.items() if title.startswith("ray::_Worker")]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_interrupted_and_killed_it_ends_as_on_one_machine(small: SmallScans, tmp_path: Path, temporary: Path) -> None:
    ray, local = tmp_path / "ray", tmp_path / "local"

    process = small.start(ray, *TWO)
    wait_until(lambda: len(records(ray)) >= 2, process)
    started = family(process.pid)
    assert len(workers(started)) == 2
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    told, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None), told
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists() and "ray" in started[pid]]
    assert list(temporary.iterdir()) == []
    before = records(ray)
    assert 2 <= len(before) < CASES
    times = {name: (ray / "cases" / f"{name}.json").stat().st_mtime_ns for name in before}

    process = small.start(ray, *TWO)
    wait_until(lambda: len(records(ray)) > len(before), process)
    os.kill(workers(family(process.pid))[0], signal.SIGKILL)
    assert len(records(ray)) < CASES, "it was killed too late to matter"
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert f"{CASES - len(before)} done, {len(before)} kept" in told
    assert "(raylet)" not in told
    assert {name: (ray / "cases" / f"{name}.json").stat().st_mtime_ns for name in before} == times

    process = small.start(local, *SLOW)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert len(voxels_and_affines(ray)) == CASES
    assert voxels_and_affines(ray) == voxels_and_affines(local)
    assert volumes(ray) == volumes(local)
    assert nibabel.load(ray / "c00_seg.nii.gz").get_fdata().any()
    assert hidden(ray) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("address", "told"), [("localhost:9", "refused"), ("auto", "any running Ray")])
def test_a_cluster_that_is_not_there(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(Exception, match=rf"the Ray cluster '{address}' cannot be used \(.*{told}.*\): check RAY_ADD"):  # noqa: SIM117
        with ray_cluster(1):
            pass
