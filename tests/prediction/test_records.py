# SPDX-License-Identifier: Apache-2.0
"""When a case counts as done, and what is never overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.files import file_digest, leftovers, written_whole
from custom_nets.prediction.records import (
    claim,
    forget,
    images_of,
    is_complete,
    read_record,
    settings_digest,
    settle,
    write_record,
)
from custom_nets.scans import ScanCase

SETTINGS = {"bundle": "rsanet", "options": {"patch_size": [8, 8, 8]}}


@pytest.fixture
def case(tmp_path: Path) -> ScanCase:
    (tmp_path / "scan.nii.gz").write_bytes(b"scan")
    return ScanCase("a", {"T1": tmp_path / "scan.nii.gz"})


def finish(out_dir: Path, case: ScanCase, settings: Mapping[str, Any] = SETTINGS, *kinds: str) -> None:
    """What a prediction writes of a case."""
    names = {kind: f"a_{kind}.nii.gz" for kind in ("seg", *kinds)}
    claim(out_dir, case, names.values())
    for name in names.values():
        (out_dir / name).write_bytes(b"labels")
    outputs = {kind: {"file": name, "sha256": file_digest(out_dir / name)} for kind, name in names.items()}
    digest = settings_digest(settings)
    write_record(out_dir, {"case": "a", "images": images_of(case), "outputs": outputs, "settings_sha256": digest})
    settle(out_dir, "a")


def test_a_finished_case_is_complete_until_something_changes(case: ScanCase, tmp_path: Path) -> None:
    assert not is_complete(tmp_path, case, SETTINGS)
    finish(tmp_path, case)
    assert is_complete(tmp_path, case, SETTINGS)
    assert not is_complete(tmp_path, case, SETTINGS | {"fast": True})
    assert not is_complete(tmp_path, replace(case, channels={"T1": 1}), SETTINGS), "another channel of the file"
    (tmp_path / "a_seg.nii.gz").write_bytes(b"label")
    assert not is_complete(tmp_path, case, SETTINGS)
    finish(tmp_path, case)
    (tmp_path / "scan.nii.gz").write_bytes(b"other")
    assert not is_complete(tmp_path, case, SETTINGS)


def test_what_no_prediction_wrote_is_not_overwritten(case: ScanCase, tmp_path: Path) -> None:
    (tmp_path / "a_seg.nii.gz").write_bytes(b"drawn by hand")
    with pytest.raises(InputError, match=r"a_seg\.nii\.gz: is there, and no prediction wrote it"):
        finish(tmp_path, case)
    assert (tmp_path / "a_seg.nii.gz").read_bytes() == b"drawn by hand"


def test_what_a_killed_prediction_wrote_is_overwritten(case: ScanCase, tmp_path: Path) -> None:
    claim(tmp_path, case, ["a_seg.nii.gz"])
    (tmp_path / "a_seg.nii.gz").write_bytes(b"labels without a record")
    finish(tmp_path, case)
    assert is_complete(tmp_path, case, SETTINGS)


def test_results_of_other_kinds_do_not_stand_beside_newer_ones(case: ScanCase, tmp_path: Path) -> None:
    finish(tmp_path, case, SETTINGS, "uncertainty")
    finish(tmp_path, case)
    assert not (tmp_path / "a_uncertainty.nii.gz").exists()


def test_another_patient_of_that_name_is_refused(case: ScanCase, tmp_path: Path) -> None:
    finish(tmp_path, case)
    (tmp_path / "site2.nii.gz").write_bytes(b"somebody else")
    with pytest.raises(InputError, match="another scan of that name"):
        finish(tmp_path, ScanCase("a", {"T1": tmp_path / "site2.nii.gz"}))
    (tmp_path / "moved.nii.gz").write_bytes(b"scan")
    finish(tmp_path, ScanCase("a", {"T1": tmp_path / "moved.nii.gz"}))


def test_a_failed_case_has_no_record(case: ScanCase, tmp_path: Path) -> None:
    finish(tmp_path, case)
    forget(tmp_path, "a")
    assert read_record(tmp_path, "a") is None
    finish(tmp_path, case)
    assert is_complete(tmp_path, case, SETTINGS)


def test_leftovers_are_those_of_one_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "P1_seg.nii.gz") as temporary:
        temporary.write_bytes(b"half")
        kept = temporary.rename(tmp_path / f"{temporary.name}")
        (tmp_path / ".P1_seg.notes.txt").write_bytes(b"the user's")
        (tmp_path / ".P1_b_seg.abcd1234.nii.gz").write_bytes(b"of another process")
        assert leftovers(tmp_path / "P1_seg.nii.gz") == [kept]
        raise KeyboardInterrupt
