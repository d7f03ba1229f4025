# SPDX-License-Identifier: Apache-2.0
"""Segments one case after the other with a model that is loaded once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from custom_nets.allocator import give_back, keep_memory
from custom_nets.bundle_configs import fast_options
from custom_nets.errors import InputError
from custom_nets.files import file_digest
from custom_nets.fingerprints import Finding, common_fingerprint, unusual
from custom_nets.fingerprints.trained_options import with_files
from custom_nets.inferers import members_of
from custom_nets.nets.s2anet import S2aNet
from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.prediction.dicom_seg import require_highdicom, write_dicom_seg
from custom_nets.prediction.fast import made_fast, told
from custom_nets.prediction.memory import peak_mib
from custom_nets.prediction.opened import OpenedBundle, open_bundle
from custom_nets.prediction.records import (
    claim,
    forget,
    images_of,
    is_complete,
    read_record,
    settings_digest,
    settle,
    write_record,
)
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.prediction.results import write_label, write_probabilities, write_uncertainty
from custom_nets.prediction.routes import Extras, Route
from custom_nets.prediction.structures import structure_rows
from custom_nets.registry import bundle
from custom_nets.running_config import first_cause
from custom_nets.scans import ScanCase, nifti_files

#: Folders for what a case needs on the way begin so, in the output folder.
SCRATCH = ".work_"
#: Networks that hold few large maps by themselves: memory that is kept would cost more than it saves.
_FRUGAL = (S2CANet, S2aNet)
#: Options that change how much is computed at a time, and no label.
_NO_LABEL_CHANGES = {"sw_batch_size"}
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
        self.request = request
        self.fingerprint = common_fingerprint(request.checkpoints, request.options)
        if request.strict and self.fingerprint is None:
            raise InputError(
                f"{request.checkpoints[0]}: has no fingerprint beside it with which --strict could compare scans: "
                f"write one with `python -m tools.fingerprint {request.name} DATASET_DIR {request.checkpoints[0]}`."
            )
        if request.dicom_seg:
            require_highdicom()
        with tempfile.TemporaryDirectory(prefix="labels_") as folder:  # tables of the training, read while opening
            options = {} if self.fingerprint is None else with_files(self.fingerprint.options, Path(folder))
            if request.fast:
                options |= fast_options(bundle(request.name).folder)
            options |= dict(request.options)
            if request.tta is not None:
                options["tta"] = request.tta
            self.model: OpenedBundle = open_bundle(request.name, request.checkpoints, options, request.device)
            in_force = {
                key: value if not _is_file(value) else file_digest(Path(value))
                for key, value in self.model.options.items()
                if key not in _NO_LABEL_CHANGES
            }
        if request.uncertainty and len(request.checkpoints) == 1 and not self.model.options.get("tta"):
            raise InputError("--uncertainty is the spread of several answers: add --tta, or give several checkpoints.")
        self.order = self._order()
        if request.fast:
            self.model = made_fast(self.model)
        if request.fast or not all(isinstance(one, _FRUGAL) for one in members_of(self.model.network)):
            keep_memory()
        self.route = Route(self.model, request.probabilities, request.uncertainty, cases)
        self.settings = {
            "bundle": request.name,
            "version": self.model.bundle.version,
            "weights": list(self.model.weights),
            "options": in_force,
            "fast": request.fast,
            "probabilities": request.probabilities,
            "uncertainty": request.uncertainty,
            "dicom_seg": request.dicom_seg,
        }

    def _order(self) -> list[int]:
        """Which of the bundle's modalities the network takes, in its order: that of the training's fingerprint."""
        known, bundle = list(self.model.bundle.modalities), self.request.name
        if self.fingerprint is None:
            return list(range(len(known)))
        if self.fingerprint.bundle != bundle:
            raise InputError(
                f"{self.request.checkpoints[0]}: its fingerprint is of {self.fingerprint.bundle}, not of {bundle}: "
                "name that bundle, or give a checkpoint of this one."
            )
        foreign = [one for one in self.fingerprint.modalities if one not in known]
        if foreign:
            raise InputError(
                f"{self.request.checkpoints[0]}: was trained on {', '.join(self.fingerprint.modalities)}, and {bundle} "
                f"tells {', '.join(known)} apart: {foreign[0]} cannot be found among scans."
            )
        return [known.index(one) for one in self.fingerprint.modalities]

    def __call__(self, case: ScanCase) -> CaseResult:
        """Segment a case, or find that it is done; a broken case is reported and raises nothing."""
        start = time.perf_counter()
        out_dir = self.request.out_dir
        try:
            if case.problem:
                raise InputError(case.problem)
            kept = self._kept(case)
            if kept is not None:
                return kept
            findings = self._segment(case, start)
            result = CaseResult(case.name, "done", findings=tuple(f"{one.text} {one.remedy}" for one in findings))
        except Exception as error:
            result = CaseResult(case.name, "failed", _told(error))
            if not isinstance(error, InputError) or "give another output folder" not in str(error):
                forget(out_dir, case.name)
        finally:
            give_back()
        return replace(result, seconds=time.perf_counter() - start)

    def _kept(self, case: ScanCase) -> CaseResult | None:
        """What an earlier run found, if it is complete and would be let pass."""
        if not is_complete(self.request.out_dir, case, self.settings):
            return None
        record = read_record(self.request.out_dir, case.name) or {}
        findings = tuple(f"{one['text']} {one['remedy']}" for one in record.get("findings", ()))
        if findings and self.request.strict:
            return None
        label = None if case.label is None else str(case.label.absolute())
        if label is not None and record.get("label") != label:  # a reference that came later
            write_record(self.request.out_dir, {**record, "label": label})
        return CaseResult(case.name, "kept", findings=findings)

    def _segment(self, case: ScanCase, start: float) -> list[Finding]:
        out_dir = self.request.out_dir
        outputs = {kind: name for kind, name in output_names(case.name).items() if self._wanted(kind, case)}
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=out_dir) as folder:
            files = nifti_files(case, Path(folder))
            files = [files[place] for place in self.order]
            findings = self._guard(case, files)
            image = self._prepared(files)
            give_back()  # resampling in float64 took several times what is left of it
            extras = Extras(Path(folder))
            label = self.route(image, extras)
            affine = label.affine.double().numpy()
            claim(out_dir, case, outputs.values())
            write_label(label, out_dir / outputs["segmentation"])
            if extras.probabilities is not None:
                write_probabilities(extras.probabilities, affine, out_dir / outputs["probabilities"])
            if extras.uncertainty is not None:
                write_uncertainty(extras.uncertainty, affine, out_dir / outputs["uncertainty"])
            channels = 0 if extras.probabilities is None else len(extras.probabilities)
        if self.request.dicom_seg:
            findings += self._write_dicom_seg(case, outputs)
        values = label.as_tensor()[0].numpy()
        record = self._record(case, values, affine, outputs, findings, start)
        if channels:
            record["outputs"]["probabilities"]["channels"] = self._channel_names(channels)
        write_record(out_dir, record)
        settle(out_dir, case.name)
        return findings

    def _wanted(self, kind: str, case: ScanCase) -> bool:
        if kind == "dicom_seg":
            return self.request.dicom_seg and any(_is_dicom(path) for path in case.images.values())
        return kind == "segmentation" or bool(getattr(self.request, kind))

    def _channel_names(self, channels: int) -> list[str]:
        """What each volume of probabilities is of: regions, classes with or without the background."""
        folder = self.model.bundle.folder
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        regions = metadata["network_data_format"]["outputs"]["pred"].get("region_def", {})
        if len(regions) == channels:
            return [regions[key] for key in sorted(regions, key=int)]
        names = ["background", *(name for _, name in sorted(self.model.labels.items()))]
        return names[-channels:] if channels <= len(names) else [str(number) for number in range(channels)]

    def _guard(self, case: ScanCase, files: Sequence[Path]) -> list[Finding]:
        """Compare the case with the training's fingerprint, before hours are spent on it."""
        if self.fingerprint is None:
            return []
        findings = unusual(self.fingerprint, files, self.fingerprint.modalities)
        if findings and self.request.strict:
            told = " ".join(f"{one.text} {one.remedy}" for one in findings)
            raise InputError(f"refused with --strict: {told}")
        return findings

    def _prepared(self, files: Sequence[Path]) -> MetaTensor:
        names = [str(file) for file in files]
        prepared: Any = self.model.preprocessing({"image": names if len(names) > 1 else names[0]})
        return prepared["image"]

    def _write_dicom_seg(self, case: ScanCase, outputs: dict[str, str]) -> list[Finding]:
        if "dicom_seg" not in outputs:
            return [Finding(_NO_SERIES, "Give the folder of the series, or leave out --dicom_seg.")]
        series = next(path for path in case.images.values() if _is_dicom(path))
        segmentation, destination = (self.request.out_dir / outputs[kind] for kind in ("segmentation", "dicom_seg"))
        bundle = self.model.bundle
        if not write_dicom_seg(segmentation, series, self.model.labels, destination, bundle.name, bundle.version):
            outputs.pop("dicom_seg")
            return [Finding(_NOTHING_FOUND, "The label map is written all the same.")]
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


def output_names(case: str) -> dict[str, str]:
    """What is written of a case -> its name in the output folder."""
    return {
        "segmentation": f"{case}_seg.nii.gz",
        "probabilities": f"{case}_probabilities.nii.gz",
        "uncertainty": f"{case}_uncertainty.nii.gz",
        "dicom_seg": f"{case}_seg.dcm",
    }


def _is_file(value: object) -> bool:
    """Whether an option names a file, whose content counts and not where it lies."""
    return isinstance(value, str) and Path(value).is_file()


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
