# SPDX-License-Identifier: Apache-2.0
"""The record of a finished case, by which a later run knows that nothing is left to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import file_digest, write_json, write_text
from custom_nets.prediction.structures import CASES
from custom_nets.scans import ScanCase, series_files

_HEADERS = {".nhdr", ".mhd"}


def record_path(out_dir: Path, name: str) -> Path:
    """Where the record of a case lies."""
    return out_dir / CASES / f"{name}.json"


def images_of(case: ScanCase) -> dict[str, dict[str, Any]]:
    """The scans of a case by modality: file, SHA-256, bytes, and which channel of a file of several modalities.

    Of a DICOM series the SHA-256 is that of all its files in their order.
    """
    images = {path: _image(path) for path in set(case.images.values())}
    return {
        modality: images[path] | ({"channel": case.channels[modality]} if modality in case.channels else {})
        for modality, path in case.images.items()
    }


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def write_record(out_dir: Path, record: Mapping[str, Any]) -> Path:
    """Write the record of a case, after all of its files: with it the case counts as complete."""
    return write_json(record_path(out_dir, record["case"]), dict(record))


def read_record(out_dir: Path, name: str) -> dict[str, Any] | None:
    """The record of a case; None where there is none that can be read."""
    try:
        record = json.loads(record_path(out_dir, name).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else None
    except (OSError, ValueError):
        return None


def is_complete(out_dir: Path, case: ScanCase, settings: Mapping[str, Any]) -> bool:
    """Whether an earlier run finished this case: of the same scans, with the same settings, its files unharmed."""
    record = read_record(out_dir, case.name) or {}
    try:
        if record["settings_sha256"] != settings_digest(settings) or record["images"] != images_of(case):
            return False
        return all(file_digest(out_dir / one["file"]) == one["sha256"] for one in record["outputs"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def claim(out_dir: Path, case: ScanCase, outputs: Iterable[str]) -> None:
    """Make place for the results of a case: nothing that no prediction wrote is overwritten.

    What an earlier prediction of the case wrote is no longer counted as complete; results of other kinds, which would
    stand beside newer ones, are deleted.

    Raises:
        InputError: a file of that name is there and is no result of this program, or the results are of another scan.
    """
    record, started = read_record(out_dir, case.name), _started(out_dir, case.name)
    if record is None and not started.is_file():
        taken = next((name for name in outputs if (out_dir / name).exists()), None)
        if taken:
            raise InputError(f"{out_dir / taken}: is there, and no prediction wrote it: give another output folder.")
    if record is not None:
        _require_same_scans(out_dir, case, record)
    write_text(started, "results of this case are being written\n")
    record_path(out_dir, case.name).unlink(missing_ok=True)
    for one in (record or {}).get("outputs", {}).values():
        if one["file"] not in outputs:
            (out_dir / one["file"]).unlink(missing_ok=True)


def settle(out_dir: Path, name: str) -> None:
    """All results of a case are written, its record too."""
    _started(out_dir, name).unlink(missing_ok=True)


def forget(out_dir: Path, name: str) -> None:
    """A case failed: what an earlier run found of it is no longer counted."""
    path = record_path(out_dir, name)
    if path.is_file():
        write_text(_started(out_dir, name), "an earlier result of this case is outdated\n")
        path.unlink(missing_ok=True)


def _started(out_dir: Path, name: str) -> Path:
    return out_dir / CASES / f"{name}.started"


def _require_same_scans(out_dir: Path, case: ScanCase, record: Mapping[str, Any]) -> None:
    """Refuse scans that differ from those of the record in place and content: another patient of that name."""
    before, now = record.get("images", {}), images_of(case)
    if before and all(
        before.get(modality, {}).get("file") != image["file"]
        and before.get(modality, {}).get("sha256") != image["sha256"]
        for modality, image in now.items()
    ):
        file = next(iter(before.values())).get("file")
        raise InputError(
            f"{record_path(out_dir, case.name)}: is of another scan of that name ({file}): give another output folder."
        )


def _image(path: Path) -> dict[str, Any]:
    files = [path]
    if path.is_dir():
        files = sorted(series_files(path))
    elif path.suffix.lower() in _HEADERS:
        files = sorted(path.parent.glob(f"{path.stem}.*"))  # the voxels lie beside the header
    digests = [file_digest(one) for one in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"file": str(path.absolute()), "sha256": whole, "bytes": sum(one.stat().st_size for one in files)}
