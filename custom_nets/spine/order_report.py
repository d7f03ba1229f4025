# SPDX-License-Identifier: Apache-2.0
"""The order check of predicted spines in a workflow: the handler that reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from custom_nets.errors import InputError
from custom_nets.files import write_text
from custom_nets.metric_handlers.collecting import file_in_dataset, of_all_processes
from custom_nets.metrics.reports import cases_csv
from custom_nets.spine.order import Finding
from custom_nets.spine.order_check import FINDINGS_POSTFIX

logger = logging.getLogger(__name__)


class OrderReport:
    """Handler of an evaluator: reports what `OrderCheckd` found in the predictions.

    At the end of a run the first process writes ``order_check.csv``, one line a case: its name, the number of
    ``findings``, and their texts or "ok". A case with findings is logged as a warning as soon as it is there.

    Args:
        output_dir: folder of the table.
        dataset_dir: files inside this folder are named relative to it.
        key: of the label map whose findings are reported.

    Raises:
        InputError: when called, without findings.
    """

    def __init__(self, output_dir: str | Path, dataset_dir: str | Path | None = None, key: str = "pred") -> None:
        self.output_dir = Path(output_dir)
        self.dataset_dir = None if dataset_dir is None else Path(dataset_dir).resolve()
        self.key = key
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Any) -> None:
        checked = f"{self.key}{FINDINGS_POSTFIX}"
        for output in engine.state.output:
            if checked not in output:
                raise InputError(f"OrderReport finds no '{checked}': put OrderCheckd(keys='{self.key}') before it")
            self.add(output[self.key], output[checked])

    def add(self, image: Any, findings: Sequence[Finding]) -> None:
        """Take the findings of one more case, named by its image."""
        name = file_in_dataset(image, self.dataset_dir) or f"rank{idist.get_rank()}_case{len(self._rows)}"
        text = "; ".join(finding.text for finding in findings)
        if findings:
            logger.warning("%s: order along the spine: %s", name, text)
        self._rows.append({"case": name, "findings": len(findings), "order": text or "ok"})

    def _write(self, engine: Engine) -> None:
        rows = of_all_processes(self._rows)
        if rows and idist.get_rank() == 0:
            write_text(self.output_dir / "order_check.csv", cases_csv(rows))
