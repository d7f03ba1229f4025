# SPDX-License-Identifier: Apache-2.0
"""Metrics inside MONAI: cumulative over batches and processes, and as Ignite metrics for the configs."""

from __future__ import annotations

from custom_nets.metric_handlers.collecting import CaseMetric, CaseMetrics, MaskMetric, chosen_first
from custom_nets.metric_handlers.lesions import PUBLISHED, LesionMetric, LesionMetrics
from custom_nets.metric_handlers.slice_overlap import SliceIoU, SliceOverlapMetric
from custom_nets.metric_handlers.spine import SpineMetric, SpineMetrics
from custom_nets.metric_handlers.stroke import STROKE_PUBLISHED, StrokeMetric, StrokeMetrics
from custom_nets.metric_handlers.structures import STRUCTURE_PUBLISHED, StructureMetric, StructureMetrics
from custom_nets.metric_handlers.tumours import TumourMetric, TumourMetrics
from custom_nets.metric_handlers.voxels import VOXEL_PUBLISHED, VoxelMetric, VoxelMetrics

__all__ = [
    "PUBLISHED",
    "STROKE_PUBLISHED",
    "STRUCTURE_PUBLISHED",
    "VOXEL_PUBLISHED",
    "CaseMetric",
    "CaseMetrics",
    "LesionMetric",
    "LesionMetrics",
    "MaskMetric",
    "SliceIoU",
    "SliceOverlapMetric",
    "SpineMetric",
    "SpineMetrics",
    "StrokeMetric",
    "StrokeMetrics",
    "StructureMetric",
    "StructureMetrics",
    "TumourMetric",
    "TumourMetrics",
    "VoxelMetric",
    "VoxelMetrics",
    "chosen_first",
]
