# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose predictions are averaged see the same scans in the same way: their fingerprints agree."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.fingerprints.content import Fingerprint, read_fingerprint

_OF_THE_BUNDLE = "the bundle's own"
_SHOWN_LETTERS = 80


def common_fingerprint(checkpoints: Sequence[Path], given: Mapping[str, Any] | None = None) -> Fingerprint | None:
    """The fingerprint of the first checkpoint, which those of the others have to agree with; None where it has none.

    Args:
        checkpoints: one, or several that are averaged; those without a fingerprint are passed over.
        given: options that the user sets for all of them, so that their trainings' need not be the same;
            "refinement_checkpoint" is where the second stage lies, see :func:`read_fingerprint`.

    Raises:
        InputError: two of them were trained on other modalities or with other options; what
            :func:`read_fingerprint` raises.
    """
    given = given or {}
    read = {path: read_fingerprint(path, given.get("refinement_checkpoint")) for path in checkpoints}
    known = [(path, fingerprint) for path, fingerprint in read.items() if fingerprint is not None]
    for path, other in known[1:]:
        first, fingerprint = known[0]
        here, there = _decisive(fingerprint), _decisive(other)
        for key in (*here, *there):
            one, two = (values.get(key, _OF_THE_BUNDLE) for values in (here, there))
            if one != two and key not in given:
                option = f", or set --{key} for all" if key in {**fingerprint.options, **other.options} else ""
                raise InputError(
                    f"{first}: was trained with {key} {_shown(one)}, and {path} with {_shown(two)}: give checkpoints "
                    f"that were trained alike{option}."
                )
    return read[checkpoints[0]]


def _decisive(fingerprint: Fingerprint) -> dict[str, Any]:
    """What says which network it is, and what it sees."""
    return {"bundle": fingerprint.bundle, "modalities": list(fingerprint.modalities), **fingerprint.options}


def _shown(value: Any) -> str:
    return textwrap.shorten(str(value), _SHOWN_LETTERS)
