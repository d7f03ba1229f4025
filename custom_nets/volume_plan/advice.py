# SPDX-License-Identifier: Apache-2.0
"""From statistics and cost to a verdict on each crop size and a recommended pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custom_nets.volume_plan.candidates import Candidate
from custom_nets.volume_plan.cost import PRECISIONS, SMALLEST_AXIS, fitting
from custom_nets.volume_plan.statistics import CropSummary

#: The share of the volume that zoom-in aims at (paper: 24 %), and how far from it still counts as near.
ZOOM_IN_SHARE, NEAR = 0.25, 0.05


@dataclass(frozen=True)
class Thresholds:
    """What a crop size has to reach.

    Attributes:
        dice_ceiling: least mean Dice ceiling of inference on the centred crop.
        hit_probability: least mean probability that a random crop holds lesion; below 0.5, crops without it dominate.
    """

    dice_ceiling: float = 0.99
    hit_probability: float = 0.5


@dataclass(frozen=True)
class Judged:
    """A candidate with its verdict.

    Attributes:
        candidate: the crop size.
        summary: its statistics over the scans.
        reasons: why it is rejected; empty when it is accepted.
        ceiling_alone: whether it is rejected for its Dice ceiling and nothing else.
    """

    candidate: Candidate
    summary: CropSummary
    reasons: tuple[str, ...]
    ceiling_alone: bool = False

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """``accept``, or ``reject`` with the reasons."""
        return "accept" if self.accepted else f"reject: {', '.join(self.reasons)}"


@dataclass(frozen=True)
class Recommendation:
    """The pair of sizes for one GPU.

    Attributes:
        gpu_gib: its memory in GiB.
        precision: ``"float32"`` or ``"AMP"``.
        zoom_in: the smallest accepted candidate near 25 % of the volume; None when no candidate is accepted and fits.
        zoom_out: the largest accepted candidate that fits; None when none is larger than zoom-in.
        remark: what is missing, or empty.
    """

    gpu_gib: float
    precision: str
    zoom_in: Judged | None
    zoom_out: Judged | None
    remark: str


def judge(candidate: Candidate, summary: CropSummary, thresholds: Thresholds) -> Judged:
    """Hold a candidate against the thresholds."""
    reasons = []
    ceiling, hit = summary.mean_dice_ceiling, summary.mean_hit_probability
    if min(candidate.size) < SMALLEST_AXIS:
        reasons.append(f"an axis is below the network's {SMALLEST_AXIS} voxels")
    if ceiling < thresholds.dice_ceiling:
        reasons.append(f"Dice ceiling {ceiling:.4f} < {thresholds.dice_ceiling:g}")
    if hit < thresholds.hit_probability:
        reasons.append(f"hit probability {hit:.4f} < {thresholds.hit_probability:g}")
    return Judged(candidate, summary, tuple(reasons), len(reasons) == 1 and ceiling < thresholds.dice_ceiling)


def recommend(judged: Sequence[Judged], gpu_gib: float, precision: str) -> Recommendation:
    """Choose a pair for one GPU.

    Zoom-in: among the accepted candidates that fit, the smallest whose share is within 0.05 of 25 %; where there is
    none, the one whose share is nearest. Zoom-out: the largest accepted candidate that fits.

    Args:
        judged: the candidates, smallest first.
        gpu_gib: memory of the GPU in GiB.
        precision: ``"float32"`` or ``"AMP"``.
    """
    fits = [one for one in judged if fitting(one.candidate.size, [gpu_gib], precision)]
    usable = [one for one in fits if one.accepted]
    if not usable:
        accepted = any(one.accepted for one in judged)
        remark = "no accepted size fits" if accepted else "no size is accepted: lower a threshold or raise --shares"
        return Recommendation(gpu_gib, precision, None, None, remark)
    near = [one for one in usable if _is_near(one)]
    zoom_in = near[0] if near else min(usable, key=lambda one: abs(one.summary.share - ZOOM_IN_SHARE))
    remarks = [] if near else [_without_near(fits)]
    zoom_out = usable[-1] if usable[-1].candidate.voxels > zoom_in.candidate.voxels else None
    if zoom_out is None:
        remarks.append("no larger accepted size fits: train zoom-in alone")
    return Recommendation(gpu_gib, precision, zoom_in, zoom_out, "; ".join(remarks))


def _is_near(one: Judged) -> bool:
    return abs(one.summary.share - ZOOM_IN_SHARE) <= NEAR


def _without_near(fits: Sequence[Judged]) -> str:
    """Why zoom-in is not near 25 %, and the size there that might still do: the ceiling is about inference alone."""
    remark = f"no accepted size is near {ZOOM_IN_SHARE:.0%}, so zoom-in is the nearest"
    rejected = [one for one in fits if _is_near(one) and one.ceiling_alone]
    if not rejected:
        return remark
    best = max(rejected, key=lambda one: one.summary.mean_dice_ceiling)
    return (
        f"{remark}; if zoom-in only trains and zoom-out segments, {best.candidate.name} fails nothing but the ceiling"
    )


def recommendations(judged: Sequence[Judged], gpu_gib: Sequence[float]) -> list[Recommendation]:
    """A recommendation for each GPU and precision."""
    return [recommend(judged, gib, precision) for gib in gpu_gib for precision in PRECISIONS]


def pairs(judged: Sequence[Judged], gpu_gib: Sequence[float]) -> list[tuple[Judged, Judged]]:
    """Pairs for a systematic search: zoom-in smaller than zoom-out, both within some GPU's memory with AMP at least.

    Args:
        judged: the candidates, smallest first.
        gpu_gib: memory of the GPUs in GiB.

    Returns:
        Pairs of two accepted sizes first; within that, smaller zoom-in and then smaller zoom-out first.
    """
    affordable = [one for one in judged if fitting(one.candidate.size, gpu_gib, "AMP")]
    found = [
        (first, second)
        for first in affordable
        for second in affordable
        if first.candidate.voxels < second.candidate.voxels and min(first.candidate.size) >= SMALLEST_AXIS
    ]
    return sorted(found, key=lambda pair: not (pair[0].accepted and pair[1].accepted))
