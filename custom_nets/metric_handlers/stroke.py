# SPDX-License-Identifier: Apache-2.0
"""Metrics of stroke lesions inside MONAI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.errors import InputError
from custom_nets.metric_handlers.collecting import CaseMetrics, MaskMetric, logged_means
from custom_nets.metrics import (
    STROKE_AVERAGED,
    pooled_voxels,
    stroke_metrics,
    stroke_table,
    summarise_stroke,
    write_reports,
)
from custom_nets.metrics.statistics import at_least_one
from custom_nets.metrics.surfaces import assd_convention

#: Name in ``engine.state.metrics`` -> metric whose mean over scans is stored under it.
STROKE_PUBLISHED = {"mean_dice" if key == "dice" else key: key for key in STROKE_AVERAGED}


class StrokeMetric(MaskMetric):
    """Collect one row of :func:`custom_nets.metrics.stroke_metrics` a case.

    Args:
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        dataset_dir: files inside this folder are named relative to it.
        assd: "pooled" or "directed", the convention of the average symmetric surface distance.
        surface: compute the surface distances.
        both_empty_is_zero: surface distances of two empty masks are 0 in place of undefined.

    Raises:
        InputError: for another connectivity or ``assd``; when called, for values that are no labels.
    """

    def __init__(
        self,
        connectivity: int = 26,
        dataset_dir: str | Path | None = None,
        assd: str = "pooled",
        surface: bool = True,
        both_empty_is_zero: bool = False,
    ) -> None:
        assd_convention(assd)  # refuse a wrong value before an hour of inference, not after it
        self.options: dict[str, Any] = {"assd": assd, "surface": surface, "both_empty_is_zero": both_empty_is_zero}
        super().__init__(connectivity, dataset_dir)

    def compare(
        self, prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float]:
        """Return the row of a case: masks of D x H x W, voxel size in mm."""
        return stroke_metrics(prediction, reference, spacing, self.connectivity, **self.options)

    def aggregate(self) -> float:
        """Return Dice over the voxels of all scans together; every process must call this."""
        return pooled_voxels(at_least_one(self.cases())).hard_dice


class StrokeMetrics(CaseMetrics):
    """Pooled Dice of an evaluator, with its companions, and the tables of an evaluation run.

    Attached under a name (``micro_dice``), it stores Dice over the voxels of all scans together (the 3D-ResU-Net
    paper's microDSC) in ``engine.state.metrics`` under that name, and beside it the means over scans of
    ``STROKE_PUBLISHED``: ``mean_dice`` (the paper's DSC), ``hd``, ``hd95``, ``assd``, ``tpr``, ``precision``, …
    Scans for which a metric is undefined are left out of its mean; their number is logged and stands in the tables.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), for example
            ``monai.handlers.from_engine(["pred", "label"])``.
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        dataset_dir: files inside this folder are named relative to it.
        output_dir: where the first process writes ``metrics_per_case.csv``, ``metrics_summary.json`` and
            ``metrics_table.md`` at the end of every run; None writes nothing.
        assd: "pooled" (over the voxels of both surfaces) or "directed" (mean of the two directed means).
        surface: compute the surface distances; off makes a validation during training cheap.
        both_empty_is_zero: surface distances of two empty masks are 0 in place of undefined.
        resamples: of the bootstrap that gives the confidence intervals.
        seed: of the bootstrap.

    Raises:
        InputError: for a value that is not among those named.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda output: output,
        connectivity: int = 26,
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
        assd: str = "pooled",
        surface: bool = True,
        both_empty_is_zero: bool = False,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        if resamples < 1:
            raise InputError(f"resamples is {resamples}; give 1 or more, the more the steadier (2000 is usual)")
        self.bootstrap = {"resamples": resamples, "seed": seed}
        self.assd = assd
        metric = StrokeMetric(connectivity, dataset_dir, assd, surface, both_empty_is_zero)
        super().__init__(metric, output_transform, output_dir)

    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return the means of ``STROKE_PUBLISHED``, and log which of them leave scans out."""
        return logged_means(cases, {name: key for name, key in STROKE_PUBLISHED.items() if key in cases[0]})

    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""
        summary = {**summarise_stroke(cases, **self.bootstrap), "assd": self.assd}
        write_reports(cases, summary, folder, stroke_table(summary))
