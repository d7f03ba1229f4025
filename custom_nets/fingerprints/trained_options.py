# SPDX-License-Identifier: Apache-2.0
"""With which options of a bundle a model was trained, so that it can be run without naming them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.bundle_configs import ARGUMENT, OF_A_RUN, RENAMED, Configs, read_configs, takes
from custom_nets.datasets.label_table import read_label_table
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.label_graphs.reading import DEFAULT, label_graph_of, read_label_graph
from custom_nets.options import options_in
from custom_nets.registry import bundle

_TABLE, _GRAPH = "label_table", "label_graph"
#: Options that both a training and an inference have and that are each one's own choice.
_OF_A_CHOICE = {
    *("amp", "amp_dtype", "overlap", "sw_batch_size", "tta", "flips", "stages", "separate_folder"),
    *("pictures", "picture_channel", "pictured_labels", "reorder_channels"),
}


def trained_options(name: str, options: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a training that the bundle's inference does not have by default, under its names for them.

    Args:
        name: of the bundle.
        options: all of the training.
        network: its ``network_def``, as configured; it tells which stage of a network of stages is trained. Arguments
            that no option sets are given as "network_def::NAME".

    Returns:
        Values as JSON has them. "label_table" and "label_graph" are the labels themselves.

    Raises:
        InputError: a label table or graph cannot be read.
    """
    configs = read_configs(bundle(name).folder)
    inference = configs["inference"]
    default = _default(configs, str(network.get("_target_", "")))
    renamed = RENAMED.get(str(default["network_def"]["_target_"]), {})
    changed = {
        renamed.get(key, key): value
        for key, value in options.items()
        if key in default and _is_plain(default[key]) and _differ(value, default[key])
    }
    found = _of_the_model(inference, changed)
    if _GRAPH in options and _GRAPH in inference:
        found.pop(_GRAPH, None)
        graph = label_graph_of(options["dataset_dir"], options["datalist"], options[_GRAPH]).to_config()
        found |= {_GRAPH: graph} if _differ(graph, read_label_graph(DEFAULT).to_config()) else {}
    return _with_labels(found) | _arguments(inference, default["network_def"], network)


def given_options(name: str, options: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return options of a model by their names in inference.json, as `trained_options`, defaults left out.

    Args:
        name: of the bundle.
        options: with which the model was trained.
        overlays: options of the overlays with which it was trained as well, in this order.

    Raises:
        InputError: for an option that inference.json does not have, or that is none of a model;
            for a label table or graph that cannot be read.
    """
    inference = read_configs(bundle(name).folder)["inference"]
    known = _keys(inference)
    for key in options:
        argument = key.removeprefix(ARGUMENT)
        if not (takes(inference["network_def"], argument) if argument != key else key in known):
            raise InputError(f"--{key}: is no option of a model of {name}: give one of {', '.join(sorted(known))}.")
    for brought in reversed(overlays):
        options = {key: value for key, value in brought.items() if key in known} | dict(options)
    arguments = {key: value for key, value in options.items() if key.startswith(ARGUMENT)}
    plain = {key: value for key, value in options.items() if key not in arguments}
    graph = plain.pop(_GRAPH, DEFAULT)
    found = _with_labels(_of_the_model(inference, plain))
    if str(graph) not in (DEFAULT, "auto"):
        found[_GRAPH] = read_label_graph(graph).to_config()
    return found | _json(arguments)


def with_files(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a fingerprint's options as a configuration takes them: labels are written to files in ``folder``."""
    written = dict(options)
    for name in (_TABLE, _GRAPH):
        if isinstance(options.get(name), Mapping):
            written[name] = str(write_json(folder / f"{name}.json", options[name]))
    return written


def _default(configs: Configs, target: str) -> Mapping[str, Any]:
    """The training of this network with the bundle's own options: train.json's, or a stage's of its own."""
    trainings = [configs["train"], *(config for name, config in configs.items() if name != "inference")]
    alone = [config for config in trainings if "network_def" in config]
    return next((one for one in alone if one["network_def"]["_target_"] == target), configs["train"])


def _keys(inference: Mapping[str, Any]) -> set[str]:
    """Options of inference.json that a model has been trained with."""
    outputs = {key for key in inference if key.startswith("output_")}
    return set(options_in(dict(inference))) - OF_A_RUN - _OF_A_CHOICE - outputs


def _of_the_model(inference: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    known = _keys(inference)
    return _json({key: value for key, value in options.items() if key in known and _differ(value, inference[key])})


def _with_labels(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the label table itself, and the number of labels in it."""
    if not options.get(_TABLE):
        return options
    table = read_label_table(options[_TABLE])
    return {**options, _TABLE: {str(value): name for value, name in table.items()}, "out_channels": len(table)}


def _arguments(inference: Mapping[str, Any], default: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network that were given by ``--network_def::NAME``, of those that the whole network takes."""
    return {
        f"{ARGUMENT}{key}": value
        for key, value in network.items()
        if not key.startswith("_")
        and _is_plain(value)
        and _differ(value, default.get(key))
        and takes(inference["network_def"], key)
    }


def _is_plain(value: Any) -> bool:
    """A value that is neither computed nor another key's."""
    return not (isinstance(value, str) and value[:1] in ("$", "@", "%"))


def _differ(one: Any, other: Any) -> bool:
    return bool(_json(one) != _json(other))


def _json(value: Any) -> Any:
    """The value as it comes back from a file."""
    return json.loads(json.dumps(value, default=str))
