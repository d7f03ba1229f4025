# SPDX-License-Identifier: Apache-2.0
"""Reference label maps of cases, and how well predictions agree with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from custom_nets.errors import InputError
from custom_nets.metrics import structure_metrics
from custom_nets.report.case_volumes import CaseVolumes
from custom_nets.report.records import Record

#: What may follow the name of a case in the name of its reference.
SUFFIXES = ("", "_seg", "_label", "_labels", "_mask", "_gt", "-seg", "-label", "-mask")

#: Metrics of the page -> their headings.
METRICS = {"dice": "Dice", "hd95": "HD95 mm", "assd": "ASSD mm"}


def find_references(records: Sequence[Record], folders: Sequence[Path]) -> dict[str, Path]:
    """Find the reference label maps: in folders, by the names of the cases, else those that the input had.

    Args:
        records: of the cases.
        folders: searched in this order for NAME.nii.gz, NAME.nii and the same with one of `SUFFIXES`, such as
            NAME_seg.nii.gz, directly inside or in a folder NAME.

    Returns:
        Name of the case -> file; cases without a reference are left out.

    Raises:
        InputError: a folder is missing or has no reference of any case.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--labels {folder}: no such folder; give one with reference label maps.")
        own = {record.case: path for record in records if (path := _in_folder(record.case, folder))}
        if records and not own:
            raise InputError(
                f"--labels {folder}: has no label map of any case; name them as {records[0].case}.nii.gz or "
                f"{records[0].case}_seg.nii.gz."
            )
        found = own | found
    return {record.case: record.label for record in records if record.label} | found


def _in_folder(case: str, folder: Path) -> Path | None:
    names = [f"{case}{suffix}{kind}" for suffix in SUFFIXES for kind in (".nii.gz", ".nii")]
    return next((path for place in (folder, folder / case) for name in names if (path := place / name).is_file()), None)


def scores_of(volumes: CaseVolumes, labels: Mapping[int, str]) -> dict[int, dict[str, float]]:
    """Compare the prediction of a case with its reference.

    Args:
        volumes: with a reference.
        labels: value -> name of the structures. Where there is one, all that is not 0 in the reference is that one.

    Returns:
        Label -> values of `METRICS` as an evaluation has them, see `custom_nets.metrics.structure_metrics`; those that
        do not exist (NaN) are left out, and structures without any.

    Raises:
        InputError: the reference has values that ``labels`` lacks.
    """
    reference = volumes.reference
    assert reference is not None
    if len(labels) == 1:
        reference = np.where(reference != 0, next(iter(labels)), 0)
    rows = structure_metrics(volumes.segmentation, reference, labels, volumes.spacing)
    scores = {row["structure"]: {key: row[key] for key in METRICS if not math.isnan(row[key])} for row in rows}
    return {label: values for label, values in scores.items() if values}
