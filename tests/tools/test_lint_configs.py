# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from custom_nets.registry import Bundle, bundle
from tests.spoiled_configs import copied, put
from tools import lint_configs
from tools._command import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound copy of a bundle, which the tool takes for the bundle."""
    folder = copied(tmp_path)
    entry = replace(bundle("rsanet"), folder=folder)

    def found(name: str) -> Bundle:
        return bundle(name) if name != "rsanet" else entry

    monkeypatch.setattr(lint_configs, "bundle", found)
    monkeypatch.setattr(lint_configs, "available", lambda: {"rsanet": entry})
    return folder


def test_a_clean_bundle_gives_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(lint_configs.main, ["rsanet"])
    assert capsys.readouterr().out == "1 bundle(s) checked: nothing found\n"


def test_each_finding_is_a_line_and_the_status_is_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("inference", "overlap", 0.25)(folder)
    put("train", "loss::smoth", 1)(folder)
    with pytest.raises(SystemExit) as caught:
        run(lint_configs.main, ["rsanet"])
    assert caught.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert "rsanet/inference: overlap: is 0.25, but 0.5 in train -> make them the same" in lines
    assert len(lines) == 3  # the options' table of the card is out of date as well
    assert all(line.count(" -> ") == 1 and line.startswith("rsanet/") for line in lines)


def test_write_mends_the_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("train", "epochs", 100)(folder)
    run(lint_configs.main, ["rsanet", "--write"])
    assert capsys.readouterr().out.startswith(f"wrote {folder / 'docs' / 'README.md'}\n")
    assert "| `epochs` | `100` | train |" in (folder / "docs" / "README.md").read_text()


def test_the_readme_is_checked_with_all_bundles_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lint_configs, "readme_is_current", lambda: False)
    with pytest.raises(SystemExit):
        run(lint_configs.main, [])
    assert capsys.readouterr().out.startswith("README.md: bundles: is not what the registry has -> ")
    run(lint_configs.main, ["rsanet"])


def test_an_unknown_bundle_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(lint_configs.main, ["nonesuch"])
    assert caught.value.code == 2
    assert "bundle 'nonesuch' is unknown" in capsys.readouterr().err
