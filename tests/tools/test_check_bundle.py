# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from custom_nets.model_zoo.checking import RULES
from tests.model_zoo.spoiled_exports import exported
from tools import check_bundle
from tools._command import run


def test_a_sound_bundle_gives_a_line_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(check_bundle.main, [str(exported(tmp_path)), "--live", "False"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok           models/model.pt is there"
    assert len(lines) > len(RULES)
    assert {line[:13].strip() for line in lines} == {"ok", "not checked"}


def test_a_broken_rule_gives_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(tmp_path)
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(SystemExit) as caught:
        run(check_bundle.main, [str(folder), "--live", "False"])
    assert caught.value.code == 1
    assert "fails        models/model.pt is there: is made by training -> export with" in capsys.readouterr().out


def test_a_folder_that_is_no_bundle_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(check_bundle.main, [str(tmp_path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: has no folder configs;")
