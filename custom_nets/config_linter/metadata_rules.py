# SPDX-License-Identifier: Apache-2.0
"""Rules about metadata.json: the Model Zoo's schema, exact versions, and channels that are the network's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from custom_nets.config_linter.component_rules import default_of
from custom_nets.config_linter.reading import BundleFiles, Config, Finding
from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.label_graphs.reading import DEFAULT, read_label_graph

#: The rules of the metadata schema that the bundles name, restated, so that no network is needed.
SCHEMA = Path(__file__).with_name("metadata_schema_2024.json")
_SCHEMA_NAME = "meta_schema_20240725.json"
#: How a configuration writes the number of a label graph's labels.
_LABELS = "$len(@graph)"
#: How an export names a file of its own.
_IN_THE_BUNDLE = re.compile(r"\$@bundle_root \+ '/(?P<path>.+)'")
#: How a network of slices names the channels of a modality.
_SLICE = re.compile(r", slice \S+$")
_PACKAGES = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def metadata_follows_the_schema(bundle: BundleFiles) -> Iterator[Finding]:
    """metadata.json follows the Model Zoo's schema of 2024, and says so."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(bundle.metadata):
        yield _finding(bundle, "::".join(map(str, error.absolute_path)) or "file", error.message, "correct it")
    if not str(bundle.metadata.get("schema", "")).endswith(_SCHEMA_NAME):
        yield _finding(bundle, "schema", "is another schema", f"name the address of {_SCHEMA_NAME}")


def metadata_names_the_folder(bundle: BundleFiles) -> Iterator[Finding]:
    """`bundle` is the folder's name: the tools know the bundle by it."""
    if bundle.metadata.get("bundle") != bundle.name:
        yield _finding(bundle, "bundle", f"is {bundle.metadata.get('bundle')!r}", f"write '{bundle.name}'")


def version_is_in_the_changelog(bundle: BundleFiles) -> Iterator[Finding]:
    """The changelog tells what is in this version, which is three numbers."""
    version = str(bundle.metadata.get("version"))
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield _finding(bundle, "version", f"is '{version}'", "write three numbers, 1.2.3")
    if not bundle.metadata.get("changelog", {}).get(version):
        yield _finding(bundle, "changelog", f"says nothing about {version}", "add a line")


def versions_are_the_tested_ones(bundle: BundleFiles) -> Iterator[Finding]:
    """Versions of packages are exact, and those that constraints.txt pins."""
    pinned = _pinned(bundle.folder / ".." / ".." / "constraints.txt")
    named = {key: (package, bundle.metadata.get(key)) for key, package in _PACKAGES.items()}
    required = bundle.metadata.get("required_packages_version", {})
    named.update({f"required_packages_version::{name}": (name, version) for name, version in required.items()})
    for key, (package, version) in named.items():
        if not re.fullmatch(r"\d+(\.\d+)+", str(version)):
            yield _finding(bundle, key, f"is {version!r}", "give the bare version")
        elif pinned and version not in pinned.get(package, ()):
            tested = " or ".join(pinned.get(package, ())) or "none"
            yield _finding(bundle, key, f"is {version}, constraints.txt has {tested}", "make them the same")


def channels_are_the_networks(bundle: BundleFiles) -> Iterator[Finding]:
    """num_channels is the number of names in channel_def, and what the network takes and gives."""
    for side, tensor, argument in (("inputs", "image", "in_channels"), ("outputs", "pred", "out_channels")):
        entry, key = _tensor(bundle, side, tensor), f"{side}::{tensor}"
        channels, names = entry.get("num_channels"), entry.get("channel_def", {})
        regions = side == "outputs" and "post_processed_outputs" in bundle.metadata.get("network_data_format", {})
        # one output channel tells two labels apart by a sigmoid
        one_sigmoid = side == "outputs" and channels == 1 and len(names) == 2
        if len(names) != channels and not regions and not one_sigmoid:
            yield _finding(bundle, f"{key}::channel_def", f"names {len(names)} of {channels} channels", "name each")
        for config in bundle.standing_alone():
            if (
                isinstance(config.at("network_def"), dict)
                and (found := _channels(bundle, config, argument)) != channels
            ):
                yield config.finding(
                    f"network_def::{argument}", f"is {found}, metadata has {channels}", "make them the same"
                )


def labels_are_the_graphs(bundle: BundleFiles) -> Iterator[Finding]:
    """Where labels come from a label graph, channel_def names those of the graph for data that name none."""
    names = _tensor(bundle, "outputs", "pred").get("channel_def", {})
    for config in bundle.standing_alone():
        graph = _graph(bundle, config)
        if graph is not None and names != (own := {str(value): name for value, name in graph.names.items()}):
            other = next((value for value in own if names.get(value) != own[value]), "more than the graph")
            yield config.finding(
                "label_graph", f"has another label {other} than the metadata's channel_def", "make them the same"
            )


def labels_are_numbered_and_named(bundle: BundleFiles) -> Iterator[Finding]:
    """channel_def numbers the modalities from 0 and gives label 0 the name background; names differ."""
    for side, tensor in (("inputs", "image"), ("outputs", "pred")):
        names, key = _tensor(bundle, side, tensor).get("channel_def", {}), f"{side}::{tensor}::channel_def"
        if not all(number.isdigit() for number in names) or len(set(names.values())) < len(names):
            yield _finding(bundle, key, "has keys that are no numbers, or a name twice", "number the channels")
        elif side == "inputs" and sorted(map(int, names)) != list(range(len(names))):
            yield _finding(bundle, key, "is not numbered 0, 1, 2, ...", "number the modalities in their order")
        elif side == "outputs" and names.get("0") != "background":
            yield _finding(bundle, f"{key}::0", f"is {names.get('0')!r}", "write 'background'")


def file_names_tell_the_modalities(bundle: BundleFiles) -> Iterator[Finding]:
    """file_name_patterns says of each modality of channel_def how its files are called, and of no other."""
    names = _tensor(bundle, "inputs", "image").get("channel_def", {}).values()
    modalities, patterns = {_SLICE.sub("", name) for name in names}, bundle.metadata.get("file_name_patterns", {})
    for name in sorted(modalities ^ set(patterns)):
        problem, remedy = ("is no modality", "delete it") if name in patterns else ("is not there", "list its patterns")
        yield _finding(bundle, f"file_name_patterns::{name}", problem, remedy)
    seen: dict[str, str] = {}
    for name, listed in patterns.items():
        if not (isinstance(listed, list) and listed and all(isinstance(one, str) and one for one in listed)):
            yield _finding(bundle, f"file_name_patterns::{name}", f"is {listed!r}", "list one pattern or more")
            continue
        for pattern in listed:
            if pattern == "*" and len(modalities) > 1:
                yield _finding(bundle, f"file_name_patterns::{name}", "has '*'", "name what tells the modality")
            if (other := seen.setdefault(pattern, name)) != name:
                yield _finding(bundle, f"file_name_patterns::{name}", f"has {pattern!r} of {other}", "delete one")


def prose_names_the_same_labels(bundle: BundleFiles) -> Iterator[Finding]:
    """image_classes, label_classes and pred_classes name what channel_def names."""
    modalities = _tensor(bundle, "inputs", "image").get("channel_def", {})
    for name in modalities.values():
        if name not in bundle.metadata.get("image_classes", name):
            yield _finding(bundle, "image_classes", f"does not name {name}", "name each modality of channel_def")
    labels = _tensor(bundle, "outputs", "pred").get("channel_def", {})
    for key in ("label_classes", "pred_classes"):
        for value, name in labels.items():
            if not re.search(rf"\b{value} [^,]*{re.escape(name)}", bundle.metadata.get(key, f"{value} {name}")):
                yield _finding(bundle, key, f"does not name '{value} {name}'", "name each label of channel_def")


def _finding(bundle: BundleFiles, key: str, problem: str, remedy: str) -> Finding:
    return bundle.finding("metadata", key, problem, remedy)


def _tensor(bundle: BundleFiles, side: str, name: str) -> dict[str, Any]:
    return bundle.metadata.get("network_data_format", {}).get(side, {}).get(name, {})


def _channels(bundle: BundleFiles, config: Config, name: str) -> Any:
    """What the network takes, in_channels of every slice of a window, or gives, out_channels."""
    channels, slices = _network_argument(config, name), _network_argument(config, "num_slices")
    graph = _graph(bundle, config)
    if name == "out_channels" and graph is not None and channels in (None, _LABELS):
        return len(graph)
    per_slice = name == "in_channels" and isinstance(channels, int) and isinstance(slices, int)
    return channels * slices if per_slice else channels


def _graph(bundle: BundleFiles, config: Config) -> LabelGraph | None:
    """The labels where a data set does not tell its own; None of a network whose labels are no graph's."""
    if "label_graph" not in config.merged:
        return None
    name = config.at("label_graph")
    inside = _IN_THE_BUNDLE.fullmatch(str(name))
    try:
        return read_label_graph(bundle.folder / inside["path"] if inside else DEFAULT if name == "auto" else name)
    except InputError:
        return None


def _network_argument(config: Config, name: str) -> Any:
    given = config.at(f"network_def::{name}")
    return default_of(str(config.at("network_def::_target_")), name) if given is None else given


def _pinned(constraints: Path) -> dict[str, list[str]]:
    """Package -> versions; one may have a version for each Python. Empty where there is no such file."""
    pinned: dict[str, list[str]] = {}
    if constraints.is_file():
        pattern = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
        for package, version in pattern.findall(constraints.read_text(encoding="utf-8")):
            pinned.setdefault(package, []).append(version)
    return pinned


BUNDLE_RULES = (
    metadata_follows_the_schema,
    metadata_names_the_folder,
    version_is_in_the_changelog,
    versions_are_the_tested_ones,
    channels_are_the_networks,
    labels_are_the_graphs,
    labels_are_numbered_and_named,
    file_names_tell_the_modalities,
    prose_names_the_same_labels,
)
