# SPDX-License-Identifier: Apache-2.0
"""What a prediction is asked for, and what became of each case: plain data that goes to any worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PredictionRequest:
    """Everything that decides what is computed of each case, and where it is written.

    Attributes:
        name: of the bundle.
        checkpoints: of the model; several are an ensemble, whose probabilities are averaged.
        out_dir: folder of everything that is written.
        options: top-level keys of the bundle's inference.json -> value.
        tta: test-time augmentation; None leaves it as the bundle has it.
        device: "auto" (a GPU if there is one), or as PyTorch names devices.
        fast: choose the fastest way to compute that this machine has, see `custom_nets.prediction.fast`.
        strict: refuse a case that the model's fingerprint finds unusual.
        probabilities: write them as well.
        uncertainty: write the spread of the members of test-time augmentation and ensemble.
        dicom_seg: write a DICOM segmentation beside the NIfTI file, of a case that came as a DICOM series.
    """

    name: str
    checkpoints: tuple[Path, ...]
    out_dir: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    tta: bool | None = None
    device: str = "auto"
    fast: bool = False
    strict: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    dicom_seg: bool = False


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    Attributes:
        name: of the case.
        status: "done", "kept" (complete from an earlier run with the same settings and scans) or "failed".
        message: why it failed; one line.
        findings: what was unusual, each with what to do.
        seconds: of the whole case.
    """

    name: str
    status: str
    message: str = ""
    findings: tuple[str, ...] = ()
    seconds: float = 0.0
