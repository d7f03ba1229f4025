# SPDX-License-Identifier: Apache-2.0
"""The voxel report: golden numbers, its epsilon rules, pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.metrics import VoxelReport, voxel_sums
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("zoom_resunet")["metrics"]
SHAPE = tuple(GOLDEN["shape"])
PREDICTIONS = [draw(f"metric_pred{case}", SHAPE) for case in range(GOLDEN["n"])]
LABELS = [draw(f"metric_label{case}", SHAPE) + 0.8 * own > 1.2 for case, own in enumerate(PREDICTIONS)]
PROBABILITIES = [1.0 / (1.0 + np.exp(-own)) for own in PREDICTIONS]
NOTHING, ALL = np.zeros(SHAPE), np.ones(SHAPE)


def golden(values: dict[str, float]) -> Any:
    """Expected numbers; those of size 1e-18 stand for 0."""
    return pytest.approx(values, rel=1e-9, abs=1e-17)


def pooled(threshold: float = 0.5) -> VoxelReport:
    pairs = zip(PROBABILITIES, LABELS, strict=True)
    return sum((VoxelReport.of(p, y, threshold) for p, y in pairs), start=VoxelReport())


@pytest.mark.parametrize("case", range(GOLDEN["n"]))
def test_report_of_a_case(case: int) -> None:
    assert VoxelReport.of(PROBABILITIES[case], LABELS[case]).as_dict() == golden(GOLDEN["cases"][case])


@pytest.mark.parametrize(
    ("name", "probabilities", "labels"),
    [
        ("empty_both", NOTHING, NOTHING),
        ("empty_pred", NOTHING, LABELS[0]),
        ("empty_label", PROBABILITIES[0], NOTHING),
        ("half_exactly", 0.5 * ALL, LABELS[0]),
        ("full_both", ALL, ALL),
    ],
)
def test_edge_cases(name: str, probabilities: np.ndarray, labels: np.ndarray) -> None:
    assert VoxelReport.of(probabilities, labels).as_dict() == golden(GOLDEN["edge"][name])


def test_sum_of_reports_is_the_report_of_all_voxels() -> None:
    assert pooled().as_dict() == golden(GOLDEN["pooled"])
    assert pooled().as_dict() == golden(VoxelReport.of(np.stack(PROBABILITIES), np.stack(LABELS)).as_dict())


def test_threshold_and_squared_denominator() -> None:
    assert pooled(0.3).as_dict() == golden(GOLDEN["pooled_threshold_0.3"])
    assert pooled().soft_dice(squared=True) == pytest.approx(GOLDEN["pooled_soft_dice_squared"], rel=1e-9)


@pytest.mark.parametrize("kind", ["hard_dice", "soft_dice"])
def test_mean_over_scans_is_another_number(kind: str) -> None:
    reports = [VoxelReport.of(p, y).as_dict() for p, y in zip(PROBABILITIES, LABELS, strict=True)]
    mean = np.mean([report[kind] for report in reports])
    assert mean == pytest.approx(GOLDEN[f"mean_{kind}"], rel=1e-9) != pytest.approx(pooled().as_dict()[kind], rel=1e-4)


def test_counts_of_a_hard_prediction_are_its_report() -> None:
    hard = PROBABILITIES[1] > 0.5
    report = VoxelReport.of(hard, LABELS[1])
    assert VoxelReport.of_counts(report.tp, report.fp, report.fn, report.tn) == report
    assert report.soft_dice() == report.soft_dice(squared=True) == report.hard_dice


def test_half_precision_is_summed_in_double() -> None:
    p = torch.full((70, 100, 100), 0.25, dtype=torch.bfloat16)
    assert voxel_sums(p, torch.ones(p.shape, dtype=torch.uint8)).tolist() == [0, 0, 7e5, 0, 175e3, 175e3, 43750]


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(6, 7, 8\).*\(7, 8\)"):
        VoxelReport.of(PROBABILITIES[0], LABELS[0][0])
