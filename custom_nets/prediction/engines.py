# SPDX-License-Identifier: Apache-2.0
"""Running a list of cases, on this machine or on a Ray cluster: the same files either way."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_nets.errors import InputError
from custom_nets.files import file_digest, leftovers, write_json
from custom_nets.prediction.fast import told
from custom_nets.prediction.predictor import SCRATCH, Predictor, output_names
from custom_nets.prediction.records import record_path
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.prediction.structures import CASES, VOLUMES, write_volumes
from custom_nets.scans import ScanCase

#: How cases are spread over machines.
ENGINES = ("local", "ray")
#: Name of the record of a run in the folder that it writes into.
PREDICTION = "prediction.json"
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "openvino", "ray")


def run_cases(
    request: PredictionRequest, cases: Sequence[ScanCase], engine: str = "local", workers: int = 2
) -> list[CaseResult]:
    """Segment cases, showing progress; volumes.csv and prediction.json are written also when it is stopped.

    Args:
        request: what is computed.
        cases: with different names.
        engine: one of `ENGINES`.
        workers: of the cluster.

    Raises:
        InputError: for another engine, and what `Predictor` raises before the first case.
    """
    if engine not in ENGINES:
        raise InputError(f"--engine is {engine!r}: choose one of {', '.join(ENGINES)}")
    _require_own(request.out_dir, request.name)
    results: list[CaseResult] = []
    predictor = Predictor(request, len(cases))
    _sweep(request.out_dir, cases)
    if predictor.fingerprint is None:
        tqdm.write(
            f"{request.checkpoints[0]}: has no fingerprint beside it: scans are not compared with its training's"
        )
    try:
        with tqdm(total=len(cases), desc="cases", unit="case") as bar:

            def take(result: CaseResult) -> None:
                results.append(result)
                _tell(result, bar)

            if engine == "ray":
                from custom_nets.prediction.ray_engine import run_on_ray  # an extra

                run_on_ray(request, cases, workers, take)
            else:
                for case in cases:
                    bar.set_postfix_str(case.name)
                    take(predictor(case))
    finally:
        _sweep(request.out_dir, cases)
        write_json(request.out_dir / PREDICTION, _record(predictor, results))
        try:
            write_volumes(request.out_dir)
        except InputError as error:  # one damaged record of an earlier run does not hide what this one did
            tqdm.write(f"{VOLUMES} is not written: {error}")
    order = {case.name: place for place, case in enumerate(cases)}
    return sorted(results, key=lambda result: order[result.name])


def _tell(result: CaseResult, bar: Any) -> None:
    if result.status == "failed":
        bar.write(f"{result.name}: FAILED: {result.message}")
    for finding in result.findings:
        bar.write(f"{result.name}: unusual: {finding}")
    bar.update()


def _sweep(out_dir: Path, cases: Sequence[ScanCase]) -> None:
    """Delete what a killed run left half-written of these cases, under hidden names."""
    for case in cases:
        for path in (*(out_dir / name for name in output_names(case.name).values()), record_path(out_dir, case.name)):
            for one in leftovers(path):
                one.unlink(missing_ok=True)
    for folder in out_dir.glob(f"{SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _require_own(out_dir: Path, name: str) -> None:
    """Refuse a folder that holds the predictions of another bundle, or a table that is not ours."""
    path = out_dir / PREDICTION
    if not path.is_file():
        if (out_dir / VOLUMES).exists() and not (out_dir / CASES).is_dir():
            raise InputError(f"{out_dir / VOLUMES}: is there, and no prediction wrote it: give another output folder.")
        return
    try:
        other = json.loads(path.read_text(encoding="utf-8")).get("bundle")
    except (OSError, ValueError, AttributeError):
        return  # it is written anew
    if other != name:
        raise InputError(f"{path}: holds predictions of {other}, not of {name}: give another output folder.")


def _record(predictor: Predictor, results: Sequence[CaseResult]) -> dict[str, Any]:
    model = predictor.model
    return {
        "bundle": model.bundle.name,
        "version": model.bundle.version,
        "labels": {str(value): name for value, name in model.labels.items()},
        "checkpoints": [
            {"file": str(path.absolute()), "sha256": file_digest(path)} for path in predictor.request.checkpoints
        ],
        "settings": predictor.settings,
        "computed": told(predictor.model.network),
        "environment": _environment(),
        "failed": [{"case": one.name, "message": one.message} for one in results if one.status == "failed"],
    }


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
