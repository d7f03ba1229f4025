# SPDX-License-Identifier: Apache-2.0
"""What an evaluation scored: which weights on which list of cases, beside its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import torch
from ignite.engine import Engine, Events

from custom_nets.checkpoints import weights_digest
from custom_nets.files import write_json

#: Name of the record in an evaluation's folder.
EVALUATION = "evaluation.json"


class EvaluationRecord:
    """Handler of an evaluator: writes ``evaluation.json``, from which an export knows whether scores are its weights'.

    The first process writes ``{"weights": SHA-256, "section": ..., "cases": ..., "options": {...}, "versions": {...}}``
    at the end of a run; see :func:`~custom_nets.checkpoints.weights_digest`.

    Args:
        output_dir: of the evaluation, where its tables lie.
        section: of the data list that is scored.
        options: of the run; those that are JSON are written.
        labels: names of the labels by their values in the files, where the data decide them.
    """

    def __init__(
        self,
        output_dir: str | Path,
        section: str,
        options: Mapping[str, Any] | None = None,
        labels: Mapping[int, str] | None = None,
    ) -> None:
        self.path = Path(output_dir) / EVALUATION
        self.section = section
        self.options = {key: value for key, value in (options or {}).items() if _is_json(value)}
        self.labels = {} if labels is None else {"labels": {str(value): name for value, name in labels.items()}}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Write the record."""
        record = {
            "weights": weights_digest(engine.network),
            "section": self.section,
            "cases": len(engine.data_loader.dataset),
            "options": self.options,
            **self.labels,
            "versions": {"torch": torch.__version__, "monai": monai.__version__},
        }
        write_json(self.path, record)


def _is_json(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return all(part is None or isinstance(part, bool | int | float | str) for part in parts)
