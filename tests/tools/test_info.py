# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from custom_nets.registry import ROOT, available, bundle
from tools import info
from tools._command import run


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    run(info.main, list(arguments))
    return capsys.readouterr().out


def test_the_listing_names_every_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert all(f"\n{entry.name} (" in f"\n{text}" and entry.task in text for entry in available().values())
    assert text.count("(version ") == len(available())


def test_the_listing_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    entries = {entry["name"]: entry for entry in json.loads(shown(capsys, "--json"))}
    assert list(entries) == list(available())
    assert entries["rsanet"]["labels"] == {"0": "background", "1": "lesion"}
    assert entries["spineparsenet"]["version"] == bundle("spineparsenet").version


@pytest.mark.parametrize("name", available())
def test_the_commands_name_files_that_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(shown(capsys, name, "--json"))
    stages = ["train, stage pretrain", "train, stage refine"] if name == "spineparsenet" else []
    assert list(content["commands"]) == ["train", "train on all GPUs", "evaluate", "segment", *stages]
    for command in content["commands"].values():
        files = shlex.split(command)[-1].strip("[]").replace("'", "").split(",")
        assert all((ROOT / file).is_file() for file in files)
    assert content["paths"]["data"] == f"data/{name}"


@pytest.mark.parametrize("name", available())
def test_every_option_comes_with_default_and_meaning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {row["key"]: row for row in json.loads(shown(capsys, name, "--json"))["options"]}
    train = json.loads((ROOT / "bundles" / name / "configs" / "train.json").read_text())
    assert options["epochs"]["default"] == str(train["epochs"])
    assert options["epochs"]["workflows"] == "train"
    assert options["num_workers"]["default"].startswith("train ")  # differs from workflow to workflow
    assert all(row["meaning"] for row in options.values())
    assert not {"run", "imports", "network", "network_def", "options", "train"} & set(options)
    text = shown(capsys, name)
    assert all(f"    {key} " in text for key in options)


def test_the_table_has_a_row_for_each_bundle() -> None:
    rows = info.readme_table().splitlines()
    assert len(rows) == 2 + len(available())
    assert {row.count("|") for row in rows} == {7}
    assert "[rsanet](bundles/rsanet) |" in rows[2] and "| T1, T2, FLAIR | lesion |" in rows[2]
    assert "[Zhang et al. 2019](https://doi.org/10.1007/978-3-030-32248-9_46)" in rows[2]
    assert bundle("rsanet").version in rows[2]


def test_the_readme_is_written_between_its_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    monkeypatch.setattr(info, "_README", readme)
    readme.write_text("before\n<!-- bundles -->\nold\n<!-- /bundles -->\nafter\n")
    assert not info.readme_is_current()
    assert shown(capsys, "--readme", "--write") == f"wrote {readme}\n"
    assert readme.read_text() == f"before\n<!-- bundles -->\n{info.readme_table()}\n<!-- /bundles -->\nafter\n"
    assert info.readme_is_current()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "bundle 'nonesuch' is unknown"),
        (["--write"], "readme goes with write alone"),
        (["rsanet", "--readme"], "readme goes with write alone"),
        (["--readme", "--write"], "add the lines <!-- bundles -->"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(info, "_README", tmp_path / "README.md")
    with pytest.raises(SystemExit) as caught:
        run(info.main, arguments)
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
