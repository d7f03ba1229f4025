# SPDX-License-Identifier: Apache-2.0
"""The command that writes demo data."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import pytest

from custom_nets.datasets.datalist import read_datalist
from custom_nets.phantoms import GENERATORS
from custom_nets.registry import available
from tools._command import run
from tools.demo_data import main


@pytest.mark.parametrize("name", available())
def test_options_reach_the_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = GENERATORS[name].grid(6)
    shape = tuple(size + 1 for size in grid.shape)
    words = ["--cases=3", "--seed=2", "--spacing=6", f"--shape={','.join(map(str, shape))}"]
    run(main, [name, str(tmp_path / "demo"), *words])
    assert "3 cases in" in capsys.readouterr().out
    stored = nib.Nifti1Image.from_filename(read_datalist(tmp_path / "demo")["testing"][0]["image"][0])
    image = nib.as_closest_canonical(stored)  # a spine's axes run as a scanner may store them
    assert image.shape == shape
    assert image.header.get_zooms() == pytest.approx(grid.spacing, rel=1e-6)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(main, ["no_such_bundle", str(tmp_path / "demo")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
