# SPDX-License-Identifier: Apache-2.0
"""Folders as `python -m tools.predict` leaves them, from phantoms; predictions are the true labels less some slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from custom_nets.files import file_digest, write_json
from custom_nets.phantoms import make_case
from custom_nets.prediction.structures import structure_rows
from custom_nets.registry import bundle

FINDING = {"text": "The voxels are 3 mm long; the model saw 1 to 1.5 mm.", "remedy": "Use a finer scan."}
FAILURE = {"case": "broken", "message": "broken.nii.gz: the file ends too early; copy it again."}


def write_out_dir(
    folder: Path,
    name: str = "rsanet",
    cases: tuple[str, ...] = ("patient 1", "patient 2"),
    *,
    spacing: float = 6.0,
    reference: bool = True,
    uncertainty: bool = False,
    failed: tuple[dict[str, str], ...] = (FAILURE,),
) -> Path:
    """Write scans to ``folder``/scans and a prediction of them to ``folder``/out; return the latter.

    The last case has a notice. References lie beside the scans, and records name them where ``reference`` is on.
    """
    out_dir, labels = folder / "out", {value: title for value, title in bundle(name).labels.items() if value}
    for number, case in enumerate(cases):
        phantom = make_case(name, number, spacing)
        images = {
            modality: _save(voxels, phantom.affine, folder / "scans" / f"{case}_{modality}.nii.gz")
            for modality, voxels in phantom.images.items()
        }
        truth = _save(phantom.label.astype(np.uint8), phantom.affine, folder / "scans" / f"{case}_label.nii.gz")
        predicted = phantom.label.astype(np.uint8)
        predicted[..., ::4] = 0
        outputs = {"segmentation": _save(predicted, phantom.affine, out_dir / f"{case}_seg.nii.gz")}
        if uncertainty:
            spread = 0.4 * (phantom.label != predicted).astype(np.float32)
            outputs["uncertainty"] = _save(spread, phantom.affine, out_dir / f"{case}_uncertainty.nii.gz")
        record = {
            "case": case,
            "images": {modality: _noted(path, str(path)) for modality, path in images.items()},
            "label": str(truth) if reference else None,
            "outputs": {kind: _noted(path, path.name) for kind, path in outputs.items()},
            "settings": {"fast": False},
            "settings_sha256": "5" * 64,
            "findings": [FINDING] if number == len(cases) - 1 else [],
            "structures": structure_rows(predicted, phantom.affine, labels),
            "shape": list(predicted.shape),
            "spacing_mm": [round(float(size), 4) for size in nib.affines.voxel_sizes(phantom.affine)],
            "seconds": 3.25 + number,
            "peak_memory_mib": 812.0,
        }
        write_json(out_dir / "cases" / f"{case}.json", record)
    write_run(out_dir, name, labels, failed)
    return out_dir


def write_run(out_dir: Path, name: str, labels: dict[int, str], failed: tuple[dict[str, str], ...] = ()) -> Path:
    """Write the record of a run."""
    content: dict[str, Any] = {
        "bundle": name,
        "version": "0.1.0",
        "labels": {str(value): title for value, title in labels.items()},
        "checkpoints": [{"file": "/models/model.pt", "sha256": "c" * 64}],
        "settings": {"tta": True, "overlap": 0.5, "patch_size": [96, 96, 96], "device": "cpu"},
        "environment": {"python": "3.11.2", "torch": "2.13.0", "monai": "1.6.1", "platform": "Linux x86_64"},
        "failed": list(failed),
    }
    return write_json(out_dir / "prediction.json", content)


def _save(voxels: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def _noted(path: Path, shown: str) -> dict[str, Any]:
    return {"file": shown, "sha256": file_digest(path), "bytes": path.stat().st_size}
