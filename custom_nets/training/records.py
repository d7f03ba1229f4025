# SPDX-License-Identifier: Apache-2.0
"""The table of a run, `metrics.csv`, and its curves."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from custom_nets.blocks.slice_attention import RSABlock
from custom_nets.checkpoints import bare
from custom_nets.figures import learning_curves
from custom_nets.files import write_text

_logger = logging.getLogger(__name__)


def attention_betas(network: nn.Module) -> dict[str, float]:
    """The β of every slice-attention block, by place and direction: they tell whether the block is used at all."""
    return {
        f"beta_{place}_{direction}".replace(".", "_"): float(beta.detach())
        for place, block in bare(network).named_modules()
        if isinstance(block, RSABlock)
        for direction, beta in zip(block.directions, block.betas, strict=True)
    }


class RunRecords:
    """Handler of the trainer: one row an epoch in `metrics.csv`, and `learning_curves.png` drawn from it.

    Columns: epoch, seconds, learning_rate, train_loss (mean over the epoch's batches), every metric of the trainer as
    ``train_<name>`` and of the evaluator as ``val_<name>`` (empty where the epoch was not validated), and what
    ``extra`` returns. Both files are written whole by the first process after every epoch. `RunState` attaches the
    table and keeps its rows.

    Args:
        output_dir: folder of both files.
        optimizer: whose first learning rate is recorded.
        evaluator: whose metrics are recorded.
        extra: called without arguments for more columns, as `attention_betas` of the network.
    """

    def __init__(
        self,
        output_dir: str | Path,
        optimizer: Any,
        evaluator: Any = None,
        extra: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.extra = extra
        self.rows: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._started = 0.0
        self._learning_rate = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the rows of the run that is resumed."""
        self.rows = list(state["rows"])

    def _start(self, engine: Engine) -> None:
        self._losses = []
        self._started = time.perf_counter()
        self._learning_rate = self.optimizer.param_groups[0]["lr"]

    def _note(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._losses.append(float((output[0] if isinstance(output, list) else output)["loss"]))

    def _write(self, engine: Any) -> None:
        row = {
            "epoch": engine.state.epoch,
            "seconds": round(time.perf_counter() - self._started, 3),
            "learning_rate": self._learning_rate,
            "train_loss": sum(self._losses) / len(self._losses),
            **{f"train_{name}": float(value) for name, value in engine.state.metrics.items()},
        }
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            row |= {f"val_{name}": float(value) for name, value in self.evaluator.state.metrics.items()}
        if self.extra is not None:
            row |= self.extra()
        self.rows.append(row)
        if idist.get_world_size() > 1:  # the processes' own words that they agree
            scores = ", ".join(f"{name} {value:.10f}" for name, value in row.items() if name.startswith("val_"))
            _logger.info("process %d, epoch %d: %s", engine.state.rank, engine.state.epoch, scores or "not validated")
        if engine.state.rank == 0:
            self._write_files()

    def _write_files(self) -> None:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        path = write_text(self.output_dir / "metrics.csv", table.getvalue())
        learning_curves(path, self.output_dir / "learning_curves.png")
