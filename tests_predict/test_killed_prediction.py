# SPDX-License-Identifier: Apache-2.0
"""A prediction that is killed leaves files that are whole or not there, and ends as any other when it is run again."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.files import file_digest
from tests.forked_commands import python_m
from tests_predict.killed_predictions import MOMENTS
from tests_predict.small_scans import SmallScans, hidden, records, volumes, voxels_and_affines
from tools._command import run
from tools.predict import main

#: Cases that were complete when the second of three was killed; the last moment is behind all of them.
COMPLETE = {moment: {"c00"} for moment in MOMENTS} | {"before_the_tables": {"c00", "c01", "c02"}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallScans:
    return SmallScans("rsanet", tmp_path_factory.mktemp("killed")).make(3)


@pytest.fixture(scope="module")
def undisturbed(small: SmallScans) -> Path:
    out_dir = small.folder / "undisturbed"
    run(main, small.words(small.scans, out_dir))
    return out_dir


@pytest.fixture(scope="module")
def killed(small: SmallScans) -> Path:
    """A folder for each moment, with what was left at it."""
    words = {moment: small.words(small.scans, small.folder / moment) for moment in MOMENTS}
    ended = python_m("tests_predict.killed_predictions", json.dumps(words))
    assert ended.returncode == 0, ended.stderr
    return small.folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again(
    small: SmallScans, undisturbed: Path, killed: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out_dir = killed / moment
    assert records(out_dir) == COMPLETE[moment]
    for path in out_dir.glob("[!.]*.nii.gz"):
        np.asarray(nibabel.load(path).dataobj)  # whole
    for path in (out_dir / "cases").glob("[!.]*.json"):
        outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"].values()
        assert all(file_digest(out_dir / one["file"]) == one["sha256"] for one in outputs)
    if moment.startswith("while"):
        assert hidden(out_dir), "nothing was being written"
    times = {name: (out_dir / "cases" / f"{name}.json").stat().st_mtime_ns for name in records(out_dir)}

    run(main, small.words(small.scans, out_dir))
    kept = len(COMPLETE[moment])
    assert ("3 kept" if kept == 3 else f"{3 - kept} done, {kept} kept") in capsys.readouterr().out
    assert {name: (out_dir / "cases" / f"{name}.json").stat().st_mtime_ns for name in times} == times
    assert voxels_and_affines(out_dir) == voxels_and_affines(undisturbed)
    assert volumes(out_dir) == volumes(undisturbed)
    assert hidden(out_dir) == []


@pytest.mark.parametrize("spoil", ["truncate", "delete", "other scan", "other option"])
def test_what_no_longer_fits_is_done_again(
    small: SmallScans, undisturbed: Path, tmp_path: Path, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out_dir, more = tmp_path / "scans", tmp_path / "out", []
    scans.mkdir()
    for path in small.scans.glob("c0[01]_*"):
        (scans / path.name).write_bytes(path.read_bytes())
    run(main, small.words(scans, out_dir))
    label = out_dir / "c01_seg.nii.gz"
    if spoil == "truncate":
        label.write_bytes(label.read_bytes()[:100])
    elif spoil == "delete":
        label.unlink()
    elif spoil == "other scan":
        (scans / "c01_T1.nii.gz").write_bytes((scans / "c00_T1.nii.gz").read_bytes())
    else:
        more = ["--overlap", "0.5"]
    capsys.readouterr()
    run(main, small.words(scans, out_dir, *more))
    assert ("2 done" if more else "1 done, 1 kept") in capsys.readouterr().out
    if spoil in ("truncate", "delete"):
        digests = voxels_and_affines(undisturbed)
        assert voxels_and_affines(out_dir) == {name: digests[name] for name in ("c00_seg.nii.gz", "c01_seg.nii.gz")}
