# SPDX-License-Identifier: Apache-2.0
"""Segment your own scans with any bundle."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from tools._lean_start import leave_out

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read once, when torch is imported; see custom_nets.allocator
if __name__ == "__main__":
    leave_out()

from custom_nets.errors import InputError
from custom_nets.option_checks import require_writable
from custom_nets.prediction.engines import run_cases
from custom_nets.prediction.opened import require_known_options
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.registry import bundle
from custom_nets.scans import find_cases
from tools._arguments import names_in, whole
from tools._command import run

_FAILED, _STOPPED = 1, 130


def main(
    name: str,
    source: str,
    out_dir: str,
    *,
    checkpoint: str | None = None,
    tta: bool | None = None,
    device: str = "auto",
    fast: bool = False,
    strict: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    dicom_seg: bool = False,
    engine: str = "local",
    workers: int = 2,
    section: str = "testing",
    **options: Any,
) -> None:
    """Segment scans; what is done is kept, and a broken case does not stop the others.

    Exit status 0: all cases done; 1: some failed, each told in a line; 2: nothing could be started.

    Args:
        name: of the bundle.
        source: a NIfTI, NRRD or MetaImage file; a folder of them; a DICOM series or study; a BIDS folder; a data list,
            or a folder with datalist.json.
        out_dir: folder of everything that is written: label maps, volumes.csv, prediction.json, a record a case.
        checkpoint: weights, the bundle's models/model.pt if left out; several with commas, or the folder of a
            cross-validation's ensemble, are averaged.
        tta: test-time augmentation.
        device: where to compute: auto, cpu, cuda, cuda:1 ...
        fast: choose the fastest way to compute on this machine; labels then differ in a few voxels, see the README.
        strict: refuse scans unlike those of the training, in place of telling what is unusual.
        probabilities: write NAME_probabilities.nii.gz as well.
        uncertainty: write NAME_uncertainty.nii.gz, the spread over test-time augmentation and ensemble.
        dicom_seg: write NAME_seg.dcm for cases that are DICOM series.
        engine: local, or ray for a cluster.
        workers: of the cluster.
        section: of a data list.
        options: which files are a modality, as --T1 "*_t1*" or --T1 FILE; and options of the bundle's inference.json,
            as --patch_size "[128,128,128]".
    """
    warnings.filterwarnings("ignore", module="monai")  # of readers that are not installed
    logging.getLogger("monai").setLevel(logging.ERROR)
    entry = bundle(str(name))
    switches = {"tta": tta, "fast": fast, "strict": strict, "probabilities": probabilities}
    for option, value in {**switches, "uncertainty": uncertainty, "dicom_seg": dicom_seg}.items():
        _require_switch(option, value)
    modalities = _of_modalities(options, (*entry.modalities, "label"))
    own = [key for key, one in signature(main).parameters.items() if one.kind == Parameter.KEYWORD_ONLY]
    require_known_options(entry, options, also=[*own, *entry.modalities])
    files = {key: Path(str(value)) for key, value in modalities.items() if Path(str(value)).exists()}
    patterns = {key: _patterns(key, value) for key, value in modalities.items() if key not in files}
    checkpoints, trained = _checkpoints(entry.folder, checkpoint, entry.name)
    require_writable(out_dir=str(out_dir))
    cases = find_cases(Path(str(source)), entry.name, patterns or None, files or None, section, tell=print)
    request = PredictionRequest(
        name=entry.name,
        checkpoints=checkpoints,
        out_dir=Path(str(out_dir)),
        options={**trained, **options},
        tta=tta,
        device=str(device),
        fast=fast,
        strict=strict,
        probabilities=probabilities,
        uncertainty=uncertainty,
        dicom_seg=dicom_seg,
    )
    try:
        results = run_cases(request, cases, str(engine), whole("--workers", workers))
    except KeyboardInterrupt:
        print("stopped: give the same command again to go on; what is done is kept", file=sys.stderr)
        raise SystemExit(_STOPPED) from None
    _summary(results, request.out_dir)
    if any(result.status == "failed" for result in results):
        raise SystemExit(_FAILED)


def _require_switch(option: str, value: object) -> None:
    if value not in (True, False, None):
        raise InputError(f"--{option} is {value!r}: give True or False, or the option alone.")


def _of_modalities(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Take the options that are called as a modality, or label, whether in upper or lower case."""
    folded = {name.casefold(): name for name in names}
    return {folded[key.casefold()]: options.pop(key) for key in list(options) if key.casefold() in folded}


def _patterns(modality: str, value: Any) -> tuple[str, ...]:
    try:
        return names_in(value)
    except InputError as error:
        raise InputError(f"--{modality}: {error}") from None


def _checkpoints(folder: Path, given: Any, name: str) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """The files of the model, and the options that an ensemble was trained with."""
    paths = [Path(one) for one in names_in(given)] or [folder / "models" / "model.pt"]
    ensemble = paths[0] / "ensemble.json"
    if len(paths) == 1 and ensemble.is_file():
        try:
            content = json.loads(ensemble.read_text(encoding="utf-8"))
            bundle_of, members = content["bundle"], [paths[0] / one for one in content["checkpoints"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{ensemble}: cannot be read ({error!r}): cross-validate again, or name files.") from None
        if bundle_of != name:
            raise InputError(f"{ensemble}: is an ensemble of {bundle_of}, not of {name}: name that bundle.")
        return tuple(members), dict(content.get("options", {}))
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such checkpoint; train first, or name one with --checkpoint FILE.")
    return tuple(paths), {}


def _summary(results: list[CaseResult], out_dir: Path) -> None:
    counts = {status: sum(one.status == status for one in results) for status in ("done", "kept", "failed")}
    unusual = sum(bool(one.findings) for one in results)
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"{told}{f', {unusual} unusual' if unusual else ''}: {out_dir}")
    for result in results:
        if result.status == "failed":
            print(f"  {result.name}: {result.message}")
    print(f"python -m tools.report {shlex.quote(str(out_dir))}   makes a page of them")


if __name__ == "__main__":
    run(main)
