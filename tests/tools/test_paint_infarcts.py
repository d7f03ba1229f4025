# SPDX-License-Identifier: Apache-2.0
"""The command that paints lesion masks into a healthy head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_nets.datasets import read_datalist
from custom_nets.phantoms import make_case
from tools._command import run
from tools.paint_infarcts import main


@pytest.fixture
def material(tmp_path: Path) -> list[str]:
    made = make_case("rsanet", 1, 5.0)
    nib.Nifti1Image(made.images["T1"], made.affine).to_filename(tmp_path / "t1.nii.gz")
    (tmp_path / "masks").mkdir()
    for number in range(3):
        mask = np.zeros(made.label.shape, np.uint8)
        mask[18:23, 12 + 4 * number : 17 + 4 * number, 16:20] = 1
        nib.Nifti1Image(mask, made.affine).to_filename(tmp_path / "masks" / f"{number}.nii.gz")
    return [str(tmp_path / "t1.nii.gz"), str(tmp_path / "masks"), str(tmp_path / "out")]


def test_options_reach_the_files(material: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(main, [*material, "--cases=3", "--seed=2", "--validation=0", "--testing=2", "--novary"])
    assert "3 cases in" in capsys.readouterr().out
    sections = read_datalist(material[2])
    assert [len(sections[name]) for name in ("training", "validation", "testing")] == [1, 0, 2]
    label = nib.Nifti1Image.from_filename(sections["training"][0]["label"])
    masks = [nib.Nifti1Image.from_filename(path) for path in Path(material[1]).iterdir()]
    assert any(np.array_equal(label.dataobj, mask.dataobj) for mask in masks)


def test_bad_input_is_one_line(material: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(main, [*material, "--cases=4"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
