# SPDX-License-Identifier: Apache-2.0
"""What was found in a scan: volume, number of components and centre of every structure, and the table of all cases."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage import measure

from custom_nets.components import bounding_box, connected_components
from custom_nets.errors import InputError
from custom_nets.files import write_text

#: Folder of the cases' records below that of the predictions, and the name of the table that is made of them.
CASES, VOLUMES = "cases", "volumes.csv"

_COLUMNS = ("case", "label", "structure", "volume_ml", "components")
_CENTROID = ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm")
#: Structures are labelled box by box up to this many scans' worth of voxels, else all of them in one slower pass.
_SCANS_IN_BOXES = 3
_Box = tuple[slice, slice, slice]


def structure_rows(label: NDArray[Any], affine: NDArray[Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Measure every structure of a label map.

    Args:
        label: X x Y x Z, whole numbers from 0; 0 is background.
        affine: 4 x 4, voxel index -> RAS coordinates in mm.
        names: value -> name of every structure; 0, if there, is left out, and so are values without a name.

    Returns:
        For each named structure in the order of the values ``{"label", "name", "volume_ml", "components",
        "centroid_mm"}``: the volume of a voxel is the affine's determinant, components are connected over 26
        neighbours, the centroid is ``[R, A, S]`` in mm. An absent structure has volume 0, 0 components and None.

    Raises:
        InputError: ``label`` has other than three axes, or a value that is no whole number from 0.
    """
    if label.ndim != 3:
        raise InputError(f"a label map has the shape {label.shape}: give one of three axes.")
    values = label if label.dtype in (np.uint8, np.uint16, np.uint32) else _unsigned(label)
    box = bounding_box(values != 0)
    values = values[box]
    marginals = _marginals(values, max(names, default=0))
    boxes = {value: _box_of(value, marginals) for value in names if value and marginals[0][value].any()}
    components = _component_counts(values, boxes)
    voxel_ml = abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3]))) / 1000
    rows = []
    for value, name in sorted((value, name) for value, name in names.items() if value):
        row = {"label": int(value), "name": name, "volume_ml": 0.0, "components": 0, "centroid_mm": None}
        if value in boxes:
            lines = [marginal[value] for marginal in marginals]
            count = int(lines[0].sum())
            centre = [
                part.start + float(line @ np.arange(line.size)) / count for part, line in zip(box, lines, strict=True)
            ]
            centroid = [round(float(position), 4) for position in apply_affine(affine, centre)]
            row |= {"volume_ml": round(count * voxel_ml, 6), "components": components[value], "centroid_mm": centroid}
        rows.append(row)
    return rows


def write_volumes(out_dir: str | Path) -> Path:
    """Write ``volumes.csv``, one row a case and structure, from the records of all cases that are complete.

    Args:
        out_dir: folder of predictions, with a record ``cases/NAME.json`` of each complete case.

    Returns:
        The file, whole; its rows are in the order of the cases' names, then of the labels. Volumes have six decimals
        (ml), centroids two (mm); those of an absent structure are empty.

    Raises:
        InputError: a record cannot be read.
    """
    out_dir = Path(out_dir)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*_COLUMNS, *_CENTROID))
    for record in sorted((out_dir / CASES).glob("[!.]*.json"), key=lambda path: path.stem):
        writer.writerows(_table_rows(record))
    return write_text(out_dir / VOLUMES, table.getvalue())


def _unsigned(label: NDArray[Any]) -> NDArray[Any]:
    """The same values in an unsigned type, which may be counted."""
    highest = label.max(initial=0)
    kind = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint32
    values = label.astype(kind)
    if not np.array_equal(values, label):
        raise InputError("a label map has a value that is no whole number from 0: give one value a structure.")
    return values


def _marginals(values: NDArray[Any], highest: int) -> list[NDArray[np.int64]]:
    """For each axis the number of voxels of each value (first index) in each slice (second): counts, sums and boxes."""
    length = max(highest, int(values.max(initial=0))) + 1
    return [
        np.stack([np.bincount(plane.ravel(order="K"), minlength=length) for plane in np.moveaxis(values, axis, 0)], 1)
        if values.size
        else np.zeros((length, 0), np.int64)
        for axis in range(3)
    ]


def _box_of(value: int, marginals: list[NDArray[np.int64]]) -> _Box:
    spans = [np.flatnonzero(marginal[value]) for marginal in marginals]
    first, second, third = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return first, second, third


def _component_counts(values: NDArray[Any], boxes: Mapping[int, _Box]) -> dict[int, int]:
    """How many components each structure has.

    Structures that are scattered all over the scan would each need a pass over all of it; they are then found together.
    """
    voxels = sum(values[box].size for box in boxes.values())
    if voxels <= _SCANS_IN_BOXES * values.size:
        return {value: len(connected_components(values[box] == value).voxels) for value, box in boxes.items()}
    components = measure.label(values, background=0, connectivity=3)
    first = np.zeros(int(components.max()) + 1, values.dtype)
    first[components.ravel()] = values.ravel()
    counts = np.bincount(first[1:], minlength=max(boxes) + 1)
    return {value: int(counts[value]) for value in boxes}


def _table_rows(record: Path) -> Iterator[list[str]]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        for row in content["structures"]:
            centroid = [f"{position:.2f}" for position in row["centroid_mm"]] if row["centroid_mm"] else [""] * 3
            volume, components = f"{row['volume_ml']:.6f}", str(row["components"])
            yield [content["case"], str(row["label"]), row["name"], volume, components, *centroid]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{record}: cannot be read as a case's record ({error!r}): delete it and predict again."
        ) from error
