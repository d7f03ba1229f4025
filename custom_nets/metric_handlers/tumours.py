# SPDX-License-Identifier: Apache-2.0
"""Metrics of brain tumours inside MONAI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.label_maps import single_label_map
from custom_nets.metric_handlers.collecting import CaseMetric, CaseMetrics, logged_means
from custom_nets.metrics import mean_and_deviation, tumour_metrics
from custom_nets.metrics.lesion_wise import check_lesion_rules
from custom_nets.metrics.tumour_reports import write_tumour_reports
from custom_nets.metrics.tumour_summary import averaged_keys
from custom_nets.metrics.tumours import empty_rule_regions


class TumourMetric(CaseMetric):
    """Collect one row of :func:`custom_nets.metrics.tumour_metrics` a case.

    Takes label maps of 1 x D x H x W with the values of the convention "brats": 0, 1, 2, 4.

    Args:
        dataset_dir: files inside this folder are named relative to it.
        empty_rule: "all" or "et", the regions that have a value where a mask is empty.
        surface: compute HD95.
        lesion_wise: compute the lesion-wise scores of BraTS 2023 too.
        dilations: of the reference, before its lesions are told apart.
        min_volume: in mm³; smaller lesions do not count lesion-wise.

    Raises:
        InputError: for another rule or a parameter out of range; when called, for values of another convention.
    """

    def __init__(
        self,
        dataset_dir: str | Path | None = None,
        empty_rule: str = "all",
        surface: bool = True,
        lesion_wise: bool = False,
        dilations: int = 3,
        min_volume: float = 50.0,
    ) -> None:
        # refuse a wrong value before an hour of inference, not after it
        empty_rule_regions(empty_rule)
        check_lesion_rules(dilations, min_volume)
        self.options: dict[str, Any] = {"empty_rule": empty_rule, "surface": surface, "lesion_wise": lesion_wise}
        if lesion_wise:
            self.options |= {"dilations": dilations, "min_volume": min_volume}
        super().__init__(dataset_dir)

    def rows(self, prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """Return the row of a case: label maps of 1 x D x H x W, voxel size in mm."""
        return [tumour_metrics(single_label_map(prediction), single_label_map(reference), spacing, **self.options)]

    def aggregate(self) -> float:
        """Return the mean over cases of the mean Dice of the regions, NaN without any; every process must call this."""
        mean = mean_and_deviation([row["mean_dice"] for row in self.cases()])["mean"]
        return math.nan if mean is None else float(mean)


class TumourMetrics(CaseMetrics):
    """Mean Dice of the regions of brain tumours, with its companions, and the tables of an evaluation run.

    Attached under a name (``mean_dice``), it stores the mean over cases of the mean Dice of ET, TC and WT in
    ``engine.state.metrics`` under that name, and beside it the means of all that is averaged: ``dice_et``, ``dice_tc``,
    ``dice_wt``, ``mean_hd95``, ``hd95_et``, …, ``sensitivity_et``, …, ``specificity_et``, …, with ``lesion_wise`` also
    ``mean_lesion_dice``, ``lesion_dice_et``, … and the same of ``lesion_hd95``. Cases for which a metric is undefined,
    such as the sensitivity of a region that the reference lacks, are left out of its mean; their number is logged and
    stands in the tables.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), label maps of 1 x D x H x W with
            the values 0, 1, 2, 4; for example ``monai.handlers.from_engine(["pred", "label"])``.
        dataset_dir: files inside this folder are named relative to it.
        output_dir: where the first process writes ``metrics_per_case.csv``, ``metrics_per_structure.csv``,
            ``metrics_summary.json``, ``metrics_table.md`` and ``dice_by_region.png`` at the end of every run; None
            writes nothing.
        empty_rule: "all", the challenge's: every region has Dice and HD95 where a mask is empty; "et": that region
            alone, as in the S2CA-Net paper's released evaluation.
        surface: compute HD95; off makes a validation during training cheap.
        lesion_wise: compute the lesion-wise scores of BraTS 2023 too.
        dilations: of the reference, before its lesions are told apart.
        min_volume: in mm³; smaller lesions do not count lesion-wise.
        resamples: of the bootstrap that gives the confidence intervals.
        seed: of the bootstrap.

    Raises:
        InputError: for a value that is not among those named.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda output: output,
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
        empty_rule: str = "all",
        surface: bool = True,
        lesion_wise: bool = False,
        dilations: int = 3,
        min_volume: float = 50.0,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        if resamples < 1:
            raise InputError(f"resamples is {resamples}; give 1 or more, the more the steadier (2000 is usual)")
        self.bootstrap = {"resamples": resamples, "seed": seed}
        metric = TumourMetric(dataset_dir, empty_rule, surface, lesion_wise, dilations, min_volume)
        self.empty_rule = empty_rule
        self.notes = {key: value for key, value in metric.options.items() if key in ("dilations", "min_volume")}
        super().__init__(metric, output_transform, output_dir)

    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return the means of all that is averaged, and log which of them leave cases out."""
        return logged_means(cases, {key: key for key in averaged_keys(cases)})

    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""
        write_tumour_reports(cases, folder, self.empty_rule, **self.bootstrap, **self.notes)
