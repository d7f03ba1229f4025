# SPDX-License-Identifier: Apache-2.0
"""Heads of ellipsoids, brains without their skulls, and spines of blocks: small, and with the contrasts of MR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.fingerprints import Fingerprint
from custom_nets.fingerprints.measuring import measured, sampled_files
from custom_nets.fingerprints.recording import TrainingCases, fingerprint_of

SHAPE, SPACING = (72, 88, 72), (3.0, 3.0, 3.0)
#: Signal of white matter, grey matter, fluid, scalp.
CONTRASTS = {"T1": (100, 70, 25, 110), "T2": (40, 60, 160, 70), "FLAIR": (60, 85, 20, 75)}
OPTIONS: dict[str, dict[str, Any]] = {
    "rsanet": {"spacing": [1, 1, 1]},
    "zoom_resunet": {"spacing": False, "intensity": "divide"},
    "spineparsenet": {"label_graph": "mrspineseg", "intensity_mean": 466.0},
}


@cache
def head(modality: str, seed: int, skull: bool = True, gain: float = 1.5) -> NDArray[np.float32]:
    """A head of 150 x 186 x 150 mm or so in air, its size and noise by ``seed``; not to be written into."""
    rng = np.random.default_rng(seed)
    white, grey, fluid, scalp = CONTRASTS[modality]
    size = np.array([62, 78, 60]) * (1 + 0.03 * rng.standard_normal(3))
    grid = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING - (np.array(SHAPE) - 1) * SPACING / 2

    def inside(more: float, scale: float = 1.0) -> NDArray[np.bool_]:
        return ((grid / (scale * size + more)) ** 2).sum(-1) < 1

    volume = np.zeros(SHAPE)
    if skull:
        volume[inside(15)], volume[inside(9)] = scalp, 4
    for where, signal in ((inside(0), fluid), (inside(-3), grey), (inside(-12), white), (inside(0, 0.3), fluid)):
        volume[where] = signal
    noise = rng.normal(0, 3, SHAPE) * (volume > 0)
    made = (gain * np.maximum(volume + noise, 0)).astype(np.float32)
    made.setflags(write=False)
    return made


def spine(seed: int, gain: float = 8.0) -> NDArray[np.float32]:
    """Sagittal slices of 4 mm: bright discs and canal in darker tissue, which reaches the borders."""
    rng = np.random.default_rng(seed)
    volume = np.full((14, 60, 100), 25.0)
    volume[:, 22:38, :] = 60
    volume[:, 22:38, ::12] = 110
    volume[:, 14:20, :] = 200
    volume[:, :5, :] = 160
    return (gain * (volume + rng.normal(0, 4, volume.shape))).astype(np.float32)


def write(path: Path, volume: NDArray[Any], spacing: Sequence[float] = SPACING, affine: Any = None) -> Path:
    """A NIfTI file along R, A, S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([*spacing, 1.0]) if affine is None else affine), path)
    return path


def case(folder: Path, seed: int, modalities: Sequence[str], **options: Any) -> dict[str, Path]:
    """Files of a head's modalities."""
    return {one: write(folder / f"{seed}_{one}.nii.gz", head(one, seed, **options)) for one in modalities}


def fingerprint(bundle: str, cases: Sequence[Mapping[str, Path]]) -> Fingerprint:
    """Of cases that are given as modality to file."""
    modalities = list(cases[0])
    seen = TrainingCases([], modalities)
    for number, one in enumerate(cases):
        scans = sampled_files([one[modality] for modality in modalities])
        seen._measured[number] = measured(dict(zip(modalities, scans, strict=True)))
    return fingerprint_of(bundle, seen, OPTIONS[bundle], {})
