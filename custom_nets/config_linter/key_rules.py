# SPDX-License-Identifier: Apache-2.0
"""Rules about which keys a configuration has: none that is dead, all that are promised, with the form they need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundleProperty, BundlePropertyConfig

from custom_nets.config_linter.reading import BundleFiles, Config, Finding, has, nodes_of, references_in, value_at
from custom_nets.options import MEANINGS, options_in

#: Ids that MONAI runs, or that a host program looks up.
_RUN_IDS = ("imports", "initialize", "run", "training", "evaluating", "finalize", "displayable_configs")

#: Keys that every configuration of a workflow has; other programs are written against them.
PROMISED = {
    "train": (
        *("bundle_root", "dataset_dir", "datalist", "epochs", "val_interval", "batch_size", "patch_size"),
        *("learning_rate", "amp", "amp_dtype", "seed", "num_workers", "ckpt_dir", "output_dir", "resume", "device"),
    ),
    "evaluate": (
        *("bundle_root", "dataset_dir", "datalist", "output_dir", "checkpoint", "patch_size", "overlap", "tta"),
        *("amp", "device"),
    ),
    "inference": (
        *("bundle_root", "dataset_dir", "datalist", "output_dir", "checkpoint", "patch_size", "overlap", "tta"),
        *("amp", "device"),
    ),
}
_BEGINNING = ["$import sys", "$sys.path.append(@bundle_root)"]
#: MONAI Label evaluates all keys where 3D Slicer asks for a training; of a copy of `run` it would train twice.
_TRAINING = ["$@run"]


def keys_are_alive(config: Config) -> Iterator[Finding]:
    """Every id is reached from what MONAI runs or requires; being listed in `options` is not enough."""
    reached = _reached(config)
    own = {key.removeprefix("+") for key in config.own}
    for name in _dead(config.merged, reached):
        if not config.overlay or any(name == key or name.startswith(f"{key}::") for key in own):
            yield config.finding(name, "nothing uses it", "use it or take it out")


def promised_keys_are_there(config: Config) -> Iterator[Finding]:
    """The keys that are promised for every bundle, and the ids that MONAI requires, are there."""
    if not config.overlay:
        for name in (*PROMISED[config.workflow], *_required(config)):
            if not has(config.merged, name):
                yield config.finding(name, "is missing", "add it")


def runs_by_both_names(config: Config) -> Iterator[Finding]:
    """`run` and `training` or `evaluating` are lists, and do the same."""
    if config.overlay and not {"run", "training", "evaluating"} & set(config.own):
        return
    alias = "training" if config.workflow == "train" else "evaluating"
    for name in ("run", alias):
        if not isinstance(config.resolved.get(name), list):
            yield config.finding(name, "is no list of expressions", "write a list, so that it can be run by that name")
    wanted = _TRAINING if alias == "training" else config.resolved.get("run")
    if config.resolved.get(alias) != wanted:
        yield config.finding(alias, "differs from 'run', or copies it", f"write {json.dumps(wanted)}")


def initialize_finds_the_code(config: Config) -> Iterator[Finding]:
    """`initialize` begins with putting the bundle's folder on Python's path, for exported bundles."""
    if "initialize" in config.own or not config.overlay:
        start = config.merged.get("initialize")
        if not isinstance(start, list) or start[:2] != _BEGINNING:
            yield config.finding("initialize", "does not begin with the path", f"begin with {' and '.join(_BEGINNING)}")


def options_are_checked(config: Config) -> Iterator[Finding]:
    """`options` hands each promised key, and only keys that exist, to the checks before a run."""
    options = config.merged.get("options")
    if config.overlay:
        return
    if not isinstance(options, dict):
        yield config.finding("options", "is no mapping", 'list the keys to check, as "epochs": "@epochs"')
        return
    for key, value in options.items():
        if key not in config.merged:
            yield config.finding(f"options::{key}", "there is no such top-level key", "take it out")
        elif value != f"@{key}":
            yield config.finding(f"options::{key}", f"is {value!r}", f"write '@{key}'")
    for key in PROMISED[config.workflow]:
        if key != "bundle_root" and key in config.merged and key not in options:
            yield config.finding(f"options::{key}", "is missing, so its value is not checked", f'add "{key}": "@{key}"')


def options_are_explained(config: Config) -> Iterator[Finding]:
    """Every option has its meaning in the one list that holds for all bundles."""
    for key in options_in(config.own):
        if key not in MEANINGS:
            yield config.finding(key, "has no meaning written down", "add a line to custom_nets/options.py")


def settings_are_options(bundle: BundleFiles) -> Iterator[Finding]:
    """An overlay whose name tells no workflow goes on top of any: it sets options that one of them has, to values."""
    known = {key for config in bundle.standing_alone() for key in options_in(config.own)}
    for name, settings in bundle.settings.items():
        for key, value in settings.items():
            if key not in known:
                remedy = "take it out, or name the workflow in the file's name, as demo_train.json"
                yield bundle.finding(name, key, "no workflow has that option", remedy)
            elif isinstance(value, str) and value[:1] in ("$", "@", "%", "/", "~"):
                yield bundle.finding(name, key, f"is {value!r}", "give a plain value")


def _required(config: Config) -> list[str]:
    properties: dict[str, Any] = InferProperties if config.workflow == "inference" else TrainProperties
    required = [entry[BundlePropertyConfig.ID] for entry in properties.values() if entry[BundleProperty.REQUIRED]]
    if config.workflow == "evaluate":
        required = [name for name in required if not name.startswith(f"train{ID_SEP_KEY}")]
    return [*required, *([] if "network_def" in required else ["network_def"])]


def _reached(config: Config) -> set[str]:
    """Ids that are run or required, what they refer to, what that refers to, and so on."""
    waiting = [*_RUN_IDS, *_required(config)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached or not has(config.merged, name):
            continue
        reached.add(name)
        if name != "options":
            for _, value in nodes_of(value_at(config.merged, name), name):
                waiting.extend(references_in(value))
    return reached


def _dead(section: dict[str, Any], reached: set[str], parent: str = "") -> Iterator[str]:
    for key, value in section.items():
        name = f"{parent}{key}"
        if name in reached:
            continue
        holder = isinstance(value, dict) and "_target_" not in value
        if holder and any(other.startswith(f"{name}::") for other in reached):
            yield from _dead(value, reached, f"{name}::")
        else:
            yield name


CONFIG_RULES = (
    keys_are_alive,
    promised_keys_are_there,
    runs_by_both_names,
    initialize_finds_the_code,
    options_are_checked,
    options_are_explained,
)
BUNDLE_RULES = (settings_are_options,)
