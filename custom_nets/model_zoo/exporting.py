# SPDX-License-Identifier: Apache-2.0
"""A bundle as one folder, and one archive, that run where this repository is not."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_nets.checkpoints import save_weights, weights_digest
from custom_nets.config_linter.folder_rules import write_card as update_card
from custom_nets.config_linter.reading import read_bundle
from custom_nets.errors import InputError
from custom_nets.files import write_json, write_text
from custom_nets.fingerprints import copy_fingerprint
from custom_nets.label_graphs.reading import DEFAULT
from custom_nets.model_zoo import filled_metadata
from custom_nets.model_zoo.card import write_card
from custom_nets.model_zoo.checking import Verdict, check_bundle
from custom_nets.model_zoo.form_parts import built
from custom_nets.model_zoo.forms import Parity, parity_table, write_forms
from custom_nets.model_zoo.labels import own_labels, with_labels_inside
from custom_nets.model_zoo.large_files import write_large_files
from custom_nets.model_zoo.model_options import Configs, read_configs, with_options
from custom_nets.model_zoo.packing import copy_package, replace_folder, require_replaceable, write_archive
from custom_nets.option_checks import check_options
from custom_nets.options import options_in
from custom_nets.registry import Bundle
from custom_nets.spine.weights import load_stages

_logger = logging.getLogger(__name__)

#: Overlays that belong to the repository's demos.
_DEMO = "demo"


@dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes:
        bundle: whose network it is.
        checkpoint: its weights.
        refinement: weights of the second stage of a network of stages, where they are in a file of their own.
        options: of the bundle's configurations with which it was trained, where they are not their defaults.
        modalities: names of its input images, where they are not the bundle's.
        results: folder of an evaluation of these weights; None leaves the metadata's eval_metrics empty.
        url: address of a folder that will hold the large files.
        version: of the bundle, where this is a new one, with its `changes`.
        changes: what the changelog says of the new version.
    """

    bundle: Bundle
    checkpoint: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    modalities: Sequence[str] | None = None
    results: Path | None = None
    url: str = ""
    version: str | None = None
    changes: str | None = None
    refinement: Path | None = None


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: the bundle.
        archive: the same as a zip file.
        parity: of its TorchScript and ONNX forms.
        verdicts: of its check.
        scores: of its metadata.
        scored_with: options of the scored predictions that are not those of the export.
        labels: value in the label maps -> name.
    """

    folder: Path
    archive: Path
    parity: Parity
    verdicts: list[Verdict]
    scores: Mapping[str, float]
    scored_with: Mapping[str, Any]
    labels: Mapping[str, str]


def export(model: Model, place: Path, tell: Callable[[str], object] = _logger.info) -> Export:
    """Write ``place/NAME`` and ``place/NAME_vVERSION.zip``; an older export is replaced when the new one is whole.

    Args:
        model: what to export.
        place: the folder to write to; made if missing.
        tell: is called with each step that takes a while, as it begins.

    Raises:
        InputError: the model is not one of the bundle's network with these options, the results are of other weights,
            what is in the way is no export or more than that, the export fails its own check, or ``place`` cannot be
            written to; nothing is written then.
    """
    folder = place / model.bundle.name
    require_replaceable(folder, model.bundle.name)
    try:
        return _export(model, place, folder, tell)
    except OSError as error:
        raise InputError(
            f"{place}: {model.bundle.name} cannot be written there ({error.strerror or error}); name another folder."
        ) from error


def _export(model: Model, place: Path, folder: Path, tell: Callable[[str], object]) -> Export:
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{model.bundle.name}.", dir=place) as temporary:
        new = Path(temporary) / model.bundle.name
        new.mkdir()
        tell("configurations, code and weights")
        weights = _assemble(model, new)
        scores, record = filled_metadata.read_scores(model.results, weights) if model.results else ({}, None)
        metadata = _write_metadata(model, new, scores, record)
        tell("TorchScript and ONNX forms, compared with the network: minutes for a large one")
        parity = write_forms(new)
        write_large_files(new, model.url)
        table = parity_table(parity)
        source = model.bundle.folder
        scored_with = filled_metadata.differing_options(record or {}, read_configs(new)["inference"])
        write_card(
            source,
            new,
            metadata,
            weights=weights,
            options=model.options,
            scored=record,
            scored_with=scored_with,
            parity=table,
        )
        update_card(read_bundle(new))
        tell("check of the bundle, run in a process of its own")
        verdicts = check_bundle(new)
        if failed := [verdict for verdict in verdicts if verdict.verdict == "fails"]:
            lines = "".join(f"\n  {verdict.rule}: {verdict.told}" for verdict in failed)
            raise InputError(f"the export of {model.bundle.name} fails {len(failed)} rules, nothing is written:{lines}")
        tell("archive")
        archive = write_archive(new, place / f"{model.bundle.name}_v{metadata['version']}.zip")
        replace_folder(new, folder)
    labels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    return Export(folder, archive, parity, verdicts, scores, scored_with, labels)


def _assemble(model: Model, folder: Path) -> str:
    """Put configurations, code and weights into the folder; return the weights' digest."""
    source = model.bundle.folder
    for name in ("LICENSE", "docs/data_license.txt", "configs/logging.conf"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    source_configs = read_configs(source)
    options = with_labels_inside(_own_graph(source_configs) | dict(model.options), folder)
    if model.modalities is not None:
        options["in_channels"] = len(model.modalities)
    _require_named_channels(model, options)
    configs = with_options(source_configs, options)
    _check(configs)
    for name, config in configs.items():
        if not name.startswith(_DEMO):
            write_text(folder / "configs" / f"{name}.json", _config_text(model.bundle.name, config))
    copy_package(folder)
    return _write_weights(model, folder)


def _check(configs: Configs) -> None:
    """Check the values of the options, all but those that a configuration computes."""
    for config in configs.values():
        if "network_def" in config:
            plain = {key: value for key, value in options_in(config).items() if not str(value).startswith("$")}
            graph = {"label_graph": DEFAULT} if "label_graph" in config else {}
            check_options({"device": "cpu", "amp": False, **graph, **plain})


def _own_graph(configs: Configs) -> dict[str, Any]:
    """The label graph by name where the bundle takes the data list's: weights of one graph are of no other."""
    return {"label_graph": DEFAULT} if configs["inference"].get("label_graph") == "auto" else {}


def _require_named_channels(model: Model, options: Mapping[str, Any]) -> None:
    expected = len(model.modalities or model.bundle.modalities)
    if options.get("in_channels", expected) != expected:
        raise InputError(
            f"in_channels is {options['in_channels']}, the bundle has {', '.join(model.bundle.modalities)}: name the "
            "images of this model in their order, --modalities T1,FLAIR."
        )


def _config_text(name: str, config: Mapping[str, Any]) -> str:
    """A configuration for a bundle that has its own folder, and data in it."""
    config = dict(config)
    if "bundle_root" in config:
        config["bundle_root"] = "."
    text = json.dumps(config, indent=4, ensure_ascii=False)
    return text.replace(f"'../../data/{name}'", "'data'") + "\n"


def _write_weights(model: Model, folder: Path) -> str:
    """Write ``models/model.pt`` of what the export's network takes from the checkpoint."""
    network = built(folder)
    load_stages(network, model.checkpoint, model.refinement)
    save_weights(network.state_dict(), folder / "models" / "model.pt")
    copy_fingerprint(model.checkpoint, folder / "models" / "model.pt", model.refinement)
    return weights_digest(network)


def _write_metadata(
    model: Model, folder: Path, scores: Mapping[str, float], record: Mapping[str, Any] | None
) -> dict[str, Any]:
    published, exported = (
        ConfigParser.load_config_file(place / "configs" / "inference.json") for place in (model.bundle.folder, folder)
    )
    metadata = ConfigParser.load_config_file(model.bundle.folder / "configs" / "metadata.json")
    metadata = filled_metadata.with_release(metadata, model.version, model.changes)
    metadata = filled_metadata.with_versions(metadata)
    metadata = filled_metadata.with_patch(metadata, published["patch_size"], exported["patch_size"])
    slices = exported.get("num_slices", 1)
    if model.modalities is not None or slices != published.get("num_slices", 1):
        metadata = filled_metadata.with_modalities(metadata, model.modalities or model.bundle.modalities, slices)
    if (labels := own_labels(model.options)) is not None:
        metadata = filled_metadata.with_labels(metadata, labels)
    if record is not None and model.results is not None:
        filled_metadata.require_same_labels(record, metadata, model.results)
    metadata["eval_metrics"] = dict(scores)
    write_json(folder / "configs" / "metadata.json", metadata)
    return metadata
