# SPDX-License-Identifier: Apache-2.0
"""Lesion-wise metrics inside MONAI: cumulative over batches and processes, and as an Ignite metric for the configs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import ImageMetaKey, string_list_all_gather
from torch import Tensor

from custom_nets.components import neighbourhood
from custom_nets.errors import InputError
from custom_nets.metrics import ROW_KEYS, lesion_metrics, summarise, write_reports

#: Name in ``engine.state.metrics`` -> metric whose mean over cases is stored under it.
PUBLISHED = {
    "voxel_tpr": "tpr",
    "voxel_ppv": "ppv",
    "volume_difference": "volume_difference",
    "lesion_tpr": "ltpr",
    "lesion_ppv": "lppv",
    "lesion_fpr": "lfpr",
}


class LesionMetric(CumulativeIterationMetric):
    """Collect one row of ``custom_nets.metrics.lesion_metrics`` a case; use it as any MONAI metric.

    Takes predictions and references as lists of C x D x H x W or as N x C x D x H x W: integer labels (C = 1, lesion
    where not 0) or one-hot (C > 1, lesion where any channel but the first is set), on one grid. The spacing and
    the case's name come from MONAI's metadata: spacing of the reference, file of the prediction, which is the image's;
    plain tensors count as 1 mm and are numbered.

    Args:
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        dataset_dir: files inside this folder are named relative to it.

    Raises:
        InputError: for another connectivity; when called, for values that are no labels (such as probabilities).
    """

    def __init__(self, connectivity: int = 26, dataset_dir: str | Path | None = None) -> None:
        neighbourhood(connectivity)  # refuse a wrong value before an hour of inference, not after it
        self.connectivity = connectivity
        self.dataset_dir = None if dataset_dir is None else Path(dataset_dir).resolve()
        self._names: list[str] = []
        self._cases: list[dict[str, Any]] | None = None
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self._names, self._cases = [], None

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise InputError("lesion metrics need a reference label for every case; the datalist gives none")
        rows = []
        for prediction, reference in zip(y_pred, y, strict=True):
            masks = (_lesion_mask(prediction), _lesion_mask(reference))
            row = lesion_metrics(*masks, spacing=_spacing(reference), connectivity=self.connectivity)
            rows.append([row[key] for key in ROW_KEYS])
            self._names.append(self._name(prediction))
        self._cases = None
        return torch.tensor(rows, dtype=torch.float64)

    def _name(self, image: Tensor) -> str:
        name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else None
        if not name:
            return f"rank{idist.get_rank()}_case{len(self._names)}"
        path = Path(str(name)).resolve()
        if self.dataset_dir is not None and path.is_relative_to(self.dataset_dir):
            return path.relative_to(self.dataset_dir).as_posix()
        return str(name)

    def cases(self) -> list[dict[str, Any]]:
        """Return the rows of all processes, each with the name of its ``case``; every process must call this."""
        if self._cases is None:
            values = self.get_buffer()
            names = string_list_all_gather(self._names) if idist.get_world_size() > 1 else self._names
            rows = [] if values is None else values.cpu().tolist()
            self._cases = [
                {"case": name, **dict(zip(ROW_KEYS, row, strict=True))} for name, row in zip(names, rows, strict=True)
            ]
        return self._cases

    def aggregate(self) -> float:
        """Return the mean lesion-wise F1 over cases; every process must call this."""
        return float(summarise(self.cases())["metrics"]["lf1"]["mean"])


class LesionMetrics(IgniteMetricHandler):
    """Lesion-wise F1 of an evaluator, with its companions, and the tables of an evaluation run.

    Attached under a name (``lesion_f1``), it stores the mean lesion-wise F1 over cases in ``engine.state.metrics``
    under that name, and the means of ``PUBLISHED`` beside it. MONAI's `MetricsSaver` cannot write the tables: it names
    every column ``class0`` …, averages infinities and writes in place.

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
        self.output_dir = output_dir
        self.lesion_metric = LesionMetric(connectivity, dataset_dir)
        super().__init__(metric_fn=self.lesion_metric, output_transform=output_transform, save_details=False)

    def completed(self, engine: Engine, name: str) -> None:
        """Store the means in ``engine.state.metrics`` and write the tables."""
        super().completed(engine, name)
        cases = self.lesion_metric.cases()
        means = summarise(cases)["metrics"]
        engine.state.metrics.update(
            {published: means[key]["mean"] for published, key in PUBLISHED.items() if means[key]["mean"] is not None}
        )
        if self.output_dir is not None and idist.get_rank() == 0:
            write_reports(cases, self.output_dir)


def _lesion_mask(label: Tensor) -> Any:
    """C x D x H x W, labels or one-hot -> D x H x W, boolean NumPy array."""
    plain = label.as_tensor() if isinstance(label, MetaTensor) else label
    if plain.is_floating_point() and not torch.equal(plain, plain.round()):
        raise InputError("lesion metrics take labels but got fractions; put a threshold or argmax before them")
    foreground = plain[1:] if plain.shape[0] > 1 else plain
    return (foreground != 0).any(dim=0).cpu().numpy()


def _spacing(image: Tensor) -> tuple[float, ...]:
    """Voxel size in mm; 1 mm without metadata."""
    return tuple(affine_to_spacing(image.affine).tolist()) if isinstance(image, MetaTensor) else (1.0, 1.0, 1.0)
