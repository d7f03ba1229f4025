# SPDX-License-Identifier: Apache-2.0
"""Labels of data sets in which every positive value is lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom_nets.datasets.checks import CheckOptions, check_case, report
from tests.datasets import trees

# values of a mask, and what the message has to contain; nothing for a mask that can be used
MASKS: list[tuple[tuple[float, ...], str, str]] = [
    ((255,), "", ""),
    ((1, 2, 3), "", ""),
    ((0.00392,), "", ""),
    ((0.5, 1), "error", "fractional mask values 0.5 (1 voxels)"),
    ((float("nan"),), "error", "fractional mask values nan"),
    ((-1, 1), "error", "negative mask values -1 (1 voxels) -> save a mask of 0 and one positive value"),
    ((), "warning", "label is empty"),
    (tuple(range(1, 18)), "warning", "17 different values, like an image -> check that it is the mask"),
]


@pytest.mark.parametrize(("values", "severity", "message"), MASKS)
def test_lesion_masks(tmp_path: Path, values: tuple[float, ...], severity: str, message: str) -> None:
    mask = np.zeros(trees.SHAPE, np.float32)
    mask.reshape(-1)[: len(values)] = values
    case = {"image": str(trees.write_scan(tmp_path / "t1.nii.gz"))}
    case["label"] = str(trees.write_voxels(tmp_path / "mask.nii.gz", mask))
    problems = check_case(case, ("T1",), (0, 1), CheckOptions(lesion_masks=True))
    assert [problem.severity for problem in problems] == ([severity] if severity else [])
    assert message in report(problems)


def test_each_of_several_masks_is_checked(tmp_path: Path) -> None:
    image = str(trees.write_scan(tmp_path / "t1.nii.gz"))
    masks = [
        tmp_path / "gone.nii.gz",
        trees.write_label(tmp_path / "shifted.nii.gz", 2, 255, affine=np.diag([1, 1, 2, 1])),
        trees.write_label(tmp_path / "small.nii.gz", 2, 255, shape=(6, 7, 7)),
        trees.write_label(tmp_path / "sound.nii.gz", 2, 255),
    ]
    case = {"image": image, "label": [str(mask) for mask in masks]}
    problems = check_case(case, ("T1",), (0, 1), CheckOptions(lesion_masks=True))
    assert [(Path(problem.file).name, problem.found[:13]) for problem in problems] == [
        ("gone.nii.gz", "does not exis"),
        ("shifted.nii.gz", "affine differ"),
        ("small.nii.gz", "shape (6, 7, "),
    ]
