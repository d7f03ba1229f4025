# SPDX-License-Identifier: Apache-2.0
"""The dry run of a bundle: options that the bundle has, and nothing left behind. The runs themselves are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from custom_nets.options import options_of
from custom_nets.registry import available
from tests.bundle_runs import TINY
from tools import dry_run
from tools._command import run


@pytest.mark.parametrize("name", available())
def test_a_training_and_an_inference_with_options_of_the_bundle(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def note(bundle: str, configs: list[str], overrides: dict[str, Any], run_id: str = "run") -> None:
        assert bundle == name
        assert (overrides["dataset_dir"] / "datalist.json").is_file()
        (overrides["output_dir"] / configs[0]).mkdir(parents=True)
        (overrides["output_dir"] / configs[0] / "written.txt").write_text("")
        calls.append((configs[0], overrides))

    monkeypatch.setattr(dry_run, "run_bundle", note)
    run(dry_run.dry_run, [name])
    (first, training), (second, inference) = calls
    assert (first, second) == ("train", "inference")
    folder = available()[name].folder
    assert folder is not None
    known = set(options_of(folder))
    assert set(training) | set(inference) <= known
    assert ("spacing" in training) == ("spacing" in known)
    assert len(training["patch_size"]) == len(TINY[name].options["patch_size"])
    assert inference["checkpoint"] == training["ckpt_dir"] / "model.pt"
    told = capsys.readouterr().out
    assert f"bundle {name} runs" in told and "eval/train/written.txt, prediction/inference/written.txt" in told
    assert not Path(training["dataset_dir"]).exists()
