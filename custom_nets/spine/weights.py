# SPDX-License-Identifier: Apache-2.0
"""Weights of SpineParseNet: of both stages in one file, or of each stage in its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from custom_nets.checkpoints import StateDict, load_weights, read_checkpoint, require_same, save_weights, unwrap
from custom_nets.errors import InputError

_logger = logging.getLogger(__name__)
_FIRST, _SECOND = "coarse.", "refinement."


def load_stages(network: Any, checkpoint: str | Path, refinement_checkpoint: str | Path | None) -> None:
    """Load what the stages of ``network`` need.

    Args:
        network: `SpineParseNet`, changed in place; or one without stages, which gets all of ``checkpoint``.
        checkpoint: of both stages (entries "coarse.…" and "refinement.…"), or of the first stage alone.
        refinement_checkpoint: of the second stage alone; where it is not asked for, not read.

    Raises:
        InputError: for a file that cannot be read or is of another network, or a second stage that is nowhere.
    """
    if not hasattr(network, "refinement"):
        load_weights(network, checkpoint)
        return
    refinement_checkpoint = refinement_checkpoint or None
    content: StateDict = {}
    if network.coarse is not None or refinement_checkpoint is None:
        content = unwrap(read_checkpoint(checkpoint), str(checkpoint))
    both = any(name.startswith(_SECOND) for name in content)
    if both:
        content = {name: value for name, value in content.items() if _wanted(name, network)}
        require_same(content, network.state_dict(), str(checkpoint), "SpineParseNet")
        network.load_state_dict(content)
        return
    if network.coarse is not None:
        load_weights(network.coarse, checkpoint)
    if network.refinement is not None:
        if refinement_checkpoint is None or not Path(refinement_checkpoint).is_file():
            raise InputError(
                f"{checkpoint}: holds the first stage alone, and refinement_checkpoint is '{refinement_checkpoint}', "
                "where no file is: train the second stage with refine.json, or give --stages coarse."
            )
        load_weights(network.refinement, refinement_checkpoint)


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


def first_stage_of(checkpoint: str | Path) -> StateDict:
    """Return the state dict of the first stage in a file of both stages or of the first one alone.

    Raises:
        InputError: for a file that cannot be read.
    """
    content = unwrap(read_checkpoint(checkpoint), str(checkpoint))
    first = {name.removeprefix(_FIRST): value for name, value in content.items() if name.startswith(_FIRST)}
    return first or content


def pretrained_if_there(path: str) -> str | None:
    """Return ``path`` if a file is there; else None, and say that the training starts from random weights."""
    if Path(path).is_file():
        return path
    _logger.warning("%s is not there: training starts from random weights; pretrain.json makes that file", path)
    return None


def _wanted(name: str, network: Any) -> bool:
    stages = ((_FIRST, network.coarse), (_SECOND, network.refinement))
    return not any(stage is None and name.startswith(prefix) for prefix, stage in stages)
