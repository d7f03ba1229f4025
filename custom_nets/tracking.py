# SPDX-License-Identifier: Apache-2.0
"""MONAI's experiment tracking, ``--tracking mlflow``: what it needs, and what MONAI 1.6.1 leaves out of it."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_HANDLERS_ID, DEFAULT_MLFLOW_SETTINGS
from monai.handlers import MLFlowHandler
from monai.utils import path_to_uri

from custom_nets.errors import InputError

_PLACES: dict[str, dict[str, str]] = DEFAULT_HANDLERS_ID
_SETTINGS: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS
_LOCAL = _SETTINGS["configs"]["tracking_uri"]


class TrainingTracking(MLFlowHandler):
    """MONAI's handler for a trainer, whose metrics get names that begin with ``train_``, as in the table of the run."""

    def epoch_completed(self, engine: Engine) -> None:
        """Log the trainer's metrics of this epoch."""
        metrics = {f"train_{name}": value for name, value in engine.state.metrics.items()}
        if metrics:
            self._log_metrics(metrics, step=engine.state.epoch)


def prepare_tracking(parser: ConfigParser, workflow: str, resumed: bool = False) -> None:
    """Complete the tracking that MONAI has added to a configuration; nothing happens in one without.

    MONAI hangs an ``MLFlowHandler`` behind the handlers of trainer and evaluator. In MONAI 1.6.1 (``ConfigWorkflow``,
    ``DEFAULT_MLFLOW_SETTINGS``)

    * the executed configuration is written, but does not become an artifact of the run where ``output_dir`` is a plain
      text, as from a command line: its path is composed as if ``output_dir`` were an expression;
    * the run of a bundle's evaluate.json, whose evaluator is the validator of a training, gets no configuration and
      stays open, so that the next run goes on in it;
    * metrics of the trainer have the names of the validation's: see :class:`TrainingTracking`;
    * artifacts go astray where ``output_dir`` has a space: its path is quoted twice;
    * a run without a name goes on in whatever run is open in the experiment. That is right for a resumed training, else
      it mixes runs: here a run gets the name of its workflow and the time, such as ``train_20261122_101500``.

    Args:
        parser: of the running configuration, parsed, its handlers not yet built.
        workflow: "train", "evaluate" or "inference".
        resumed: whether a training goes on from a checkpoint.

    Raises:
        InputError: the package mlflow is missing.
    """
    handlers = list(_tracking_handlers(parser))
    if not handlers:
        return
    if importlib.util.find_spec("mlflow") is None:
        raise InputError(
            "--tracking mlflow needs the package mlflow, which is not installed: "
            "pip install mlflow, or leave --tracking out."
        )
    output_dir, composed = str(parser.get("output_dir")), str(parser.get("save_execute_config"))
    if composed.startswith(f"{output_dir} + ") and not output_dir.startswith("$"):
        _set(parser, "save_execute_config", output_dir + composed.removeprefix(f"{output_dir} + ").strip("'"))
    changes: dict[str, Any] = {}
    if parser.get("tracking_uri") == _LOCAL and not os.environ.get("MLFLOW_TRACKING_URI"):
        changes["artifact_location"] = path_to_uri(Path(parser.get_parsed_content("output_dir")) / "mlruns")
    if workflow == "evaluate":
        changes |= {"artifacts": "@save_execute_config", "close_on_complete": True}
    for id in handlers:
        own = {"_target_": "custom_nets.tracking.TrainingTracking"} if id.startswith("train::") else {}
        _set(parser, id, {**parser[id], **changes, **own})
    if parser.get("run_name", "") is None and not resumed:
        _set(parser, "run_name", f"{workflow}_{time.strftime('%Y%m%d_%H%M%S')}")


def _tracking_handlers(parser: ConfigParser) -> Iterator[str]:
    """Ids of the handlers that MONAI has added."""
    for place in _PLACES.values():
        id = place["handlers"].replace("#", "::")
        for number, handler in enumerate(parser.get(id) or []):
            if handler["_target_"] == "MLFlowHandler":
                yield f"{id}::{number}"


def _set(parser: ConfigParser, id: str, config: Any) -> None:
    """Change an item of a configuration that is being run: to set it in the parser would forget what is built."""
    item = parser.ref_resolver.get_item(id)
    assert item is not None
    item.update_config(config)
