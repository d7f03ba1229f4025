# SPDX-License-Identifier: Apache-2.0
"""Small spines and the options with which spineparsenet's whole pipeline runs on them within seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.bundle_runs import list_cases, write

SHAPE = (6, 32, 48)
AFFINE = np.diag([4.0, 1, 1, 1])

#: One epoch a stage, five small networks.
OPTIONS: dict[str, Any] = {
    "folds": 2,
    "coarse_size": [8, 16, 32],
    "fine_size": [32, 64],
    "pretrain_epochs": 1,
    "train_epochs": 1,
    "refine_epochs": 1,
    "width": 0.0625,
    "filters": [2, 2, 4, 4, 4],
    "crop_share": 1.0,
    "elastic_probability": 0.0,
    "device": "cpu",
    "amp": False,
    "num_workers": 0,
    "pictures": 0,
}


def data_in(folder: Path, training: int = 4, validation: int = 1, testing: int = 1) -> Path:
    """Write scans in whose middle a sacrum, a disc and a vertebra lie one above the other."""
    rng = np.random.default_rng(0)
    sections: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "testing": []}
    names = ["training"] * training + ["validation"] * validation + ["testing"] * testing
    for number, section in enumerate(names):
        label = np.zeros(SHAPE, np.uint8)
        for value, (low, high) in {1: (6, 16), 11: (17, 21), 2: (22, 36)}.items():
            label[1:5, 10:22, low:high] = value
        scan = 300 + 100.0 * label + 20 * rng.normal(size=SHAPE)
        write(folder / f"Case{number}.nii.gz", scan.astype(np.float32), AFFINE)
        write(folder / f"mask{number}.nii.gz", label, AFFINE)
        sections[section].append({"image": [f"Case{number}.nii.gz"], "label": f"mask{number}.nii.gz"})
    list_cases(folder, **sections)
    return folder
