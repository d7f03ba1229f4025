# SPDX-License-Identifier: Apache-2.0
"""Metrics of many structures inside MONAI: label maps as they are, never one-hot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.label_maps import single_label_map
from custom_nets.metric_handlers.collecting import CaseMetric, CaseMetrics
from custom_nets.metrics import STRUCTURE_AVERAGED, mean_and_deviation, structure_metrics
from custom_nets.metrics.structure_reports import write_structure_reports
from custom_nets.metrics.structure_summary import averaged_keys
from custom_nets.metrics.structures import check_distance_unit

#: Name in ``engine.state.metrics`` -> metric whose mean over case-structure pairs is stored under it.
STRUCTURE_PUBLISHED = {"mean_dice" if key == "dice" else key: key for key in STRUCTURE_AVERAGED}


class StructureMetric(CaseMetric):
    """Collect one row of :func:`custom_nets.metrics.structure_metrics` a case and structure.

    Takes label maps of 1 x D x H x W.

    Args:
        labels: label value -> name of the structure; 0 is the background. Values may be texts, as in a JSON file.
        dataset_dir: files inside this folder are named relative to it.
        surface: compute the surface distances.
        distance_unit: "mm" or "voxel".
        count_hallucinated: a structure that only the prediction has counts with Dice and IoU 0.

    Raises:
        InputError: for a table without a structure, with values that are no whole numbers or with a name twice, or for
            another unit; when called, for values that the table lacks.
    """

    def __init__(
        self,
        labels: Mapping[Any, str],
        dataset_dir: str | Path | None = None,
        surface: bool = True,
        distance_unit: str = "mm",
        count_hallucinated: bool = False,
    ) -> None:
        check_distance_unit(distance_unit)  # refuse a wrong value before an hour of inference, not after it
        self.labels = _table(labels)
        self.options: dict[str, Any] = {
            "surface": surface,
            "distance_unit": distance_unit,
            "count_hallucinated": count_hallucinated,
        }
        super().__init__(dataset_dir)

    def rows(self, prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """Return one row a structure: label maps of 1 x D x H x W, voxel size in mm."""
        maps = (single_label_map(prediction), single_label_map(reference))
        return structure_metrics(*maps, self.labels, spacing, **self.options)

    def aggregate(self) -> float:
        """Return the mean Dice over all case-structure pairs, NaN without any; every process must call this."""
        mean = mean_and_deviation([row["dice"] for row in self.cases()])["mean"]
        return math.nan if mean is None else float(mean)


class StructureMetrics(CaseMetrics):
    """Mean Dice of many structures, with its companions, and the tables of an evaluation run.

    Attached under a name (``mean_dice``), it stores the mean Dice over all case-structure pairs in
    ``engine.state.metrics`` under that name, and beside it the means of ``STRUCTURE_PUBLISHED``: ``mean_dice``,
    ``iou``, ``sensitivity``, ``specificity``, ``hd``, ``hd95``, ``assd``, ``rvd`` and ``rvd_absolute``. Pairs for which
    a metric does not exist, such as those of a structure that the reference lacks, are left out, as published.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), label maps of 1 x D x H x W; for
            example ``monai.handlers.from_engine(["pred", "label"])``.
        labels: label value -> name of the structure; 0 is the background. Values may be texts, as in a JSON file.
        dataset_dir: files inside this folder are named relative to it.
        output_dir: where the first process writes ``metrics_per_structure.csv``, ``metrics_per_case.csv``,
            ``metrics_summary.json`` and ``structures.png`` at the end of every run; None writes nothing.
        surface: compute the surface distances; off makes a validation during training cheap.
        distance_unit: "mm", or "voxel" as in the S2A-Net paper.
        count_hallucinated: a structure that only the prediction has counts with Dice and IoU 0; published: not at all.

    Raises:
        InputError: for a value that is not among those named, or a table as `StructureMetric` refuses.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any],
        labels: Mapping[Any, str],
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
        surface: bool = True,
        distance_unit: str = "mm",
        count_hallucinated: bool = False,
    ) -> None:
        metric = StructureMetric(labels, dataset_dir, surface, distance_unit, count_hallucinated)
        self.notes = {"distance_unit": distance_unit, "count_hallucinated": count_hallucinated}
        super().__init__(metric, output_transform, output_dir)

    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return the means of ``STRUCTURE_PUBLISHED``."""
        keys = averaged_keys(cases)
        return {
            name: mean_and_deviation([row[key] for row in cases])["mean"]
            for name, key in STRUCTURE_PUBLISHED.items()
            if key in keys
        }

    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""
        write_structure_reports(cases, folder, **self.notes)


def _table(labels: Mapping[Any, str]) -> dict[int, str]:
    try:
        table = {int(value): str(name) for value, name in labels.items()}
    except ValueError as error:
        raise InputError(f"the table of labels has a value that is no whole number: {error}") from None
    if min(table, default=0) < 0 or not set(table) - {0}:
        raise InputError(f"labels is {dict(labels)}; name at least one structure, by a whole number above 0")
    if len(set(table.values())) < len(table):
        twice = next(name for name in table.values() if list(table.values()).count(name) > 1)
        raise InputError(f"the table of labels has the name {twice!r} twice; results are listed by name")
    return table
