# SPDX-License-Identifier: Apache-2.0
"""Weights of SpineParseNet: of both stages in one file, or of each stage in its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from custom_nets.checkpoints import StateDict, bare, load_weights, read_checkpoint, require_same, save_weights, unwrap
from custom_nets.errors import InputError

_logger = logging.getLogger(__name__)
_FIRST, _SECOND = "coarse.", "refinement."


def load_stages(network: Any, checkpoint: str | Path, refinement_checkpoint: str | Path | None = None) -> None:
    """Load what the stages of ``network`` need.

    Args:
        network: `SpineParseNet`, changed in place; or one without stages, which gets all of ``checkpoint``.
        checkpoint: of both stages (entries "coarse.…" and "refinement.…"), or of the first stage alone.
        refinement_checkpoint: of the second stage alone, in place of what ``checkpoint`` has of it. Without it and
            where that has none, refine/model.pt beside ``checkpoint``, where refine.json puts it.

    Raises:
        InputError: for a file that cannot be read or is of another network, or a second stage that is nowhere.
    """
    if not hasattr(network, "refinement"):
        load_weights(network, checkpoint)
        return
    content: StateDict = {}
    if network.coarse is not None or not refinement_checkpoint:
        content = unwrap(read_checkpoint(checkpoint), str(checkpoint))
    second = _part(content, _SECOND)
    if network.coarse is not None:
        _load(network.coarse, _part(content, _FIRST) or content, checkpoint)
    if network.refinement is None:
        return
    if second and not refinement_checkpoint:
        _load(network.refinement, second, checkpoint)
        return
    file = Path(refinement_checkpoint or Path(checkpoint).parent / "refine" / "model.pt")
    if not refinement_checkpoint and not file.is_file():
        raise InputError(
            f"{checkpoint}: holds the first stage alone, and {file} is not there: train the second stage with "
            "refine.json, name its model with --refinement_checkpoint FILE, or give --stages coarse."
        )
    load_weights(network.refinement, file)


def _part(content: StateDict, prefix: str) -> StateDict:
    return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}


def _load(network: Any, state_dict: StateDict, source: str | Path) -> None:
    require_same(state_dict, network.state_dict(), str(source), type(network).__name__)
    network.load_state_dict(state_dict)
    _logger.info("%s: all %d entries of %s match", source, len(state_dict), type(network).__name__)


def join_stages(coarse: str | Path, refinement: str | Path, path: str | Path) -> None:
    """Write the weights of both stages into one file.

    Raises:
        InputError: for a file that cannot be read.
    """
    stages = ((_FIRST, coarse), (_SECOND, refinement))
    save_weights(
        {
            prefix + name: value
            for prefix, file in stages
            for name, value in unwrap(read_checkpoint(file), str(file)).items()
        },
        path,
    )


class FirstStageFile:
    """Where a training of the first stage starts from a file of both stages, the weights go back into such a file.

    MONAI Label trains the model that it serves: it hands all entries of its file to the network in training, and goes
    on with the file that the training writes. The network takes its own of the entries, and this writes the others as
    they were. A training that starts from anything else writes the first stage alone.

    Args:
        network: `GCSN` in training.
    """

    def __init__(self, network: nn.Module) -> None:
        self._prefix = ""
        self._others: StateDict = {}
        bare(network).register_load_state_dict_pre_hook(self._take_first_stage)

    def __call__(self, state_dict: StateDict, path: str | Path) -> None:
        """Write the weights of the first stage, whole or not at all."""
        save_weights({**{self._prefix + name: value for name, value in state_dict.items()}, **self._others}, path)

    def _take_first_stage(self, network: nn.Module, state_dict: StateDict, prefix: str, *_: Any) -> None:
        own = _part(state_dict, _FIRST)
        self._prefix = _FIRST if own else ""
        self._others = {name: state_dict[name] for name in state_dict if own and not name.startswith(_FIRST)}
        if own:
            state_dict.clear()
            state_dict.update(own)


def first_stage_of(checkpoint: str | Path) -> StateDict:
    """Return the state dict of the first stage in a file of both stages or of the first one alone.

    Raises:
        InputError: for a file that cannot be read.
    """
    content = unwrap(read_checkpoint(checkpoint), str(checkpoint))
    return _part(content, _FIRST) or content


def pretrained_if_there(path: str) -> str | None:
    """Return ``path`` if a file is there; else None, and say that the training starts from random weights."""
    if Path(path).is_file():
        return path
    _logger.warning("%s is not there: training starts from random weights; pretrain.json makes that file", path)
    return None
