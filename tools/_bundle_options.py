# SPDX-License-Identifier: Apache-2.0
"""The options of a bundle's configurations, for tools that run several of them with one set of options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.options import options_in
from custom_nets.registry import bundle

#: Options that may change when a run is gone on with: they do not change what is computed.
OF_MACHINES = ("device", "num_workers", "cache_rate", "pictures", "picture_channel")


def read_config(name: str, config: str) -> dict[str, Any]:
    """A configuration of a bundle, as it is written."""
    return dict(json.loads(_file(name, config).read_text(encoding="utf-8")))


def option_keys(name: str, workflow: str) -> set[str]:
    """The keys of a bundle's configuration that options may set."""
    return set(options_in(read_config(name, workflow)))


def options_of(name: str, workflow: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the configuration has."""
    keys = option_keys(name, workflow)
    return {key: value for key, value in options.items() if key in keys}


def overlays(name: str, overlay: str | None, optional: bool = False) -> list[str]:
    """The configurations that are laid over a workflow's: one; none without a name, or if an ``optional`` is missing.

    Raises:
        InputError: the bundle has none of that name.
    """
    if overlay is None or (optional and not _file(name, str(overlay)).is_file()):
        return []
    if not _file(name, str(overlay)).is_file():
        raise InputError(f"overlay is {overlay!r}: {_file(name, 'x').parent} has no {overlay}.json")
    return [str(overlay)]


def require_known(name: str, options: Iterable[str], workflows: Iterable[str], refused: Iterable[str] = ()) -> None:
    """Refuse options that none of the workflows has, or that the tool sets itself.

    Raises:
        InputError: naming the first.
    """
    known = {key for workflow in workflows for key in option_keys(name, workflow)} - set(refused)
    for key in options:
        if key not in known:
            raise InputError(f"option --{key} is unknown here: see --help, and `python -m tools.info {name}`")


def _file(name: str, config: str) -> Path:
    return bundle(name).folder / "configs" / f"{config}.json"
