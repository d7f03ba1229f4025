# SPDX-License-Identifier: Apache-2.0
"""The configuration that is being run: its values, its network, and keys in it that nothing reads."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from torch import nn

from custom_nets.errors import InputError

#: Keys that MONAI itself adds, the latter for its experiment tracking.
_TRACKING: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS
_OF_MONAI = {"_meta_", *_TRACKING["configs"]}


def running_parser() -> ConfigParser | None:
    """Return the parser of the configuration whose expression is the caller; None outside of one.

    MONAI hands an expression the values that it names, but not the configuration: it is found on the stack.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    return None


def built_network(parser: ConfigParser) -> nn.Module:
    """Build ``network_def`` for an examination; what the run builds later is another one, made after its seeding.

    Raises:
        InputError: the network refuses its arguments; in the network's own words.
    """
    given = parser.get("network_def")
    with _built_anew(parser, "network_def"):
        try:
            return parser.get_parsed_content("network_def")
        except Exception as error:
            cause = first_cause(error)
            arguments = {key: value for key, value in given.items() if key != "_target_"}
            raise InputError(
                f"network_def {arguments} cannot be built: {str(cause).rstrip('.')}. "
                "Correct it with --network_def::NAME VALUE."
            ) from error


def require_buildable(parser: ConfigParser, id: str) -> None:
    """Build a component for an examination, as :func:`built_network` the network.

    Raises:
        InputError: the component's own.
    """
    with _built_anew(parser, id):
        try:
            parser.get_parsed_content(id)
        except Exception as error:
            cause = first_cause(error)
            if isinstance(cause, InputError):
                raise cause from error
            raise


@contextmanager
def _built_anew(parser: ConfigParser, id: str) -> Iterator[None]:
    """Build a component once more, and leave what the run has built of it in its place.

    It has where the whole configuration is evaluated at once, as MONAI Label does for 3D Slicer (``run_id`` "").
    """
    resolver = parser.ref_resolver
    of_the_run = resolver.remove_resolved_content(id)
    try:
        yield
    finally:
        resolver.remove_resolved_content(id)
        if of_the_run is not None:
            resolver.resolved_content[id] = of_the_run


def require_known_keys(config: Mapping[str, Any], workflow: Path, overlays: Sequence[Path]) -> None:
    """Refuse plain values that neither the bundle's own configurations know nor anything refers to.

    MONAI adds whatever key it is given, so a misspelt option would be ignored for the length of a training.

    Args:
        config: the whole configuration that is being run; macros are replaced in it.
        workflow: the bundle's own configuration of what is being run.
        overlays: the bundle's files that may lie over it; one serves several workflows, so that it may bring keys of
            another one, with its own values.

    Raises:
        InputError: naming each such key, its value and the key that was probably meant.
    """
    shipped = ConfigParser.load_config_file(workflow)
    known = set(shipped) | {id for id, _ in _values(shipped)}
    brought = [pair for path in overlays for pair in _values(ConfigParser.load_config_file(path))]
    referred = {id for text in _texts(config) for id in ReferenceResolver.match_refs_pattern(text)}
    own = {key: value for key, value in config.items() if key not in _OF_MONAI}
    lost = {
        id: value
        for id, value in _values(own)
        if id not in known and (id, value) not in brought and referred.isdisjoint(_groups(id))
    }
    if lost:
        told = [f"'{id}' ({value!r}){_meant(id, shipped)}" for id, value in lost.items()]
        raise InputError(
            f"unknown option {', '.join(told)}: {workflow} has no such key, and nothing refers to it with '@'."
        )


def first_cause(error: BaseException) -> BaseException:
    """What MONAI's exceptions are wrapped around."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def _values(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Ids and values of all plain entries outside components; expressions may be there to be run by name."""
    for key, value in config.items():
        if isinstance(value, Mapping) and "_target_" not in value:
            yield from _values(value, f"{prefix}{key}::")
        parts = value if isinstance(value, list) else [value]
        if not any(isinstance(part, Mapping | list) or str(part).startswith("$") for part in parts):
            yield prefix + key, value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _groups(id: str) -> set[str]:
    """The id itself and those of the groups around it."""
    places = id.split("::")
    return {"::".join(places[:stop]) for stop in range(1, len(places) + 1)}


def _meant(id: str, keys: Iterable[str]) -> str:
    close = difflib.get_close_matches(id.rsplit("::")[-1], list(keys), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
