# SPDX-License-Identifier: Apache-2.0
"""Rules about components: that they exist, take the arguments given, and have the form that MONAI needs."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator
from functools import cache
from typing import Any

from monai.bundle import ComponentLocator
from monai.bundle.config_item import ConfigComponent

from custom_nets.config_linter.reading import Config, Finding, nodes_of

#: Component -> what to use in its place, and why.
_REPLACED = {"Spacingd": "custom_nets.transforms.SafeSpacingd: MONAI 1.6's own breaks MONAI Label"}
_HANDLERS = ("handlers", "train::handlers", "validate::handlers")


def targets_exist(config: Config) -> Iterator[Finding]:
    """Every `_target_`, and every string that names something of custom_nets, can be imported."""
    for key, value in config.nodes():
        is_target = key.rpartition("::")[2] == "_target_"
        if isinstance(value, str) and (is_target or value.startswith("custom_nets.")) and value[:1] not in "$@%":
            _, error = _component(value)
            if error:
                yield config.finding(key, f"'{value}' {error}", "correct the name")


def targets_are_the_mended_ones(config: Config) -> Iterator[Finding]:
    """Components that are known to fail are not used."""
    for key, _, target, _ in _components(config):
        if target in _REPLACED:
            yield config.finding(key, f"'{target}' is not used here", f"use {_REPLACED[target]}")


def arguments_exist(config: Config) -> Iterator[Finding]:
    """A component gets no argument that it does not know, and all that it needs."""
    for key, given, target, component in _components(config):
        parameters = _parameters(component)
        names = set(given) - set(ConfigComponent.non_arg_keys)
        kinds = {parameter.kind for parameter in parameters.values()}
        if not parameters:
            continue
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            for name in sorted(names - set(parameters)):
                remedy = f"choose from {', '.join(parameters)}"
                yield config.finding(f"{key}::{name}", f"'{target}' has no such argument", remedy)
        if given.get("_mode_", "default") == "default":
            for name in sorted(_needed(parameters) - names):
                yield config.finding(key, f"'{target}' needs '{name}'", "add it")


def handlers_are_literal_lists(config: Config) -> Iterator[Finding]:
    """Handlers are lists of components written out: MONAI's checks and MONAI Label read them."""
    for name in _HANDLERS:
        for key, value in config.nodes():
            if key == name and (not isinstance(value, list) or not all(isinstance(one, dict) for one in value)):
                yield config.finding(key, "is no literal list of components", "write the components into the list")


def validation_follows_val_interval(config: Config) -> Iterator[Finding]:
    """The ValidationHandler's interval is @val_interval: MONAI's check of properties stops at a number."""
    for key, given, target, _ in _components(config):
        if target == "ValidationHandler" and given.get("interval") != "@val_interval":
            yield config.finding(f"{key}::interval", f"is {given.get('interval')!r}", "write '@val_interval'")


def key_metrics_are_referred_to(config: Config) -> Iterator[Finding]:
    """A trainer's and an evaluator's key metric is a reference: MONAI's check of properties stops at a component."""
    for key, given, _, _ in _components(config):
        for name in ("key_val_metric", "key_train_metric"):
            if isinstance(given.get(name), dict):
                yield config.finding(f"{key}::{name}", "is written inline", "refer to an id, '@validate::key_metric'")


def default_of(target: str, argument: str) -> Any:
    """Return the default of an argument of the component ``target``; None where there is none."""
    parameter = _parameters(_component(target)[0]).get(argument)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _components(config: Config) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """Yield id, content, target and class or function of each component that exists.

    What an overlay changes inside a component of the configuration beneath is that component's, so it comes whole.
    """
    changed = {key for key, _ in config.nodes()}
    for key, value in nodes_of(config.merged):
        target = value.get("_target_") if isinstance(value, dict) else None
        if isinstance(target, str) and (key in changed or any(f"{key}::{name}" in changed for name in value)):
            component, error = _component(target)
            if not error and component is not None:
                yield key, value, target, component


@cache
def _locator() -> ComponentLocator:
    return ComponentLocator()


@cache
def _component(target: str) -> tuple[Any, str]:
    """Look a target up as MONAI does; return it, or None and why not."""
    if target[:1] in ("$", "@", "%"):
        return None, ""
    path = ConfigComponent(config={"_target_": target}, locator=_locator()).resolve_module_name()
    try:
        found = pydoc.locate(path)
    except pydoc.ErrorDuringImport as error:
        return None, f"fails when it is imported ({error.value!r})"
    return found, "" if found is not None else "does not exist"


@cache
def _parameters(component: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(component).parameters)
    except (TypeError, ValueError):  # made of C: tells nothing
        return {}


def _needed(parameters: dict[str, inspect.Parameter]) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    empty = inspect.Parameter.empty
    return {name for name, one in parameters.items() if one.kind in named and one.default is empty}


CONFIG_RULES = (
    targets_exist,
    targets_are_the_mended_ones,
    arguments_exist,
    handlers_are_literal_lists,
    validation_follows_val_interval,
    key_metrics_are_referred_to,
)
