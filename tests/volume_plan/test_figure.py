# SPDX-License-Identifier: Apache-2.0
"""What the projections show where; small pictures, compared by their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom_nets.volume_plan.advice import Judged, Thresholds, judge
from custom_nets.volume_plan.candidates import Candidate
from custom_nets.volume_plan.figure import projections
from custom_nets.volume_plan.survey import survey
from tests.volume_plan.masks import as_scans, block

SHAPE = (40, 48, 32)


def candidates(mask: np.ndarray, *sizes: tuple[int, int, int]) -> list[Judged]:
    crops = survey(as_scans([mask]), sizes, None).crops
    return [judge(Candidate(size, ("made up",)), crops[size], Thresholds()) for size in sizes]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def axial_maximum(pixels: np.ndarray) -> np.ndarray:
    return pixels[: int(pixels.shape[0] * 0.4), : int(pixels.shape[1] * 0.3)]


@pytest.mark.parametrize("right", [True, False])
def test_right_is_on_the_left_and_front_is_up(tmp_path: Path, right: bool) -> None:
    mask = block(SHAPE, (28 if right else 4, 36, 10), (8, 8, 8))
    path = projections(mask.astype(np.float32), (1, 1, 1), candidates(mask, (32, 40, 24)), tmp_path / "a.png")
    panel = axial_maximum(picture(path))
    bright = np.argwhere((panel > (240, 240, 100)).all(axis=2) & (panel[..., 2] < 200))  # the top of the colour map
    assert len(bright)
    row, column = bright.mean(axis=0) / panel.shape[:2]
    assert (column < 0.5) == right
    assert row < 0.5


def test_every_candidate_is_drawn_and_a_rejected_one_is_dashed(tmp_path: Path) -> None:
    mask = block(SHAPE, (16, 20, 12), (8, 8, 8))
    found = candidates(mask, (32, 40, 24), (24, 32, 24), (8, 8, 8), (4, 4, 4))
    assert [one.accepted for one in found] == [True, True, False, False]
    pixels = [
        int((picture(projections(mask / np.float32(4), (1, 1, 2), some, tmp_path / "a.png")) > 40).any(axis=2).sum())
        for some in (found[:1], found[:2])
    ]
    assert pixels[1] > pixels[0]
    rejected = [judge(one.candidate, one.summary, Thresholds(hit_probability=1.1)) for one in found[:1]]
    dashed = picture(projections(mask / np.float32(4), (1, 1, 2), rejected, tmp_path / "b.png"))
    assert int((dashed > 40).any(axis=2).sum()) < pixels[0]
