# SPDX-License-Identifier: Apache-2.0
"""Metadata of an export: what the repository's say, with the versions, labels and scores of the very model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.model_zoo.model_options import OF_A_RUN
from custom_nets.training.evaluation_record import EVALUATION

Metadata = dict[str, Any]

_SUMMARY = "metrics_summary.json"
_PACKAGES = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
_REQUIRED = "required_packages_version"


def with_versions(metadata: Metadata) -> Metadata:
    """Return metadata with the versions of the packages that are installed, with which an export is checked.

    Bare, as the Model Zoo wants them: 2.13.0 for 2.13.0+cpu.
    """
    named = {key: _bare_version(package) for key, package in _PACKAGES.items()}
    required = {package: _bare_version(package) for package in metadata[_REQUIRED]}
    return {**metadata, **named, _REQUIRED: required}


def with_release(metadata: Metadata, version: str | None, changes: str | None) -> Metadata:
    """Return metadata of a new version of the bundle, or as they are where none is given.

    Raises:
        InputError: for a version that is not three numbers or is in the changelog already, or one of the two alone.
    """
    if version is None and changes is None:
        return metadata
    if not version or not changes:
        raise InputError("--version and --changes go together: the changelog says what is in a version.")
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", str(version)):
        raise InputError(f"--version {version}: give three numbers, 1.2.3.")
    if _numbers(version) <= max(map(_numbers, [metadata["version"], *metadata["changelog"]])):
        raise InputError(f"--version {version} is not above {metadata['version']}, which there is: give a higher one.")
    return {**metadata, "version": version, "changelog": {version: str(changes), **metadata["changelog"]}}


def with_modalities(metadata: Metadata, modalities: Sequence[str], num_slices: int = 1) -> Metadata:
    """Return metadata of a model of these modalities, in the network's order.

    A 2.5D network sees ``num_slices`` slices of each, one slice after the other, as channels.
    """
    filled = deepcopy(metadata)
    image = _image(filled)
    offsets = range(-(num_slices // 2), num_slices - num_slices // 2)
    beside = [f", slice {offset:+d}" if offset else ", slice 0" for offset in offsets] if num_slices > 1 else [""]
    names = [modality + slice_ for slice_ in beside for modality in modalities]
    image["channel_def"] = {str(number): name for number, name in enumerate(names)}
    image["num_channels"] = len(names)
    filled["image_classes"] = "; ".join(names)
    patterns = filled.get("file_name_patterns", {})
    filled["file_name_patterns"] = {name: patterns.get(name, [name.lower()]) for name in modalities}
    return filled


def with_labels(metadata: Metadata, labels: Mapping[int, str]) -> Metadata:
    """Return metadata of a model of these labels: value -> name, background first."""
    filled = deepcopy(metadata)
    pred = _pred(filled)
    pred["channel_def"] = {str(value): name for value, name in labels.items()}
    pred["num_channels"] = len(labels)
    filled["label_classes"] = filled["pred_classes"] = ", ".join(f"{value} {name}" for value, name in labels.items())
    return filled


def with_patch(metadata: Metadata, published: Sequence[int], patch_size: Sequence[int]) -> Metadata:
    """Return metadata of a network that is built for its patch, with this patch; others as they are."""
    filled = deepcopy(metadata)
    for tensor in (_image(filled), _pred(filled)):
        if tensor["spatial_shape"] == list(published):
            tensor["spatial_shape"] = list(patch_size)
    return filled


def read_scores(results: Path, weights: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the means of an evaluation, metric by metric, and what it scored.

    Args:
        results: folder of an evaluation, or its metrics_summary.json.
        weights: :func:`~custom_nets.checkpoints.weights_digest` of the model.

    Raises:
        InputError: the files are not there or no tables of an evaluation, or are those of other weights.
    """
    folder = results.parent if results.name == _SUMMARY else results
    summary, record = (_read_object(folder / name) for name in (_SUMMARY, EVALUATION))
    if record.get("weights") != weights:
        raise InputError(
            f"{folder}: scores of other weights (SHA-256 {str(record.get('weights'))[:12]}..., this model's "
            f"{weights[:12]}...): evaluate this checkpoint with evaluate.json, or give its --results."
        )
    means = {name: value.get("mean") for name, value in summary.get("metrics", {}).items() if isinstance(value, dict)}
    scores = {name: float(mean) for name, mean in means.items() if mean is not None and math.isfinite(mean)}
    if not scores:
        raise InputError(f"{folder / _SUMMARY}: has no metric with a mean; evaluate again with evaluate.json.")
    return scores, record


def differing_options(record: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which an evaluation segmented otherwise than the export does.

    Args:
        record: of the evaluation, see :class:`~custom_nets.training.evaluation_record.EvaluationRecord`.
        config: inference.json of the export. Options that it computes, such as `amp`, and those of a run do not count.
    """
    without_effect = OF_A_RUN | {"amp_dtype", "pictures", "sw_batch_size"}
    options = record.get("options", {}).items()
    given = {key: value for key, value in options if key in config and key not in without_effect}
    plain = {key: config[key] for key in given if not str(config[key]).startswith("$")}
    return {key: given[key] for key in plain if given[key] != plain[key]}


def require_same_labels(record: Mapping[str, Any], metadata: Metadata, source: Path) -> None:
    """Refuse scores of a model whose labels are others than the export's.

    Raises:
        InputError: naming one that differs.
    """
    ours, scored = _pred(metadata)["channel_def"], record.get("labels")
    if scored is not None and scored != ours:
        value = next(value for value in {**scored, **ours} if scored.get(value) != ours.get(value))
        raise InputError(
            f"{source}: was scored with {value} as {scored.get(value, 'no label')}, which would be exported as "
            f"{ours.get(value, 'no label')}: give the labels of this model, --label_graph NAME or FILE."
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give --results the folder that evaluate.json wrote.") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON file ({error}); evaluate again with evaluate.json.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object; evaluate again with evaluate.json.")
    return content


def _image(metadata: Metadata) -> dict[str, Any]:
    return metadata["network_data_format"]["inputs"]["image"]


def _pred(metadata: Metadata) -> dict[str, Any]:
    return metadata["network_data_format"]["outputs"]["pred"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _bare_version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError as error:
        raise InputError(f"{package}: is not installed, and the bundle needs it: pip install {package}.") from error
