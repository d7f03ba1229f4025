# SPDX-License-Identifier: Apache-2.0
"""Lesion-wise metrics of multiple sclerosis inside MONAI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_nets.metric_handlers.collecting import CaseMetrics, MaskMetric
from custom_nets.metrics import lesion_metrics, summarise_ms, write_reports

#: Name in ``engine.state.metrics`` -> metric whose mean over cases is stored under it.
PUBLISHED = {
    "voxel_tpr": "tpr",
    "voxel_ppv": "ppv",
    "volume_difference": "volume_difference",
    "lesion_tpr": "ltpr",
    "lesion_ppv": "lppv",
    "lesion_fpr": "lfpr",
}


class LesionMetric(MaskMetric):
    """Collect one row of :func:`custom_nets.metrics.lesion_metrics` a case; arguments as `MaskMetric`'s."""

    def compare(
        self, prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float]:
        """Return the row of a case: masks of D x H x W, voxel size in mm."""
        return lesion_metrics(prediction, reference, spacing, self.connectivity)

    def aggregate(self) -> float:
        """Return the mean lesion-wise F1 over cases; every process must call this."""
        return float(summarise_ms(self.cases())["metrics"]["lf1"]["mean"])


class LesionMetrics(CaseMetrics):
    """Lesion-wise F1 of an evaluator, with its companions, and the tables of an evaluation run.

    Attached under a name (``lesion_f1``), it stores the mean lesion-wise F1 over cases in ``engine.state.metrics``
    under that name, and the means of ``PUBLISHED`` beside it.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), for example
            ``monai.handlers.from_engine(["pred", "label"])``.
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        dataset_dir: files inside this folder are named relative to it.
        output_dir: where the first process writes ``metrics_per_case.csv`` and ``metrics_summary.json`` at the end of
            every run; None writes nothing.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda output: output,
        connectivity: int = 26,
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        super().__init__(LesionMetric(connectivity, dataset_dir), output_transform, output_dir)

    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return the means of ``PUBLISHED``."""
        metrics = summarise_ms(cases)["metrics"]
        return {published: metrics[key]["mean"] for published, key in PUBLISHED.items()}

    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""
        write_reports(cases, summarise_ms(cases), folder)
