# SPDX-License-Identifier: Apache-2.0
"""A bundle's files as the rules see them: as written, merged with what an overlay lies on, and macros resolved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import merge_kv

from custom_nets.options import WORKFLOWS


@dataclass(frozen=True)
class Finding:
    """Something that a rule does not accept: where, which key, what is wrong, what to do."""

    where: str
    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.problem} -> {self.remedy}"


@dataclass(frozen=True)
class Config:
    """One configuration.

    Attributes:
        where: bundle and file, for findings.
        workflow: train, evaluate or inference: what it runs, or what it changes.
        stage: what tells apart several configurations of one workflow; empty where there is one.
        own: the file's content.
        merged: the same, for an overlay laid over the configuration that it changes.
        resolved: `merged` with its macros replaced.
        overlay: True where the file does not stand alone.
        repeated: keys that the file gives twice.
        broken: why it could not be merged or resolved; empty where it could.
    """

    where: str
    workflow: str
    stage: str
    own: dict[str, Any]
    merged: dict[str, Any]
    resolved: dict[str, Any]
    overlay: bool
    repeated: tuple[str, ...]
    broken: str

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """Yield id and value of everything in `merged`, of an overlay only what it brings."""
        own = [key.removeprefix("+") for key in self.own]
        for name, value in nodes_of(self.merged):
            if not self.overlay or any(name == key or name.startswith(f"{key}::") for key in own):
                yield name, value

    def at(self, name: str) -> Any:
        """Return the value of an id in `resolved`, references to another id followed; None where it does not exist."""
        value = value_at(self.resolved, name)
        while isinstance(value, str) and value.startswith("@"):
            value = value_at(self.resolved, value[1:])
        return value

    def finding(self, key: str, problem: str, remedy: str) -> Finding:
        """Return a finding about this configuration."""
        return Finding(self.where, key, problem, remedy)


@dataclass(frozen=True)
class BundleFiles:
    """A bundle's files.

    Attributes:
        name: of the folder.
        folder: where it is.
        metadata: content of metadata.json; empty where it cannot be read.
        configs: by file name, what runs a workflow or changes one.
        settings: by file name, overlays for any workflow, which only set options.
        unreadable: what could not be read.
    """

    name: str
    folder: Path
    metadata: dict[str, Any]
    configs: dict[str, Config]
    settings: dict[str, dict[str, Any]]
    unreadable: tuple[Finding, ...]

    def standing_alone(self) -> list[Config]:
        """Return the configurations that are no overlays."""
        return [config for config in self.configs.values() if not config.overlay]

    def finding(self, file: str, key: str, problem: str, remedy: str) -> Finding:
        """Return a finding about a file of the bundle."""
        return Finding(f"{self.name}/{file}", key, problem, remedy)


def nodes_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield id and value of ``value`` and of everything in it; relative references in strings become absolute."""
    if isinstance(value, str):
        value = ConfigParser.resolve_relative_ids(name, value)
    yield name, value
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nodes_of(part, f"{name}::{key}" if name else str(key))


def value_at(content: Any, name: str) -> Any:
    """Return the value of the id ``name``; None where it does not exist."""
    for key in name.split("::"):
        if isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        elif isinstance(content, dict) and key in content:
            content = content[key]
        else:
            return None
    return content


def has(content: Any, name: str) -> bool:
    """Whether the id ``name`` exists, be its value None."""
    parent, _, last = name.rpartition("::")
    holder = value_at(content, parent) if parent else content
    if isinstance(holder, list):
        return last.isdigit() and int(last) < len(holder)
    return isinstance(holder, dict) and last in holder


def references_in(value: Any) -> set[str]:
    """Return the ids that a string of a configuration refers to with @ or %."""
    if not isinstance(value, str):
        return set()
    if value.startswith("%"):
        return {ConfigParser.split_path_id(value[1:])[1]}
    return set(ReferenceResolver.match_refs_pattern(value))


def read_bundle(folder: Path) -> BundleFiles:
    """Read ``configs/*.json`` of a bundle's folder; what cannot be read becomes a finding."""
    contents: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {}
    unreadable = []
    for path in sorted((folder / "configs").glob("*.json")):
        try:
            contents[path.stem] = _read_json(path)
        except ValueError as error:
            problem = f"is no JSON object ({error})"
            unreadable.append(Finding(f"{folder.name}/{path.stem}", "file", problem, "mend the file"))
    metadata = contents.pop("metadata", ({}, ()))[0]
    configs = {name: _config(folder.name, name, contents) for name in contents if _workflow(name, contents[name][0])}
    settings = {name: own for name, (own, _) in contents.items() if name not in configs}
    return BundleFiles(folder.name, folder, metadata, configs, settings, tuple(unreadable))


def _config(bundle: str, name: str, contents: dict[str, tuple[dict[str, Any], tuple[str, ...]]]) -> Config:
    own, repeated = contents[name]
    workflow = _workflow(name, own) or ""
    overlay = "bundle_root" not in own and name != workflow
    layers = [contents.get(workflow, ({}, ()))[0], own] if overlay else [own]
    merged: dict[str, Any] = {}
    resolved: dict[str, Any] = {}
    broken = ""
    try:
        merged = _merged(layers)
        parser = ConfigParser(deepcopy(merged))
        parser.resolve_macro_and_relative_ids()
        resolved = parser.get()
    except (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        broken = " ".join(str(error).split())
    stage = "_".join(part for part in name.split("_") if part != workflow)
    return Config(f"{bundle}/{name}", workflow, stage, own, merged, resolved or merged, overlay, repeated, broken)


def _merged(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Lay configurations over each other, as MONAI does with several files."""
    parser = ConfigParser({})
    for layer in layers:
        for key, value in layer.items():
            merge_kv(parser, key, deepcopy(value))
    return dict(parser.get())


def _workflow(name: str, own: dict[str, Any]) -> str | None:
    """The workflow that a file runs or changes, by its name; one with a ``ckpt_dir`` is a further stage of training."""
    named = next((workflow for workflow in WORKFLOWS if workflow in name.split("_")), None)
    return named or ("train" if "ckpt_dir" in own else None)


def _read_json(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        repeated.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return dict(items)

    content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs)
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}")
    return content, tuple(repeated)
