# SPDX-License-Identifier: Apache-2.0
"""Lesion masks for the volume planner: those of the golden numbers, and small data sets on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from custom_nets.volume_plan.scans import Grid, Scan
from tests.golden import draw
from tests.recipe import document

GOLDEN: dict[str, Any] = document("zoom_resunet")["reference_not_official"]["volume_advice"]


def golden_masks() -> list[np.ndarray]:
    """The balls that the golden file's ``inputs`` describes."""
    shape = np.array(GOLDEN["shape"])
    masks = []
    for index in range(GOLDEN["n"]):
        centre = shape / 2 + 6 * draw(f"lesion_centre{index}", (3,))
        radius = 2.5 + abs(draw(f"lesion_radius{index}", (1,))[0])
        distance = np.indices(shape) - centre[:, None, None, None]
        masks.append((distance**2).sum(axis=0) <= radius**2)
    return masks


def as_scans(masks: Sequence[np.ndarray]) -> list[Scan]:
    return [Scan(f"case{index}", Grid(mask.shape, np.eye(4)), mask) for index, mask in enumerate(masks)]


def block(shape: Sequence[int], first: Sequence[int], size: Sequence[int]) -> np.ndarray:
    mask = np.zeros(tuple(shape), dtype=bool)
    mask[tuple(slice(start, start + length) for start, length in zip(first, size, strict=True))] = True
    return mask


def write_dataset(
    root: Path, masks: Mapping[str, np.ndarray], affine: np.ndarray | None = None, **sections: list[dict[str, str]]
) -> Path:
    """Labels as NIfTI files and a list with all of them for training; the images do not exist."""
    for name, mask in masks.items():
        image = nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4) if affine is None else affine)
        nibabel.save(image, root / f"{name}.nii.gz")
    training = [{"case": name, "image": f"{name}_t1.nii.gz", "label": f"{name}.nii.gz"} for name in masks]
    (root / "datalist.json").write_text(json.dumps({"training": training, **sections}), encoding="utf-8")
    return root
