# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from custom_nets.errors import InputError
from custom_nets.volume_crops import centre_start
from custom_nets.volume_plan.candidates import candidate_sizes, cubic_size, proportional_size
from tests.volume_plan.masks import GOLDEN

ATLAS = (197, 233, 189)


@pytest.mark.parametrize("rule", GOLDEN["candidates"])
def test_golden_candidates(rule: str) -> None:
    expected = GOLDEN["candidates"][rule]
    share, multiple = float(rule.split("/")[0]), int(rule.split("/")[1])
    for name, size_of in (("proportional", proportional_size), ("cubic", cubic_size)):
        size = size_of(GOLDEN["shape"], share, multiple)
        assert list(size) == expected[name]
        assert math.prod(size) / math.prod(GOLDEN["shape"]) == pytest.approx(expected[f"{name}_fraction"], rel=1e-6)


@pytest.mark.parametrize(
    ("share", "multiple", "proportional", "percent", "edge", "cubic_percent"),
    [
        (0.25, 4, (124, 148, 120), 25.4, 128, 24.2),
        (0.25, 8, (128, 144, 120), 25.5, 128, 24.2),
        (0.50, 4, (156, 184, 152), 50.3, 164, 50.8),
        (0.50, 8, (160, 184, 152), 51.6, 160, 47.2),
        (0.75, 4, (180, 212, 172), 75.7, 188, 76.6),
        (0.75, 8, (176, 208, 168), 70.9, 184, 71.8),
    ],
)
def test_atlas(
    share: float, multiple: int, proportional: tuple[int, ...], percent: float, edge: int, cubic_percent: float
) -> None:
    assert proportional_size(ATLAS, share, multiple) == proportional
    assert cubic_size(ATLAS, share, multiple) == (edge,) * 3
    assert round(100 * math.prod(proportional) / math.prod(ATLAS), 1) == percent
    assert round(100 * edge**3 / math.prod(ATLAS), 1) == cubic_percent


def test_published_starts() -> None:
    assert centre_start(ATLAS, (128, 128, 128)) == (34, 52, 30)
    assert centre_start(ATLAS, (144, 172, 168)) == (26, 30, 10)


def test_paper_sizes_are_among_them_where_they_fit_and_each_size_is_there_once() -> None:
    candidates = candidate_sizes(ATLAS, [0.25, 0.5, 0.75], 8)
    origins = {candidate.size: candidate.origins for candidate in candidates}
    assert origins[(128, 128, 128)] == ("25 % cubic", "the paper's zoom-in")
    assert origins[(144, 172, 168)] == ("the paper's zoom-out",)
    assert len(origins) == len(candidates) == 7
    assert [candidate.voxels for candidate in candidates] == sorted(candidate.voxels for candidate in candidates)
    small = candidate_sizes((197, 171, 189), [0.25], 8)
    assert "the paper's zoom-out" not in [origin for candidate in small for origin in candidate.origins]


def test_sizes_stay_within_the_smallest_scan() -> None:
    for candidate in candidate_sizes((100, 100, 100), [0.5, 1.0], 8, limit=(60, 100, 90)):
        assert all(size <= most and size % 8 == 0 for size, most in zip(candidate.size, (60, 100, 90), strict=True))


@pytest.mark.parametrize(
    ("share", "multiple", "message"),
    [
        (0.0, 8, "shares holds 0.0"),
        (1.5, 8, "shares holds 1.5"),
        (float("nan"), 8, "shares holds nan"),
        (0.5, 0, "multiple is 0"),
        (0.5, 64, "a volume has 40x46x38 voxels: give a smaller multiple"),
    ],
)
def test_what_cannot_be_made_is_refused(share: float, multiple: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        candidate_sizes((40, 46, 38), [share], multiple)
