# SPDX-License-Identifier: Apache-2.0
"""Metrics of lesion segmentation: of one case (voxels, lesions, surfaces) and over the cases of an evaluation."""

from __future__ import annotations

from custom_nets.metrics.lesions import LESION_COUNTS, LESION_VOLUME_CLASSES, ROW_KEYS, lesion_metrics
from custom_nets.metrics.ms_summary import isbi2015_score, summarise_ms, volume_correlation
from custom_nets.metrics.reports import write_reports
from custom_nets.metrics.statistics import bootstrap_interval, distribution, mean_and_deviation
from custom_nets.metrics.stroke import STROKE_AVERAGED, STROKE_KEYS, pooled_voxels, stroke_metrics, summarise_stroke
from custom_nets.metrics.stroke_table import stroke_table
from custom_nets.metrics.surfaces import (
    ASSD_CONVENTIONS,
    SURFACE_KEYS,
    SurfaceDistances,
    surface_distances,
    surface_metrics,
)
from custom_nets.metrics.voxels import VoxelReport, voxel_sums

__all__ = [
    "ASSD_CONVENTIONS",
    "LESION_COUNTS",
    "LESION_VOLUME_CLASSES",
    "ROW_KEYS",
    "STROKE_AVERAGED",
    "STROKE_KEYS",
    "SURFACE_KEYS",
    "SurfaceDistances",
    "VoxelReport",
    "bootstrap_interval",
    "distribution",
    "isbi2015_score",
    "lesion_metrics",
    "mean_and_deviation",
    "pooled_voxels",
    "stroke_metrics",
    "stroke_table",
    "summarise_ms",
    "summarise_stroke",
    "surface_distances",
    "surface_metrics",
    "volume_correlation",
    "voxel_sums",
    "write_reports",
]
