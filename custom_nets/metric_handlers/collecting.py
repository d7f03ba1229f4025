# SPDX-License-Identifier: Apache-2.0
"""What the metrics of whole cases share: rows collected over batches and processes, means published, tables written."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import ImageMetaKey, convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from custom_nets.components import neighbourhood
from custom_nets.errors import InputError
from custom_nets.metrics.statistics import left_out_note, mean_and_deviation

_logger = logging.getLogger(__name__)


class CaseMetric(CumulativeIterationMetric):
    """Collect rows of numbers, one or more a case; use it as any MONAI metric.

    Takes predictions and references as lists of C x D x H x W or as N x C x D x H x W, on one grid. The spacing and
    the case's name come from MONAI's metadata: spacing of the reference, file of the prediction, which is the image's;
    plain tensors count as 1 mm and are numbered.

    Args:
        dataset_dir: files inside this folder are named relative to it.
    """

    def __init__(self, dataset_dir: str | Path | None = None) -> None:
        self.dataset_dir = None if dataset_dir is None else Path(dataset_dir).resolve()
        self._own: list[dict[str, Any]] = []
        self._number = 0
        self._cases: list[dict[str, Any]] | None = None
        super().__init__()

    @abstractmethod
    def rows(self, prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """Return the rows of a case: label maps of C x D x H x W, voxel size in mm; as many rows for every case."""

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self._own, self._number, self._cases = [], 0, None

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        numbers = []
        for prediction, reference in zip(y_pred, required(y), strict=True):
            rows = self.rows(prediction, reference, _spacing(reference))
            numbers.append([value for row in rows for value in row.values() if not isinstance(value, str)])
            self._own += [{"case": self._name(prediction), **row} for row in rows]
            self._number += 1
        self._cases = None
        return torch.tensor(numbers, dtype=torch.float64)

    def _name(self, image: Tensor) -> str:
        return file_in_dataset(image, self.dataset_dir) or f"rank{idist.get_rank()}_case{self._number}"

    def cases(self) -> list[dict[str, Any]]:
        """Return the rows of all cases and processes, each with the name of its ``case``; every process must call this.

        Processes may hold different numbers of cases, even none.
        """
        if self._cases is None:
            self._cases = of_all_processes(self._own)
        return self._cases


class MaskMetric(CaseMetric):
    """A `CaseMetric` of one row a case, from two lesion masks.

    The masks are integer labels (C = 1, lesion where not 0) or one-hot (C > 1, lesion where any channel but the first
    is set).

    Args:
        connectivity: neighbours that make two voxels one lesion: 6, 18 or 26.
        dataset_dir: files inside this folder are named relative to it.

    Raises:
        InputError: for another connectivity; when called, for values that are no labels (such as probabilities).
    """

    def __init__(self, connectivity: int = 26, dataset_dir: str | Path | None = None) -> None:
        neighbourhood(connectivity)  # refuse a wrong value before an hour of inference, not after it
        self.connectivity = connectivity
        super().__init__(dataset_dir)

    @abstractmethod
    def compare(
        self, prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
    ) -> dict[str, float]:
        """Return the row of a case: masks of D x H x W, voxel size in mm."""

    def rows(self, prediction: Tensor, reference: Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """Return the row of a case: label maps of C x D x H x W, voxel size in mm."""
        return [self.compare(_lesion_mask(prediction), _lesion_mask(reference), spacing)]


class CaseMetrics(IgniteMetricHandler):
    """A `CaseMetric` in an evaluator: stores means in ``engine.state.metrics``, writes tables at the end of every run.

    MONAI's `MetricsSaver` cannot write the tables: it names every column ``class0`` …, averages infinities and writes
    in place.

    Args:
        metric: collects the rows.
        output_transform: takes ``engine.state.output`` to (predictions, references), for example
            ``monai.handlers.from_engine(["pred", "label"])``.
        output_dir: folder of the tables, which the first process writes; None writes nothing.
    """

    def __init__(
        self, metric: CaseMetric, output_transform: Callable[[Any], Any], output_dir: str | Path | None
    ) -> None:
        self.metric = metric
        self.output_dir = output_dir
        super().__init__(metric_fn=metric, output_transform=output_transform, save_details=False)

    @abstractmethod
    def means(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return what is stored beside the metric itself, by name; None is what does not exist this time."""

    @abstractmethod
    def write(self, cases: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
        """Write the tables of the run."""

    def completed(self, engine: Engine, name: str) -> None:
        """Store the means in ``engine.state.metrics`` and write the tables."""
        super().completed(engine, name)
        cases = self.metric.cases()
        for published, mean in self.means(cases).items():
            if mean is None:
                engine.state.metrics.pop(published, None)  # that of an earlier validation
            else:
                engine.state.metrics[published] = mean
        if self.output_dir is not None and idist.get_rank() == 0:
            self.write(cases, self.output_dir)


def of_all_processes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all processes, in their order; every process must call this, with any number of rows."""
    shares = [rows]
    if idist.get_world_size() > 1:
        shares = [[] for _ in range(idist.get_world_size())]
        dist.all_gather_object(shares, rows)
    return [row for share in shares for row in share]


def file_in_dataset(image: Any, dataset_dir: Path | None) -> str:
    """Return an image's file, relative to a resolved folder if it is inside, empty where no file is known."""
    name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else None
    path = Path(str(name)).resolve()
    if name and dataset_dir is not None and path.is_relative_to(dataset_dir):
        return path.relative_to(dataset_dir).as_posix()
    return str(name or "")


def logged_means(cases: Sequence[Mapping[str, Any]], published: Mapping[str, str]) -> dict[str, float | None]:
    """Average rows over cases, and log for which metrics cases are left out because a mask is empty.

    Args:
        cases: at least one row.
        published: name -> key of the row whose mean is returned under it.

    Returns:
        The mean of the finite values under each name; None without one.
    """
    metrics = {key: mean_and_deviation([row[key] for row in cases]) for key in published.values()}
    note = left_out_note(metrics, len(cases))
    if note and idist.get_rank() == 0:
        _logger.warning(note)
    return {name: metrics[key]["mean"] for name, key in published.items()}


def chosen_first(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an evaluator's metrics with the one of that name in front, by which MONAI picks the best model.

    Raises:
        InputError: for another name.
    """
    if name not in metrics:
        raise InputError(f"select_by is {name!r}: choose one of {', '.join(metrics)}")
    return {name: metrics[name], **metrics}


def required(reference: Tensor | None) -> Tensor:
    """Return the reference of a batch.

    Raises:
        InputError: if there is none.
    """
    if reference is None:
        raise InputError("metrics need a reference label for every case; the datalist gives none")
    return reference


def _lesion_mask(label: Tensor) -> NDArray[np.bool_]:
    """C x D x H x W, labels or one-hot -> D x H x W."""
    plain = convert_to_tensor(label, track_meta=False)
    if plain.is_floating_point() and not torch.equal(plain, plain.round()):
        raise InputError("lesion metrics take labels but got fractions; put a threshold or argmax before them")
    foreground = plain[1:] if plain.shape[0] > 1 else plain
    return (foreground != 0).any(dim=0).cpu().numpy()


def _spacing(image: Tensor) -> tuple[float, ...]:
    """Voxel size in mm; 1 mm without metadata."""
    return tuple(affine_to_spacing(image.affine).tolist()) if isinstance(image, MetaTensor) else (1.0, 1.0, 1.0)
