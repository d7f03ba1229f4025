# SPDX-License-Identifier: Apache-2.0
"""The options with which a model was trained, put into the configurations that go with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from custom_nets.bundle_configs import ARGUMENT, OF_A_RUN, Configs, read_configs, takes
from custom_nets.config_linter.stage_rules import STAGES_OF
from custom_nets.errors import InputError
from custom_nets.options import options_in

__all__ = ["OF_A_RUN", "Configs", "overlay_options", "read_configs", "with_options"]


def overlay_options(configs: Configs, name: str) -> dict[str, Any]:
    """Return what an overlay says of the model, such as demo.json, with which it was trained.

    Raises:
        InputError: there is no such overlay.
    """
    if name not in configs or _stands_alone(configs[name]):
        overlays = ", ".join(other for other, config in configs.items() if not _stands_alone(config))
        raise InputError(f"overlay '{name}' is unknown: choose one of {overlays}.")
    known = _known(configs)
    return {key: value for key, value in options_in(configs[name]).items() if key in known}


def with_options(configs: Configs, options: Mapping[str, Any]) -> Configs:
    """Return the configurations with the options of a model in each that stands alone and has them.

    Where the stages of a network are trained one by one, a stage's training may call an option of the whole network
    otherwise, see `STAGES_OF`: it gets the value under its own name. ``network_def::NAME`` is the network's argument.

    Raises:
        InputError: for an option that no configuration has, or that is one of a run and not of a model.
    """
    known = _known(configs)
    arguments = {key.removeprefix(ARGUMENT): options[key] for key in options if key.startswith(ARGUMENT)}
    _require_arguments(configs, arguments)
    for key in options:
        if key not in known and not key.startswith(ARGUMENT):
            reason = "is not of a model but of a run" if key in OF_A_RUN else "is no option of this bundle"
            close = difflib.get_close_matches(key, known, n=1)
            raise InputError(f"--{key}: {reason}{f'; did you mean --{close[0]}?' if close else '.'}")
    whole = str(configs["inference"]["network_def"]["_target_"])
    return {
        name: {**config, **_own(whole, config, options), **_network(config, arguments)}
        for name, config in configs.items()
    }


def _network(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The network's definition with those of the arguments that it takes, where it stands alone."""
    if not _stands_alone(config) or not arguments:
        return {}
    definition = config["network_def"]
    return {"network_def": {**definition, **{key: arguments[key] for key in arguments if takes(definition, key)}}}


def _require_arguments(configs: Configs, arguments: Mapping[str, Any]) -> None:
    for key in arguments:
        if not takes(configs["inference"]["network_def"], key):
            target = configs["inference"]["network_def"]["_target_"]
            raise InputError(f"--{ARGUMENT}{key}: {target} takes no such argument.")


def _own(whole: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    if not _stands_alone(config):
        return {}
    stage = STAGES_OF.get(whole, {}).get(str(config["network_def"]["_target_"]))
    renamed = {key: key for key in config} | (dict(stage.renamed) if stage else {})
    return {key: options[renamed[key]] for key in config if renamed[key] in options}


def _known(configs: Configs) -> set[str]:
    """Options of a model that one of the configurations has."""
    alone = [config for config in configs.values() if _stands_alone(config)]
    return {key for config in alone for key in options_in(config)} - OF_A_RUN


def _stands_alone(config: Mapping[str, Any]) -> bool:
    return "network_def" in config
