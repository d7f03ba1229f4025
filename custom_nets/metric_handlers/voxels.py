# SPDX-License-Identifier: Apache-2.0
"""The voxel report of an epoch inside MONAI: what the 3D-ResU-Net paper's released training prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor

from custom_nets.metric_handlers.collecting import required
from custom_nets.metrics import VoxelReport, voxel_sums

#: Name in ``engine.state.metrics`` -> value of the report.
VOXEL_PUBLISHED = {
    "soft_dice": "soft_dice",
    "voxel_tpr": "tpr",
    "voxel_precision": "precision",
    "voxel_accuracy": "accuracy",
}


class VoxelMetric(CumulativeIterationMetric):
    """Add up one `VoxelReport` over all that is fed; use it as any MONAI metric.

    Takes network outputs and references as lists of C x D x H x W or as N x C x D x H x W, of one shape. Nothing waits
    for the device until the report is asked for.

    Args:
        threshold: a voxel is predicted as lesion when its probability is strictly above.
        sigmoid: the outputs are logits; probabilities otherwise.
    """

    def __init__(self, threshold: float = 0.5, sigmoid: bool = True) -> None:
        super().__init__()
        self.threshold = threshold
        self.sigmoid = sigmoid

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        predictions, labels = (convert_to_tensor(value, track_meta=False) for value in (y_pred, required(y)))
        probabilities = torch.sigmoid(predictions.float()) if self.sigmoid else predictions
        return torch.stack([voxel_sums(*pair, self.threshold) for pair in zip(probabilities, labels, strict=True)])

    def report(self) -> VoxelReport:
        """Return the report on the voxels of all processes; every process must call this."""
        sums = self.get_buffer()
        return VoxelReport() if sums is None else VoxelReport.of_sums(sums.sum(dim=0))

    def aggregate(self) -> float:
        """Return hard Dice over all voxels; every process must call this."""
        return self.report().hard_dice


class VoxelMetrics(IgniteMetricHandler):
    """Pooled Dice of an epoch with its companions, of a trainer's or an evaluator's network outputs.

    Attached under a name (``micro_dice``), it stores hard Dice over all voxels of the epoch in
    ``engine.state.metrics`` under that name, and ``VOXEL_PUBLISHED`` beside it.

    Args:
        output_transform: takes ``engine.state.output`` to (outputs, references), for example
            ``monai.handlers.from_engine(["pred", "label"])``.
        threshold: a voxel is predicted as lesion when its probability is strictly above.
        sigmoid: the outputs are logits; probabilities otherwise.
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = lambda output: output,
        threshold: float = 0.5,
        sigmoid: bool = True,
    ) -> None:
        self.voxel_metric = VoxelMetric(threshold, sigmoid)
        super().__init__(metric_fn=self.voxel_metric, output_transform=output_transform, save_details=False)

    def completed(self, engine: Engine, name: str) -> None:
        """Store the values in ``engine.state.metrics``."""
        super().completed(engine, name)
        values = self.voxel_metric.report().as_dict()
        engine.state.metrics.update({published: values[key] for published, key in VOXEL_PUBLISHED.items()})
