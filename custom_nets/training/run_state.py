# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run, and exact resume."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn

from custom_nets.checkpoints import StateDict, bare, read_checkpoint, require_same, save_weights
from custom_nets.errors import InputError, stops_with_message
from custom_nets.files import written_whole
from custom_nets.fingerprints.content import fingerprint_path
from custom_nets.fingerprints.recording import TrainingFingerprint
from custom_nets.training.records import RunRecords

_logger = logging.getLogger(__name__)

#: Where a run of this layout of `last.pt` can be resumed.
_FORMAT = 1


def resume_from(resume: bool | str | Path | None, ckpt_dir: str | Path) -> Path | None:
    """Return the file to resume from, or None to start anew.

    Args:
        resume: False or None, True for `last.pt` in ``ckpt_dir`` (also as the words that a command line gives), or a
            file.
        ckpt_dir: folder of the run's checkpoints.
    """
    word = str(resume).lower()
    if word in ("false", "none", "null", ""):
        return None
    return Path(ckpt_dir) / "last.pt" if word == "true" else Path(str(resume))


def read_run(path: Path, network: nn.Module | None = None) -> dict[str, Any]:
    """Read a `last.pt`.

    Args:
        path: the file.
        network: the weights in the file have to be those of such a network; None = they are not compared.

    Raises:
        InputError: the file cannot be read, is another kind of file, or of another network.
    """
    content = read_checkpoint(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path}: is no checkpoint to resume from; give the last.pt of a run, or True for the newest.")
    if network is not None:
        network = bare(network)
        require_same(content["model"], network.state_dict(), str(path), type(network).__name__)
    return content


class RunState:
    """Handler of the trainer: writes `last.pt` and `model.pt` after every epoch, and resumes from `last.pt`.

    `model.pt` holds the weights of the best epoch by the key metric of the evaluator (of the last epoch as long as none
    has been validated), weights only. `last.pt` holds all that the rest of the run depends on: weights, optimiser,
    schedule, gradient scaler, epoch, best score and records. Random states need no place: they follow from seed and
    epoch (`custom_nets.training.reproducible`). Both are written whole or not at all, by the first process, so a run
    that is killed at any moment goes on from its last finished epoch and ends with the same weights, bit for bit on a
    CPU.

    Put it last among the handlers of the trainer: what runs behind it is not in the checkpoint. The records are
    attached with it.

    Args:
        ckpt_dir: folder of both files.
        network: the network in training.
        optimizer: its optimiser.
        lr_scheduler: its schedule.
        records: the table of the run; attached here.
        evaluator: whose key metric picks the best epoch; None = the last epoch is the best.
        resume: see :func:`resume_from`. A run that starts anew keeps the files of an earlier one as `*.previous.pt`; it
            leaves no `last.pt`, so that it is not the earlier run that is resumed if this one ends in its first epoch.
        keep_last: whether `last.pt` is written.
        save: writes weights to `model.pt`, whole or not at all; None = alone, as a bare state dict.
        fingerprint: of the training, written beside the first `model.pt` of this run; until then that of an earlier run
            goes with the earlier run's.
    """

    def __init__(
        self,
        ckpt_dir: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        records: RunRecords,
        evaluator: Any = None,
        resume: bool | str = False,
        keep_last: bool = True,
        save: Callable[[StateDict, Path], None] | None = None,
        fingerprint: TrainingFingerprint | None = None,
    ) -> None:
        self.ckpt_dir = Path(ckpt_dir)
        self.network = network
        self.parts: dict[str, Any] = {"optimizer": optimizer, "lr_scheduler": lr_scheduler, "records": records}
        self.evaluator = evaluator
        self.resume = resume_from(resume, ckpt_dir)
        self.keep_last = keep_last
        self.save_weights = save or save_weights
        self.fingerprint = fingerprint

    @property
    def last(self) -> Path:
        """The file that a run resumes from."""
        return self.ckpt_dir / "last.pt"

    @property
    def best(self) -> Path:
        """The weights to segment with."""
        return self.ckpt_dir / "model.pt"

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        self.parts["records"].attach(engine)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._share_buffers)

    @stops_with_message
    def start(self, engine: Any) -> None:
        """Load the state to go on from, or set the files of an earlier run aside."""
        if engine.state.rank == 0:
            for pattern in (".last.*.pt", ".model.*.pt", ".model.*.fingerprint.json"):
                for leftover in self.ckpt_dir.glob(pattern):
                    leftover.unlink()  # a kill while it was written
        if self.resume:
            self._load(engine, self.resume)
        elif engine.state.rank == 0:
            if self.last.exists():
                self.last.replace(self.last.with_suffix(".previous.pt"))
            if self.best.exists():
                previous = self.best.with_suffix(".previous.pt")
                shutil.copy2(self.best, previous)
                if fingerprint_path(self.best).exists():
                    shutil.copy2(fingerprint_path(self.best), fingerprint_path(previous))

    def save(self, engine: Any) -> None:
        """Write `model.pt` if this epoch is the best so far, then `last.pt`."""
        if engine.state.rank != 0:
            return
        weights = bare(self.network).state_dict()
        if not self._validates() or self.evaluator.state.best_metric_epoch in (-1, engine.state.epoch):
            if self.fingerprint is not None:
                self.fingerprint.write(self.best)
                self.fingerprint = None  # it stays the same
            self.save_weights(weights, self.best)
        if self.keep_last:
            self._save_last(engine, weights)

    def _save_last(self, engine: Any, weights: StateDict) -> None:
        content = {
            "format": _FORMAT,
            "model": weights,
            "epoch": engine.state.epoch,
            "epoch_length": engine.state.epoch_length,
            "scaler": None if engine.scaler is None else engine.scaler.state_dict(),
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        if self._validates():
            content["best_metric"] = float(self.evaluator.state.best_metric)
            content["best_metric_epoch"] = int(self.evaluator.state.best_metric_epoch)
        with written_whole(self.last) as temporary:
            torch.save(content, temporary)

    def _share_buffers(self) -> None:
        """Validate what is saved: running statistics of batch norms are each process's own behind a step."""
        if idist.get_world_size() > 1:
            for buffer in bare(self.network).buffers():
                dist.broadcast(buffer, src=0)

    def _validates(self) -> bool:
        return self.evaluator is not None and self.evaluator.state.epoch_length != 0

    def _load(self, engine: Any, path: Path) -> None:
        content = read_run(path, self.network)
        bare(self.network).load_state_dict(content["model"])
        self.parts["records"].load_state_dict(content["records"])
        self._load_optimiser(content)
        if engine.scaler is not None and content["scaler"]:
            engine.scaler.load_state_dict(content["scaler"])
        engine.state.epoch = content["epoch"]
        engine.state.iteration = content["epoch"] * engine.state.epoch_length
        if self._validates() and "best_metric" in content:
            self.evaluator.state.best_metric = content["best_metric"]
            self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        _logger.info("resumed from %s behind epoch %d of %d", path, content["epoch"], engine.state.max_epochs)

    def _load_optimiser(self, content: Mapping[str, Any]) -> None:
        """Load optimiser and schedule; the schedule of another plan is replayed as this run's options have it.

        PyTorch's schedules restore their options with their state: a run resumed for more epochs would spend them with
        a learning rate of 0.
        """
        optimizer, schedule = self.parts["optimizer"], self.parts["lr_scheduler"]
        rates = [group["lr"] for group in optimizer.param_groups]
        fresh = deepcopy(schedule.state_dict())
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["lr_scheduler"])
        changed = {key: value for key, value in _plan(fresh).items() if _plan(schedule.state_dict()).get(key) != value}
        if not changed:
            return
        _logger.warning("the learning rate follows this run's options, not the resumed one's: %s", changed)
        schedule.load_state_dict(fresh)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a schedule expects the optimiser to step first
            for _ in range(content["lr_scheduler"]["last_epoch"]):  # its steps, be they epochs or iterations
                schedule.step()


def _plan(state: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a schedule, without its progress."""
    return {key: value for key, value in state.items() if not key.startswith("_") and key != "last_epoch"}
