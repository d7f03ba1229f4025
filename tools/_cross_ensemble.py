# SPDX-License-Identifier: Apache-2.0
"""The models of all folds in one folder, to be used together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.figures.cross_validation import shown_metrics
from custom_nets.files import file_digest, write_json, written_whole
from custom_nets.registry import bundle
from tools._bundle_options import OF_MACHINES

ENSEMBLE = "ensemble.json"


def write_ensemble(
    folder: Path, name: str, models: Sequence[Path], options: Mapping[str, Any], summary: Mapping[str, Any]
) -> Path:
    """Copy models, and the fingerprints of their training data if there are any, and list them.

    ``ensemble.json``, written last, holds ``{"bundle", "version", "checkpoints": ["fold1/model.pt", ...], "options",
    "scores"}``: the options of inference.json with which the models were trained, and those out-of-fold scores, over
    cases, that the figure shows.

    Args:
        folder: of the ensemble.
        name: of the bundle.
        models: of the folds.
        options: of inference.json; those of the machine are left out.
        summary: of the scores, see `summarise_folds`.

    Returns:
        ``folder``.
    """
    listed = []
    for number, model in enumerate(models, start=1):
        copy = folder / f"fold{number}" / model.name
        for source in (model, model.with_suffix(".fingerprint.json")):
            if source.is_file():
                _copy(source, copy.with_name(source.name))
        listed.append(copy.relative_to(folder).as_posix())
    metrics = summary["metrics"]
    scores = {key: {one: metrics[key][one] for one in ("mean", "std", "n")} for key in shown_metrics(list(metrics))}
    content = {
        "bundle": name,
        "version": bundle(name).version,
        "checkpoints": listed,
        "options": {key: value for key, value in options.items() if key not in OF_MACHINES},
        "scores": scores,
    }
    write_json(folder / ENSEMBLE, content)
    return folder


def _copy(source: Path, destination: Path) -> None:
    if destination.is_file() and file_digest(destination) == file_digest(source):
        return
    with written_whole(destination) as temporary:
        shutil.copyfile(source, temporary)
