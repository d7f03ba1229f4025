# SPDX-License-Identifier: Apache-2.0
"""Overlap slice by slice inside MONAI: the metric by which the S2A-Net paper's released training validates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.metric_handlers.collecting import required
from custom_nets.metrics import overlap_counts, slice_dice, slice_iou


class SliceOverlapMetric(CumulativeIterationMetric):
    """Average IoU and Dice of every class over slices, then over classes; use it as any MONAI metric.

    Takes predictions and references as lists of 1 x D x H x W (D slices) or 1 x H x W (one), or as batches of them.
    Nothing waits for the device until the means are asked for.

    Args:
        classes: K, with the background, which is one of the classes averaged.

    Raises:
        InputError: for fewer than two classes; when called, for one-hot maps, other shapes or values out of range.
    """

    def __init__(self, classes: int) -> None:
        if classes < 2:
            raise InputError(f"classes is {classes}; give the number of structures and one for the background")
        self.classes = classes
        super().__init__()

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return torch.stack([self._sums(*pair) for pair in zip(y_pred, required(y), strict=True)])

    def _sums(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Sum of IoU and of Dice over the slices of a case, each class's, and their number: [2K + 1]."""
        slices, true = _slices(prediction), _slices(label)
        counts = overlap_counts(slices, true, self.classes)
        number = counts.reference.new_full((1,), len(true), dtype=torch.float64)
        return torch.cat([slice_iou(counts).sum(0), slice_dice(counts).sum(0), number])

    def means(self) -> tuple[float, float]:
        """Return mean IoU and mean Dice over the slices of all processes, NaN without one; all processes must call."""
        buffer = self.get_buffer()
        if buffer is None:
            return math.nan, math.nan
        sums = buffer.sum(dim=0)
        iou, dice = (sums[:-1].view(2, self.classes).mean(dim=1) / sums[-1]).tolist()
        return iou, dice

    def aggregate(self) -> float:
        """Return mean IoU over the slices of all processes; every process must call this."""
        return self.means()[0]


class SliceIoU(IgniteMetricHandler):
    """Mean IoU over slices and classes of an evaluator, as published; mean Dice beside it.

    Attached under a name (``mean_iou``), it stores mean IoU in ``engine.state.metrics`` under that name, and mean Dice
    under ``slice_dice``. A class absent from a slice and its prediction counts as 0 there: read what
    :func:`custom_nets.metrics.slice_iou` says of such numbers.

    Args:
        output_transform: takes ``engine.state.output`` to (predictions, references), label maps of 1 x D x H x W with
            the slices along D, or of 1 x H x W; for example ``monai.handlers.from_engine(["pred", "label"])``.
        classes: with the background, which is one of the classes averaged.

    Raises:
        InputError: for fewer than two classes.
    """

    def __init__(self, output_transform: Callable[[Any], Any], classes: int) -> None:
        self.slice_metric = SliceOverlapMetric(classes)
        super().__init__(metric_fn=self.slice_metric, output_transform=output_transform, save_details=False)

    def completed(self, engine: Engine, name: str) -> None:
        """Store both means in ``engine.state.metrics``."""
        super().completed(engine, name)
        engine.state.metrics["slice_dice"] = self.slice_metric.means()[1]


def _slices(label: Tensor) -> Tensor:
    """1 x D x H x W or 1 x H x W -> D x H x W."""
    if label.ndim not in (3, 4) or label.shape[0] != 1:
        raise InputError(
            f"a label map of slices is 1 x D x H x W or 1 x H x W but its shape is {tuple(label.shape)};"
            " put an argmax before the metric"
        )
    plain = convert_to_tensor(label, track_meta=False)
    return plain[0] if plain.ndim == 4 else plain
