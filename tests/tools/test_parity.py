# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custom_nets.marked_text import marked
from custom_nets.model_zoo import onnx_form
from custom_nets.registry import Bundle, available, bundle
from tests.model_zoo.test_forms import small_bundle
from tools import parity
from tools._command import run


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of a small network; ONNX is left out, which takes longest."""
    monkeypatch.setattr(onnx_form, "PACKAGES", ("no_such_package",))
    entry = replace(bundle("s2anet"), folder=small_bundle("s2anet", tmp_path / "s2anet"))
    monkeypatch.setattr(parity, "bundle", lambda name: entry)
    return entry


def card(entry: Bundle, text: str) -> Path:
    path = entry.folder / "docs" / "README.md"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_the_table_is_printed_and_put_into_the_card(small: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    path = card(small, "# Card\n\n<!-- parity -->\nold\n<!-- /parity -->\nend\n")
    run(parity.parity, ["s2anet", "--write", "--seed", "3"])
    printed = capsys.readouterr().out
    table = marked(path.read_text(), "parity")
    assert table is not None and table in printed and "old" not in table
    assert "`models/model.ts`" in table and "random weights of seed 3" in table
    assert path.read_text().endswith("<!-- /parity -->\nend\n")
    assert not (small.folder / "models" / "model.ts").exists()


def test_a_checkpoint_takes_the_place_of_random_weights(small: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    run(parity.parity, ["s2anet", "--checkpoint", str(small.folder / "models" / "model.pt")])
    assert "weights of model.pt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["s2anet", "--checkpoint", "missing.pt"], "missing.pt: no such checkpoint"),
        (["s2anet", "rsanet", "--checkpoint", "model.pt"], "of one network"),
        (["s2anet", "--write"], "has no place for the table"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], told: str, small: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parity, "_measured", lambda *_: "table") if "--write" in words else None
    card(small, "# Card without the place\n")
    with pytest.raises(SystemExit) as ended:
        run(parity.parity, words)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and told in lines[0]


@pytest.mark.parametrize("name", available())
def test_every_card_has_the_table_of_its_network(name: str) -> None:
    entry: Any = bundle(name)
    table = marked((entry.folder / "docs" / "README.md").read_text(encoding="utf-8"), parity.MARKERS)
    assert table is not None and ".ts` | scripting" in table and ".onnx` | torch.export" in table
