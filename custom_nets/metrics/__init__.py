# SPDX-License-Identifier: Apache-2.0
"""Metrics of segmentation: of one case (voxels, lesions, structures, regions, surfaces), and over an evaluation."""

from __future__ import annotations

from custom_nets.metrics.label_order import CALLS, Call, call_counts, chain_shift, label_calls
from custom_nets.metrics.lesion_wise import LESION_WISE_COUNTS, LESION_WISE_SCORES, lesion_wise_metrics
from custom_nets.metrics.lesions import LESION_COUNTS, LESION_VOLUME_CLASSES, ROW_KEYS, lesion_metrics
from custom_nets.metrics.ms_summary import isbi2015_score, summarise_ms, volume_correlation
from custom_nets.metrics.reports import write_reports
from custom_nets.metrics.slice_overlap import OverlapCounts, overlap_counts, slice_dice, slice_iou
from custom_nets.metrics.spine import (
    SPINE_MEASURES,
    SpineScores,
    label_groups,
    overlap_scores,
    spine_metrics,
    surface_scores,
)
from custom_nets.metrics.spine_summary import spine_table, summarise_spine
from custom_nets.metrics.statistics import bootstrap_interval, distribution, mean_and_deviation
from custom_nets.metrics.stroke import STROKE_AVERAGED, STROKE_KEYS, pooled_voxels, stroke_metrics, summarise_stroke
from custom_nets.metrics.stroke_table import stroke_table
from custom_nets.metrics.structure_summary import case_means, structure_means, summarise_structures
from custom_nets.metrics.structures import STRUCTURE_AVERAGED, STRUCTURE_KEYS, structure_metrics
from custom_nets.metrics.surfaces import (
    ASSD_CONVENTIONS,
    HD95_CONVENTIONS,
    SURFACE_KEYS,
    SurfaceDistances,
    surface_distances,
    surface_metrics,
)
from custom_nets.metrics.tumour_summary import region_rows, summarise_tumours, tumour_table
from custom_nets.metrics.tumours import EMPTY_RULES, TUMOUR_AVERAGED, TUMOUR_KEYS, tumour_metrics
from custom_nets.metrics.validation_dice import validation_dice, validation_iou
from custom_nets.metrics.volume_overlap import VolumeOverlap, non_zero_mean, volume_overlap
from custom_nets.metrics.voxels import VoxelReport, voxel_sums

__all__ = [
    "ASSD_CONVENTIONS",
    "CALLS",
    "EMPTY_RULES",
    "HD95_CONVENTIONS",
    "LESION_COUNTS",
    "LESION_VOLUME_CLASSES",
    "LESION_WISE_COUNTS",
    "LESION_WISE_SCORES",
    "ROW_KEYS",
    "SPINE_MEASURES",
    "STROKE_AVERAGED",
    "STROKE_KEYS",
    "STRUCTURE_AVERAGED",
    "STRUCTURE_KEYS",
    "SURFACE_KEYS",
    "TUMOUR_AVERAGED",
    "TUMOUR_KEYS",
    "Call",
    "OverlapCounts",
    "SpineScores",
    "SurfaceDistances",
    "VolumeOverlap",
    "VoxelReport",
    "bootstrap_interval",
    "call_counts",
    "case_means",
    "chain_shift",
    "distribution",
    "isbi2015_score",
    "label_calls",
    "label_groups",
    "lesion_metrics",
    "lesion_wise_metrics",
    "mean_and_deviation",
    "non_zero_mean",
    "overlap_counts",
    "overlap_scores",
    "pooled_voxels",
    "region_rows",
    "slice_dice",
    "slice_iou",
    "spine_metrics",
    "spine_table",
    "stroke_metrics",
    "stroke_table",
    "structure_means",
    "structure_metrics",
    "summarise_ms",
    "summarise_spine",
    "summarise_stroke",
    "summarise_structures",
    "summarise_tumours",
    "surface_distances",
    "surface_metrics",
    "surface_scores",
    "tumour_metrics",
    "tumour_table",
    "validation_dice",
    "validation_iou",
    "volume_correlation",
    "volume_overlap",
    "voxel_sums",
    "write_reports",
]
