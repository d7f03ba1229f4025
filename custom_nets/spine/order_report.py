# SPDX-License-Identifier: Apache-2.0
"""The order check of predicted spines in a workflow: a transform that checks, a handler that reports."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_nets.errors import InputError
from custom_nets.files import write_text
from custom_nets.label_graphs.graph import LabelGraph, graph_from
from custom_nets.metric_handlers.collecting import file_in_dataset, of_all_processes, single_label_map
from custom_nets.metrics.reports import cases_csv
from custom_nets.spine.order import Finding, order_findings

logger = logging.getLogger(__name__)

#: What the key of a label map's findings ends with.
FINDINGS_POSTFIX = "_order"


class OrderCheckd(MapTransform):
    """Check the order along the spine of label maps of nodes; they stay as they are.

    The findings of :func:`~custom_nets.spine.order.order_findings` are stored beside each label map: those of ``pred``
    as ``pred_order``. It has to stand before the transform that turns nodes into the values of files.

    Args:
        keys: of the label maps, 1 x D x H x W.
        graph: of the nodes, or what :func:`~custom_nets.label_graphs.graph.graph_from` reads.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a graph that does not hold together; when called, for another shape or values.
    """

    def __init__(
        self, keys: KeysCollection, graph: LabelGraph | Mapping[str, Any], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.graph = graph_from(graph)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Store the findings of ``data[key]`` for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            affine = result[key].affine.cpu().numpy() if isinstance(result[key], MetaTensor) else None
            findings = order_findings(single_label_map(result[key]), self.graph, affine)
            result[f"{key}{FINDINGS_POSTFIX}"] = findings
        return result


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
