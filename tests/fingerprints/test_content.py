# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.fingerprints import copy_fingerprint, fingerprint_path, read_fingerprint, write_fingerprint
from custom_nets.fingerprints.content import Fingerprint, Modality
from custom_nets.fingerprints.quantities import QUANTITIES

ONE = Fingerprint(
    "spineparsenet",
    "0.1.0",
    ("T2",),
    3,
    "resized",
    True,
    {"T2": Modality({"p50": (1.0, 2.5, 3.0)}, {"LPS": 3}, {"sagittal": 3})},
    skull={"present": 0, "absent": 0, "unknown": 3},
    options={"width": 0.5, "filters": [8, 16], "label_graph": {"nodes": []}},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_fingerprint(ONE, tmp_path / "model.pt")
    assert path == fingerprint_path(tmp_path / "model.pt") == tmp_path / "model.fingerprint.json"
    assert read_fingerprint(tmp_path / "model.pt") == ONE
    assert read_fingerprint(tmp_path / "last.pt") == ONE, "of the same run"
    assert read_fingerprint(tmp_path / "other.pt") is None


def test_digits_beyond_the_sixth_are_left_out(tmp_path: Path) -> None:
    seen = {"T2": replace(ONE.seen["T2"], ranges={"p50": (1 / 3, 1 / 3, 1 / 3)})}
    write_fingerprint(replace(ONE, seen=seen), tmp_path / "model.pt")
    assert "0.333333," in (tmp_path / "model.fingerprint.json").read_text()


def test_the_options_of_a_second_stage_are_added(tmp_path: Path) -> None:
    write_fingerprint(ONE, tmp_path / "model.pt")
    write_fingerprint(replace(ONE, cases=1, options={"filters": [4], "fine_size": [64, 64]}), tmp_path / "two.pt")
    both = {"width": 0.5, "filters": [4], "label_graph": {"nodes": []}, "fine_size": [64, 64]}
    found = read_fingerprint(tmp_path / "model.pt", tmp_path / "two.pt")
    assert found == replace(ONE, options=both)
    (tmp_path / "refine").mkdir()
    copy_fingerprint(tmp_path / "two.pt", tmp_path / "refine" / "model.pt")
    assert read_fingerprint(tmp_path / "model.pt") == found, "where the second stage is looked for by default"
    copy_fingerprint(tmp_path / "nothing.pt", tmp_path / "copy.pt")
    assert not fingerprint_path(tmp_path / "copy.pt").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(format=99), "format 99, this version reads 1"),
        (lambda content: content.pop("format"), "no training fingerprint"),
        (lambda content: content.pop("seen"), "no training fingerprint"),
        (lambda content: content.update(more=1), "no training fingerprint"),
        (lambda content: content["seen"]["T2"]["ranges"].update(p50=[1]), "no training fingerprint"),
    ],
)
def test_another_file_of_that_name_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    path = write_fingerprint(ONE, tmp_path / "model.pt")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as caught:
        read_fingerprint(tmp_path / "model.pt")
    assert str(path) in str(caught.value) and "delete it" in str(caught.value)
    path.write_text("[1")
    with pytest.raises(InputError, match="no training fingerprint"):
        read_fingerprint(tmp_path / "model.pt")


def test_every_quantity_is_explained() -> None:
    assert all(meaning and not meaning.endswith(".") for meaning in QUANTITIES.values())
