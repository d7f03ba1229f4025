# SPDX-License-Identifier: Apache-2.0
"""The record of a finished case, by which a later run knows that nothing is left to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_nets.files import file_digest, write_json
from custom_nets.prediction.structures import CASES
from custom_nets.scans import ScanCase

_HEADERS = {".nhdr", ".mhd"}


def record_path(out_dir: Path, name: str) -> Path:
    """Where the record of a case lies."""
    return out_dir / CASES / f"{name}.json"


def images_of(case: ScanCase) -> dict[str, dict[str, Any]]:
    """The scans of a case by modality: file, SHA-256 and bytes; of a folder of all files in it, in their order."""
    return {modality: _image(path) for modality, path in case.images.items()}


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def write_record(out_dir: Path, record: Mapping[str, Any]) -> Path:
    """Write the record of a case, after all of its files: with it the case counts as complete."""
    return write_json(record_path(out_dir, record["case"]), dict(record))


def is_complete(out_dir: Path, case: ScanCase, settings: Mapping[str, Any]) -> bool:
    """Whether an earlier run finished this case: of the same scans, with the same settings, its files unharmed."""
    try:
        record = json.loads(record_path(out_dir, case.name).read_text(encoding="utf-8"))
        if record["settings_sha256"] != settings_digest(settings) or record["images"] != images_of(case):
            return False
        return all(file_digest(out_dir / one["file"]) == one["sha256"] for one in record["outputs"].values())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _image(path: Path) -> dict[str, Any]:
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
    elif path.suffix.lower() in _HEADERS:
        files = sorted(path.parent.glob(f"{path.stem}.*"))  # the voxels lie beside the header
    digests = [file_digest(one) for one in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"file": str(path.absolute()), "sha256": whole, "bytes": sum(one.stat().st_size for one in files)}
