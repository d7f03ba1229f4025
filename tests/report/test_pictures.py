# SPDX-License-Identifier: Apache-2.0
"""Pictures of a case: where the planes cut, proportions, sides and colours."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from custom_nets.report.case_volumes import CaseVolumes
from custom_nets.report.pictures import Picture, overlay_pictures, uncertainty_pictures

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
COLOURS = {1: RED, 2: GREEN}


def volumes() -> CaseVolumes:
    """A grey box of 80 x 60 x 48 mm, a large structure on the patient's right and a small one on the left."""
    labels = np.zeros((40, 30, 16), dtype=np.int32)
    labels[24:36, 10:20, 4:9] = 1
    labels[4:8, 12:16, 6:9] = 2
    image = np.full(labels.shape, 40.0, dtype=np.float32)
    return CaseVolumes(image, (0.0, 100.0), labels, None, None, np.diag([2.0, 2.0, 3.0, 1.0]), [])


def pixels(picture: Picture) -> np.ndarray:
    kind, data = picture.data.split(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(float) / 255


def where(picture: Picture, channel: int) -> np.ndarray:
    """Where a colour prevails: rows and columns, 0 … 1."""
    values = pixels(picture)
    others = [one for one in range(3) if one != channel]
    return np.argwhere(values[..., channel] - values[..., others].max(axis=-1) > 0.25) / values.shape[:2]


def test_planes_go_through_the_largest_structure_in_true_proportions() -> None:
    axial, coronal, sagittal = overlay_pictures(volumes(), COLOURS)
    assert [one.plane for one in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    assert 4 <= axial.position_mm / 3 < 9 and 10 <= coronal.position_mm / 2 < 20 and 24 <= sagittal.position_mm / 2 < 36
    assert axial.position_mm / 3 >= 6  # of its slices one with the other structure too
    assert axial.labels == (1, 2) and sagittal.labels == (1,)
    for picture, height, width in ((axial, 60, 80), (coronal, 48, 80), (sagittal, 48, 60)):
        assert picture.height / picture.width == pytest.approx(height / (width * 1.12), rel=0.02)
        assert max(picture.height, picture.width) == 520


def test_right_is_on_the_left() -> None:
    axial = overlay_pictures(volumes(), COLOURS)[0]
    assert where(axial, 0)[:, 1].max() < 0.5 < where(axial, 1)[:, 1].min()


def test_reference_is_dashed_white() -> None:
    plain = pixels(overlay_pictures(volumes(), COLOURS)[0])
    reference = np.roll(volumes().segmentation, -2, axis=0)
    dashed = pixels(overlay_pictures(replace(volumes(), reference=reference), COLOURS)[0])
    changed = np.abs(plain - dashed).max(axis=-1) > 0.3
    assert changed.any()
    assert dashed[changed].min(axis=-1).mean() > plain[changed].min(axis=-1).mean() + 0.2


def test_a_scan_without_any_structure_is_cut_in_its_middle() -> None:
    empty = replace(volumes(), segmentation=np.zeros((40, 30, 16), dtype=np.int32))
    pictures = overlay_pictures(empty, COLOURS)
    assert [one.position_mm for one in pictures] == [24.0, 30.0, 40.0]
    assert not any(one.labels for one in pictures)


def test_uncertainty_is_drawn_where_it_is() -> None:
    spread = (volumes().segmentation == 1) * np.float32(0.5)
    picture = uncertainty_pictures(replace(volumes(), uncertainty=spread))[0]
    bright = np.argwhere(pixels(picture).max(axis=-1) > 0.9) / pixels(picture).shape[:2]
    body = bright[np.abs(bright[:, 1] - 0.5) < 0.4]  # without the letters of the sides
    assert len(body) and body[:, 1].max() < 0.5
