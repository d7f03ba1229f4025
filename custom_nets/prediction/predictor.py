# SPDX-License-Identifier: Apache-2.0
"""Segments one case after the other with a model that is loaded once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from custom_nets.errors import InputError
from custom_nets.files import file_digest
from custom_nets.fingerprints import Finding, read_fingerprint, unusual
from custom_nets.fingerprints.trained_options import with_files
from custom_nets.prediction.allocator import give_back, keep_memory
from custom_nets.prediction.dicom_seg import write_dicom_seg
from custom_nets.prediction.fast import made_fast, told
from custom_nets.prediction.memory import peak_mib
from custom_nets.prediction.opened import OpenedBundle, open_bundle
from custom_nets.prediction.records import images_of, is_complete, settings_digest, write_record
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.prediction.results import write_label, write_probabilities, write_uncertainty
from custom_nets.prediction.routes import Extras, Route
from custom_nets.prediction.structures import structure_rows
from custom_nets.running_config import first_cause
from custom_nets.scans import ScanCase, nifti_files

#: What a case may break with without the others suffering; anything of Python's own is the program's fault, and told.
_NOTHING_FOUND = "Nothing was found, so there is no DICOM segmentation."
_NO_SERIES = "The scan is no DICOM series, so there is no DICOM segmentation of it."


class Predictor:
    """A bundle's model, ready for cases.

    Args:
        request: what is computed, and where it goes.
        cases: how many there will be, as far as is known.

    Raises:
        InputError: for an unknown bundle or option, a checkpoint that is missing or of another network.
    """

    def __init__(self, request: PredictionRequest, cases: int = 1) -> None:
        keep_memory()
        self.request = request
        self.fingerprint = read_fingerprint(request.checkpoints[0])
        with tempfile.TemporaryDirectory(prefix="labels_") as folder:  # tables of the training, read while opening
            options = {} if self.fingerprint is None else with_files(self.fingerprint.options, Path(folder))
            options |= dict(request.options)
            if request.tta is not None:
                options["tta"] = request.tta
            self.model: OpenedBundle = open_bundle(request.name, request.checkpoints, options, request.device)
        if request.fast:
            self.model = made_fast(self.model)
        self.route = Route(self.model, request.probabilities, request.uncertainty, cases)
        self.settings = {
            "bundle": request.name,
            "version": self.model.bundle.version,
            "weights": list(self.model.weights),
            "options": self.model.options,
            "fast": request.fast,
            "probabilities": request.probabilities,
            "uncertainty": request.uncertainty,
            "dicom_seg": request.dicom_seg,
        }

    def __call__(self, case: ScanCase) -> CaseResult:
        """Segment a case, or find that it is done; a broken case is reported and raises nothing."""
        start = time.perf_counter()
        try:
            if case.problem:
                raise InputError(case.problem)
            if is_complete(self.request.out_dir, case, self.settings):
                return CaseResult(case.name, "kept")
            findings = self._segment(case, start)
            result = CaseResult(case.name, "done", findings=tuple(f"{one.text} {one.remedy}" for one in findings))
        except Exception as error:
            result = CaseResult(case.name, "failed", _told(error))
        finally:
            give_back()
        return replace(result, seconds=time.perf_counter() - start)

    def _segment(self, case: ScanCase, start: float) -> list[Finding]:
        out_dir = self.request.out_dir
        with tempfile.TemporaryDirectory(prefix="case_") as folder:
            files = nifti_files(case, Path(folder))
            findings = self._guard(case, files)
            image = self._prepared(files)
            extras = Extras(Path(folder))
            label = self.route(image, extras)
            affine = label.affine.double().numpy()
            outputs = {"segmentation": f"{case.name}_seg.nii.gz"}
            write_label(label, out_dir / outputs["segmentation"])
            if extras.probabilities is not None:
                outputs["probabilities"] = f"{case.name}_probabilities.nii.gz"
                write_probabilities(extras.probabilities, affine, out_dir / outputs["probabilities"])
            if extras.uncertainty is not None:
                outputs["uncertainty"] = f"{case.name}_uncertainty.nii.gz"
                write_uncertainty(extras.uncertainty, affine, out_dir / outputs["uncertainty"])
        if self.request.dicom_seg:
            findings += self._write_dicom_seg(case, outputs)
        values = label.as_tensor()[0].numpy()
        write_record(out_dir, self._record(case, values, affine, outputs, findings, start))
        return findings

    def _guard(self, case: ScanCase, files: Sequence[Path]) -> list[Finding]:
        """Compare the case with the training's fingerprint, before hours are spent on it."""
        if self.fingerprint is None:
            return []
        findings = unusual(self.fingerprint, files, list(case.images))
        if findings and self.request.strict:
            told = " ".join(f"{one.text} {one.remedy}" for one in findings)
            raise InputError(f"refused with --strict: {told}")
        return findings

    def _prepared(self, files: Sequence[Path]) -> MetaTensor:
        names = [str(file) for file in files]
        prepared: Any = self.model.preprocessing({"image": names if len(names) > 1 else names[0]})
        return prepared["image"]

    def _write_dicom_seg(self, case: ScanCase, outputs: dict[str, str]) -> list[Finding]:
        series = next((path for path in case.images.values() if _is_dicom(path)), None)
        if series is None:
            return [Finding(_NO_SERIES, "Give the folder of the series, or leave out --dicom_seg.")]
        name, bundle = f"{case.name}_seg.dcm", self.model.bundle
        segmentation = self.request.out_dir / outputs["segmentation"]
        destination = self.request.out_dir / name
        if not write_dicom_seg(segmentation, series, self.model.labels, destination, bundle.name, bundle.version):
            return [Finding(_NOTHING_FOUND, "The label map is written all the same.")]
        outputs["dicom_seg"] = name
        return []

    def _record(
        self,
        case: ScanCase,
        values: np.ndarray,
        affine: np.ndarray,
        outputs: dict[str, str],
        findings: Sequence[Finding],
        start: float,
    ) -> dict[str, Any]:
        files = {
            kind: {"file": name, "sha256": file_digest(self.request.out_dir / name)} for kind, name in outputs.items()
        }
        return {
            "case": case.name,
            "images": images_of(case),
            "label": None if case.label is None else str(case.label.absolute()),
            "outputs": files,
            "settings": self.settings,
            "settings_sha256": settings_digest(self.settings),
            "computed": told(self.model.network),
            "findings": [{"text": one.text, "remedy": one.remedy} for one in findings],
            "structures": structure_rows(values, affine, self.model.labels),
            "shape": list(values.shape),
            "spacing_mm": [float(f"{length:.6g}") for length in np.linalg.norm(affine[:3, :3], axis=0)],
            "seconds": round(time.perf_counter() - start, 2),
            "peak_memory_mib": round(peak_mib()),
        }


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or not path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"))


def _told(error: Exception) -> str:
    """One line: an `InputError` in its own words, anything else by its kind."""
    cause = first_cause(error)
    if isinstance(cause, InputError):
        return " ".join(str(cause).split())
    if isinstance(cause, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(cause):
        return "out of memory: close other programs, give --device cpu, or a smaller --sw_batch_size"
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[0] if text else 'no message'}"
