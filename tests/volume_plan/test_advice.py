# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from custom_nets.volume_plan.advice import Judged, Thresholds, judge, pairs, recommend
from custom_nets.volume_plan.candidates import Candidate
from custom_nets.volume_plan.cost import fitting, macs, training_gib
from custom_nets.volume_plan.statistics import CropStatistics, CropSummary

ATLAS_VOXELS = 197 * 233 * 189


def judged(edge: int, inside: int = 100, hit: float = 1.0, share: float | None = None) -> Judged:
    """A cube that holds that many percent of the lesion."""
    statistics = CropStatistics(share or edge**3 / ATLAS_VOXELS, 100, inside, hit, hit, 0.01)
    return judge(Candidate((edge,) * 3, ("made up",)), CropSummary((statistics,)), Thresholds())


def sizes(*found: Judged | None) -> list[int | None]:
    return [one and one.candidate.size[0] for one in found]


def test_cost_of_the_published_sizes() -> None:
    assert macs((128, 128, 128)) == 665_317_277_696
    assert macs((64, 64, 64)) == 83_164_659_712
    assert macs((144, 172, 168)) == pytest.approx(1_317_518_770_176, rel=0.005)
    assert macs((197, 233, 189)) == pytest.approx(2_716_857_558_912, rel=0.02)
    assert training_gib((128, 128, 128)) == pytest.approx(5.6 + 0.28, abs=0.05)
    assert training_gib((144, 172, 168)) == pytest.approx(11.1 + 0.28, abs=0.05)
    assert training_gib((144, 172, 168), "AMP") == pytest.approx(11.1 / 2 + 0.28, abs=0.05)
    assert fitting((144, 172, 168), [8, 12, 24], "float32") == [12, 24]
    assert fitting((144, 172, 168), [8, 12, 24], "AMP") == [8, 12, 24]


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (judged(128), "accept"),
        (judged(128, inside=98), "reject: Dice ceiling 0.9899 < 0.99"),
        (judged(128, hit=0.49), "reject: hit probability 0.4900 < 0.5"),
        (judged(128, 50, 0.1), "reject: Dice ceiling 0.6667 < 0.99, hit probability 0.1000 < 0.5"),
        (judged(7), "reject: an axis is below the network's 8 voxels"),
    ],
)
def test_verdict_gives_the_reasons(one: Judged, verdict: str) -> None:
    assert one.verdict == verdict
    assert one.accepted == (verdict == "accept")
    assert math.isclose(one.summary.mean_hit_probability, one.summary.scans[0].hit_probability)


def test_smallest_near_a_quarter_and_largest_that_fits() -> None:
    candidates = [judged(100), judged(124, inside=90), judged(128), judged(132), judged(160), judged(184)]
    small, large = (recommend(candidates, gib, "float32") for gib in (12, 24))
    assert sizes(small.zoom_in, small.zoom_out) == [128, 160]
    assert sizes(large.zoom_in, large.zoom_out) == [128, 184]
    assert small.remark == large.remark == ""
    assert sizes(recommend(candidates, 12, "AMP").zoom_out) == [184]


def test_without_an_accepted_size_near_a_quarter_the_nearest_is_taken_and_said() -> None:
    found = recommend([judged(124, inside=90), judged(128, inside=95), judged(160), judged(184)], 24, "float32")
    assert sizes(found.zoom_in, found.zoom_out) == [160, 184]
    assert "128x128x128 fails nothing but the ceiling" in found.remark
    other = recommend([judged(128, 95, 0.1), judged(160), judged(184)], 24, "float32")
    assert other.remark == "no accepted size is near 25%, so zoom-in is the nearest"


@pytest.mark.parametrize(
    ("candidates", "gib", "found", "remark"),
    [
        ([judged(128, inside=50)], 24, [None, None], "no size is accepted"),
        ([judged(128)], 2, [None, None], "no accepted size fits"),
        ([judged(128), judged(160)], 6, [128, None], "no larger accepted size fits"),
    ],
)
def test_what_is_missing_is_said(candidates: list[Judged], gib: float, found: list[int | None], remark: str) -> None:
    recommended = recommend(candidates, gib, "float32")
    assert sizes(recommended.zoom_in, recommended.zoom_out) == found
    assert remark in recommended.remark


def test_pairs_grow_and_accepted_ones_come_first() -> None:
    candidates = [judged(7), judged(100, inside=50), judged(128), judged(160), judged(400)]
    found = [tuple(one.candidate.size[0] for one in pair) for pair in pairs(candidates, [12, 24])]
    assert found == [(128, 160), (100, 128), (100, 160)]
