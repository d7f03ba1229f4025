# SPDX-License-Identifier: Apache-2.0
"""Volumes, components and centroids of a label map, and the table of all cases."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.prediction import structures
from custom_nets.prediction.structures import structure_rows, write_volumes

OBLIQUE = np.array([[-0.8, 0.3, 0.1, 90.0], [0.2, 1.1, -0.4, -40.0], [0.1, 0.5, 3.0, 12.0], [0, 0, 0, 1]])
NAMES = {0: "background", 1: "one", 2: "two", 5: "never seen", 7: "specks"}


def label_map() -> np.ndarray:
    """A corner-to-corner pair, which is one component; two lines; specks everywhere; a value without a name."""
    label = np.zeros((12, 15, 9), np.uint8)
    label[::2, ::3, ::4] = 7
    label[1, 1, 1] = label[2, 2, 2] = 1
    label[4, 2:7, 3] = label[8, 2:7, 3] = 2
    label[11, 14, 7] = 9
    return label


def naive(label: np.ndarray, value: int) -> tuple[float, int, np.ndarray]:
    """The same by definition."""
    found = np.argwhere(label == value)
    volume = len(found) * abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000
    components = ndimage.label(label == value, np.ones((3, 3, 3)))[1]
    return volume, components, OBLIQUE[:3, :3] @ found.mean(0) + OBLIQUE[:3, 3]


@pytest.mark.parametrize("scans_in_boxes", [0, 100], ids=["in one pass", "box by box"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.uint64, np.float32])
def test_each_structure_is_measured(
    kind: type[np.generic], scans_in_boxes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "_SCANS_IN_BOXES", scans_in_boxes)
    label = label_map().astype(kind)
    rows = structure_rows(label, OBLIQUE, NAMES)
    assert [(row["label"], row["name"]) for row in rows] == [item for item in NAMES.items() if item[0]]
    for row in (row for row in rows if row["label"] != 5):
        volume, components, centroid = naive(label, row["label"])
        assert row["volume_ml"] == pytest.approx(volume, abs=1e-6) and row["components"] == components
        assert row["centroid_mm"] == pytest.approx(centroid, abs=1e-4)
    assert rows[2] == {"label": 5, "name": "never seen", "volume_ml": 0.0, "components": 0, "centroid_mm": None}
    assert [row["components"] for row in rows[:2]] == [1, 2]


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 0, 6)])
def test_nothing_found_is_a_row_too(shape: tuple[int, ...]) -> None:
    rows = structure_rows(np.zeros(shape, np.uint8), OBLIQUE, {1: "lesion"})
    assert rows == [{"label": 1, "name": "lesion", "volume_ml": 0.0, "components": 0, "centroid_mm": None}]


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_what_is_no_label_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="no whole number from 0"), np.errstate(invalid="ignore"):
        structure_rows(np.full((3, 3, 3), value), OBLIQUE, {1: "lesion"})
    with pytest.raises(InputError, match=r"shape \(3, 3, 3, 1\)"):
        structure_rows(np.zeros((3, 3, 3, 1), np.uint8), OBLIQUE, {1: "lesion"})


def record(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    write_json(folder / "cases" / f"{name}.json", {"case": name, "structures": rows})


def test_the_table_is_in_the_order_of_the_names(tmp_path: Path) -> None:
    """Whatever the order in which cases were finished."""
    lesion = {"label": 1, "name": "lesion", "volume_ml": 1.5, "components": 2, "centroid_mm": [1.0, -2.25, 3.0]}
    ovary = {"label": 2, "name": 'Ovary, "left"', "volume_ml": 0.0, "components": 0, "centroid_mm": None}
    for name in ("b", "ä, 2", "a"):
        record(tmp_path, name, lesion, ovary)
    table = write_volumes(tmp_path)
    assert table == tmp_path / "volumes.csv"
    text = table.read_text(encoding="utf-8")
    assert text.startswith(
        "case,label,structure,volume_ml,components,centroid_r_mm,centroid_a_mm,centroid_s_mm\n"
        "a,1,lesion,1.500000,2,1.00,-2.25,3.00\n"
    )
    assert 'a,2,"Ovary, ""left""",0.000000,0,,,\n' in text
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["case"] for row in rows] == ["a", "a", "b", "b", "ä, 2", "ä, 2"]
    assert {row["structure"] for row in rows} == {"lesion", 'Ovary, "left"'}


def test_a_broken_record_is_named_and_the_table_stays(tmp_path: Path) -> None:
    record(tmp_path, "a", {"label": 1, "name": "x", "volume_ml": 1.0, "components": 1, "centroid_mm": [0, 0, 0]})
    before = write_volumes(tmp_path).read_bytes()
    (tmp_path / "cases" / "b.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        write_volumes(tmp_path)
    assert (tmp_path / "volumes.csv").read_bytes() == before
