# SPDX-License-Identifier: Apache-2.0
"""Metrics of spines inside MONAI: label maps of a graph's nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from custom_nets.label_graphs.graph import LabelGraph, graph_from
from custom_nets.label_maps import single_label_map
from custom_nets.metric_handlers.collecting import CaseMetric, CaseMetrics, logged_means
from custom_nets.metrics import mean_and_deviation, spine_metrics
from custom_nets.metrics.spine_reports import write_spine_reports
from custom_nets.metrics.spine_summary import averaged_keys
from custom_nets.metrics.surfaces import assd_convention


class SpineMetric(CaseMetric):
    """Collect the rows of :func:`custom_nets.metrics.spine_metrics`: of each case one of its own, then its structures'.

    Takes label maps of nodes, 1 x D x H x W, or single slices of 1 x H x W.

    Args:
        graph: of the nodes, or what :func:`~custom_nets.label_graphs.graph.graph_from` reads.
        dataset_dir: files inside this folder are named relative to it.
        surface: compute the average symmetric surface distance.
        assd: "directed" (mean of the two directed means) or "pooled" (over the voxels of both surfaces).
        background: count the background in the validation Dice.

    Raises:
        InputError: for another ``assd`` or a graph that does not hold together; when called, for values that are no
            nodes of it.
    """

    def __init__(
        self,
        graph: LabelGraph | Mapping[str, Any],
        dataset_dir: str | Path | None = None,
        surface: bool = True,
        assd: str = "directed",
        background: bool = False,
    ) -> None:
        assd_convention(assd)  # refuse a wrong value before an hour of inference, not after it
        self.graph = graph_from(graph)
        self.options: dict[str, Any] = {"surface": surface, "assd": assd, "skip": () if background else (0,)}
        super().__init__(dataset_dir)

    def rows(self, prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """Return the row of the case and one row a structure: voxel size in mm."""
        maps = [single_label_map(one if one.ndim > 3 else one[:, None]) for one in (prediction, reference)]
        scores = spine_metrics(maps[0], maps[1], self.graph, spacing, **self.options)
        return [scores.case, *scores.structures]

    def aggregate(self) -> float:
        """Return the mean over cases of the validation Dice, NaN without any; every process must call this."""
        mean = mean_and_deviation([row["validation_dice"] for row in case_rows(self.cases())])["mean"]
        return math.nan if mean is None else float(mean)


class SpineMetrics(CaseMetrics):
    """Mean Dice of spines, with its companions, and the tables of an evaluation run.

    Attached under a name (``mean_dice``), it stores the released training's validation Dice in
    ``engine.state.metrics`` under that name: the mean over the labels, without the background, that the prediction or
    the reference of a case has, averaged over all cases. (The released one scores the first case of a batch alone.)
    Beside it the means over cases of what is averaged: ``dice_all``, ``dice_vertebrae``, ``dice_discs``,
    ``precision_all``, …, ``recall_all``, …, ``assd_all``, …, ``accuracy``, ``dice_whole``, ``union_dice_vertebrae``,
    ``union_dice_discs``, ``order_errors`` (structures with another's name) and ``neighbour_share``. Cases for which
    one is undefined are left out of it; their number is logged and stands in the tables.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), label maps of nodes, 1 x D x H x W
            or slices of 1 x H x W; for example ``monai.handlers.from_engine(["pred", "label"])``.
        graph: of the nodes, or its description as configs hold it.
        dataset_dir: files inside this folder are named relative to it.
        output_dir: where the first process writes ``metrics_per_case.csv``, ``metrics_per_structure.csv``,
            ``metrics_summary.json``, ``metrics_table.md`` and ``structures.png`` at the end of every run; None writes
            nothing.
        surface: compute the average symmetric surface distance; off makes a validation during training cheap.
        assd: "directed", as MedPy had it at the paper's time, or "pooled", as it is today.
        background: count the background in the validation Dice, as published for the slices of the refinement.

    Raises:
        InputError: for a value that is not among those named, or a graph that does not hold together.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any],
        graph: LabelGraph | Mapping[str, Any],
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
        surface: bool = True,
        assd: str = "directed",
        background: bool = False,
    ) -> None:
        metric = SpineMetric(graph, dataset_dir, surface, assd, background)
        self.graph = metric.graph
        self.notes = {"assd": assd} if surface else {}
        super().__init__(metric, output_transform, output_dir)

    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return the means of all that is averaged, and log which of them leave cases out."""
        whole = case_rows(cases)
        return logged_means(whole, {key: key for key in averaged_keys(whole) if key != "validation_dice"})

    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""
        structures = [row for row in cases if "structure" in row]
        write_spine_reports(case_rows(cases), structures, self.graph, folder, **self.notes)


def case_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of rows that are about a whole case."""
    return [row for row in rows if "structure" not in row]
