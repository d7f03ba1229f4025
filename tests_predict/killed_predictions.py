# SPDX-License-Identifier: Apache-2.0
"""Predictions that are killed (SIGKILL) at exact moments of their second case, each in a process of its own.

``python -m tests_predict.killed_predictions RUNS`` with RUNS, JSON: moment -> words behind `python -m tools.predict`.
The interpreter is started once and forks a process a moment before anything has been computed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import torch

from custom_nets.files import written_whole
from custom_nets.prediction import engines, predictor, records
from tests.killed_runs import forked, kill
from tools._command import run
from tools.predict import main


def in_the_network() -> None:
    route = predictor.Route.__call__
    calls: list[int] = []

    def second(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            self.model.network.register_forward_hook(kill)
        return route(self, *arguments)

    predictor.Route.__call__ = second  # type: ignore[method-assign]


def while_the_label_map_is_written() -> None:
    save = nibabel.save
    calls: list[int] = []

    def half(image: Any, path: Any) -> None:
        save(image, path)
        calls.append(1)
        if len(calls) > 1:
            os.truncate(path, Path(path).stat().st_size // 2)
            kill()

    nibabel.save = half


def before_the_record() -> None:
    write = predictor.write_record
    predictor.write_record = lambda out_dir, record: kill() if record["case"] == "c01" else write(out_dir, record)


def while_the_record_is_written() -> None:
    write = records.write_json

    def half(path: Path, content: Any) -> Path:
        if content["case"] != "c01":
            return write(path, content)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(content)[:100], encoding="utf-8")
            kill()
        raise AssertionError("not reached")

    records.write_json = half


def before_the_tables() -> None:
    engines.write_json = kill


MOMENTS: dict[str, Callable[[], None]] = {
    moment.__name__: moment
    for moment in (
        in_the_network,
        while_the_label_map_is_written,
        before_the_record,
        while_the_record_is_written,
        before_the_tables,
    )
}


def start(moment: str, words: list[str]) -> int:
    """Fork a prediction that kills itself; return how it ended."""

    def predict() -> None:
        MOMENTS[moment]()
        run(main, words)

    return forked(predict)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ended = {moment: start(moment, words) for moment, words in json.loads(sys.argv[1]).items()}
    sys.exit(f"not killed: {ended}" if set(ended.values()) != {-signal.SIGKILL} else 0)
