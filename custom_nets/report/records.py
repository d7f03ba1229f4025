# SPDX-License-Identifier: Apache-2.0
"""What `python -m tools.predict` left in its folder: the record of the run, and one of each complete case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.prediction.structures import CASES

#: Record of the run.
PREDICTION = "prediction.json"


@dataclass(frozen=True)
class Failure:
    """A case without a result.

    Attributes:
        case: its name.
        message: what is wrong, and what to do.
    """

    case: str
    message: str


@dataclass(frozen=True)
class Prediction:
    """A run of the prediction.

    Attributes:
        bundle: its name.
        version: of the bundle.
        labels: value in the label maps -> name, without the background.
        checkpoints: ``{"file", "sha256"}`` of each.
        settings: that decided what was computed.
        method: how it was computed, "exact" or a faster way.
        environment: versions of Python and packages, and the platform.
        failed: the cases that could not be segmented.
    """

    bundle: str
    version: str
    labels: Mapping[int, str]
    checkpoints: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    method: str
    environment: Mapping[str, Any]
    failed: Sequence[Failure]


@dataclass(frozen=True)
class Record:
    """A complete case.

    Attributes:
        case: its name.
        images: modality -> ``{"file", "sha256", "bytes"}``.
        label: file of the reference, if the input has one.
        outputs: "segmentation", and "probabilities", "uncertainty", "dicom_seg" where asked for ->
            ``{"file": name in the folder, "sha256"}``.
        settings_sha256: digest of the settings it was computed with.
        findings: ``{"text", "remedy"}`` of what was unusual in the scan.
        structures: rows of `custom_nets.prediction.structures.structure_rows`.
        shape: of the label map.
        spacing_mm: of the label map.
        seconds: that it took.
        peak_memory_mib: that it took.
    """

    case: str
    images: Mapping[str, Mapping[str, Any]]
    label: Path | None
    outputs: Mapping[str, Mapping[str, Any]]
    settings_sha256: str
    findings: Sequence[Mapping[str, str]]
    structures: Sequence[Mapping[str, Any]]
    shape: Sequence[int]
    spacing_mm: Sequence[float]
    seconds: float | None
    peak_memory_mib: float | None


def read_prediction(out_dir: Path) -> Prediction:
    """Read the record of a run.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = out_dir / PREDICTION
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a folder that python -m tools.predict wrote to its end.")
    content = _content(path, "run python -m tools.predict again, it keeps complete cases")
    try:
        return Prediction(
            bundle=str(content["bundle"]),
            version=str(content["version"]),
            labels={int(value): str(name) for value, name in content["labels"].items() if int(value)},
            checkpoints=list(content["checkpoints"]),
            settings=dict(content["settings"]),
            method=_method(content.get("computed", {})),
            environment=dict(content["environment"]),
            failed=[Failure(str(one["case"]), str(one["message"])) for one in content["failed"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as the record of a prediction ({error!r}); predict again.") from error


def _method(computed: Mapping[str, Any]) -> str:
    """How it was computed, in words."""
    told = ", ".join(computed.get("ways", ["exact"]))
    share = computed.get("agreement")
    return told if share is None else f"{told} ({100 * float(share):.2f} % of the labels tried are those of float32)"


def read_records(out_dir: Path) -> tuple[list[Record], list[Failure]]:
    """Read the records of all complete cases, in the order of their names, and say which cannot be read."""
    records, broken = [], []
    for path in sorted((out_dir / CASES).glob("[!.]*.json"), key=lambda path: path.stem):
        try:
            records.append(_record(path))
        except InputError as error:
            broken.append(Failure(path.stem, str(error)))
    return records, broken


def _record(path: Path) -> Record:
    remedy = "delete it and predict again"
    content = _content(path, remedy)
    try:
        structures = [dict(row) for row in content["structures"]]
        for row in structures:  # what the page computes with
            row["label"], row["volume_ml"] = int(row["label"]), float(row["volume_ml"])
            row["name"], row["components"] = str(row["name"]), int(row["components"])
            row["centroid_mm"] = [float(position) for position in row["centroid_mm"] or ()] or None
        return Record(
            case=str(content["case"]),
            images={str(modality): dict(image) for modality, image in content["images"].items()},
            label=Path(content["label"]) if content.get("label") else None,
            outputs={name: {"file": str(one["file"]), **one} for name, one in content["outputs"].items()},
            settings_sha256=str(content.get("settings_sha256", "")),
            findings=[{"text": str(one["text"]), "remedy": str(one["remedy"])} for one in content["findings"]],
            structures=structures,
            shape=[int(size) for size in content["shape"]],
            spacing_mm=[float(size) for size in content["spacing_mm"]],
            seconds=content.get("seconds"),
            peak_memory_mib=content.get("peak_memory_mib"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as a case's record ({error!r}); {remedy}.") from error


def _content(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not an object; {remedy}.")
    return content
