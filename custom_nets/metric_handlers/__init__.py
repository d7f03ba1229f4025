# SPDX-License-Identifier: Apache-2.0
"""Metrics inside MONAI: cumulative over batches and processes, and as Ignite metrics for the configs."""

from __future__ import annotations

from custom_nets.metric_handlers.collecting import CaseMetric, CaseMetrics
from custom_nets.metric_handlers.lesions import PUBLISHED, LesionMetric, LesionMetrics
from custom_nets.metric_handlers.stroke import STROKE_PUBLISHED, StrokeMetric, StrokeMetrics
from custom_nets.metric_handlers.voxels import VOXEL_PUBLISHED, VoxelMetric, VoxelMetrics

__all__ = [
    "PUBLISHED",
    "STROKE_PUBLISHED",
    "VOXEL_PUBLISHED",
    "CaseMetric",
    "CaseMetrics",
    "LesionMetric",
    "LesionMetrics",
    "StrokeMetric",
    "StrokeMetrics",
    "VoxelMetric",
    "VoxelMetrics",
]
