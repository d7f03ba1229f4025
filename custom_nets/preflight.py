# SPDX-License-Identifier: Apache-2.0
"""What a bundle's run checks before its first step, so that bad input costs seconds and not hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.bundle import ConfigParser

from custom_nets.case_names import require_distinct_names
from custom_nets.checkpoints import load_weights, read_checkpoint
from custom_nets.datasets.checks import CheckOptions, check_cases, named_channels
from custom_nets.datasets.datalist import Case, load_section
from custom_nets.datasets.label_table import read_label_table
from custom_nets.datasets.preflight import check_inference, check_training
from custom_nets.datasets.problems import require_sound
from custom_nets.datasets.tumour_labels import label_convention, label_values
from custom_nets.errors import InputError, stops_with_message
from custom_nets.fingerprints.recording import TrainingCases, TrainingFingerprint
from custom_nets.fingerprints.trained_options import trained_options
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.label_graphs.reading import label_graph_name, label_graph_of
from custom_nets.option_checks import check_options, require_writable
from custom_nets.options import MEANINGS, WORKFLOWS
from custom_nets.registry import bundle
from custom_nets.running_config import built_network, require_buildable, require_known_keys, running_parser
from custom_nets.spine.logits_sources import load_coarse, require_stored_logits
from custom_nets.spine.weights import load_stages
from custom_nets.tracking import prepare_tracking
from custom_nets.training.run_state import read_run, resume_from


@stops_with_message
def before_training(name: str, options: Mapping[str, Any], fingerprint: TrainingFingerprint | None = None) -> None:
    """Check everything that a training run of bundle ``name`` will need; ends the program with one message if it fails.

    Nothing is written. Of a distributed run the first process checks for all.

    Args:
        name: of the bundle; its metadata names modalities and labels.
        options: the run's top-level keys, as the bundle's train.json hands them over. Called from a running
            configuration, the check also sees all other keys, the network, the loss, and cases that a host put in.
        fingerprint: takes up what the training cases are like, to write it with the model.
    """
    if idist.get_rank() != 0:
        return
    parser = running_parser()
    options = _checked(name, "train", parser, options)
    require_writable(ckpt_dir=options["ckpt_dir"], output_dir=options["output_dir"])
    modalities, labels = modalities_of(name, options["in_channels"]), labels_of(name, options)
    _check_weights(parser, options)
    if parser is not None:
        require_buildable(parser, "loss")
    patch_size, spacing = _patch_of(options), options.get("spacing") or None
    given = {
        section: _given(parser, f"{group}::dataset::data")
        for section, group in (("training", "train"), ("validation", "validate"))
    }
    seen = _training_cases(given["training"], options, modalities) if fingerprint is not None else None
    if all(cases is None for cases in given.values()):
        validated = not options.get("all_cases", False)
        place = options["dataset_dir"], options["datalist"], "validation"
        _check_ranks(len(load_section(*place)) if validated else 0)
        check_training(
            *(options["dataset_dir"], options["datalist"], modalities, labels, patch_size),
            spacing=spacing,
            bright=_expected_brightness(options),
            any_order=_reorders(options),
            **_kind_of_labels(options),
            validated=validated,
            look=seen,
        )
        _check_logits(parser, options, "training", "validation")
    else:
        sections = {
            section: load_section(options["dataset_dir"], options["datalist"], section) if cases is None else cases
            for section, cases in given.items()
        }
        _check_ranks(len(sections["validation"]))
        cases = [case for section in sections.values() for case in section]
        strictness = CheckOptions(patch_size, spacing, **_kind_of_labels(options), look=seen)
        require_sound(check_cases(cases, modalities, labels, strictness))
    if fingerprint is not None and seen is not None:
        network = parser.get("network_def", {}) if parser is not None else {}
        fingerprint.made_from(seen, options, trained_options(name, options, network))


@stops_with_message
def before_segmenting(name: str, options: Mapping[str, Any], section: str, labelled: bool = False) -> None:
    """Check everything that an inference, or with ``labelled`` an evaluation, of bundle ``name`` will need.

    As :func:`before_training`; ``section`` of the data list is what will be segmented.
    """
    parser = running_parser()
    options = _checked(name, "evaluate" if labelled else "inference", parser, options)
    require_writable(output_dir=options["output_dir"])
    refines_alone = options.get("stages") == "refine" and options["refinement_checkpoint"]
    if not refines_alone and not Path(str(options["checkpoint"])).is_file():
        raise InputError(
            f"{options['checkpoint']}: no such checkpoint; train first, or name one with --checkpoint FILE."
        )
    table = labels_of(name, options)
    _check_weights(parser, options)
    labels = table if labelled else None
    modalities = modalities_of(name, options["in_channels"])
    given = _given(parser, "validate::dataset::data" if labelled else "dataset::data")
    if given is not None:
        strictness = CheckOptions(empty_label=None, **_kind_of_labels(options))
        if options.get("output_names") == "case":
            require_distinct_names(given)
        require_sound(check_cases(given, modalities, labels, strictness))
        return
    if not labelled:
        _check_places(load_section(options["dataset_dir"], options["datalist"], section, labelled=False), options)
    check_inference(
        *(options["dataset_dir"], options["datalist"], modalities, labels),
        section=section,
        bright=_expected_brightness(options),
        any_order=_reorders(options),
        **_kind_of_labels(options),
    )
    _check_logits(parser, options, section)


def modalities_of(name: str, in_channels: int) -> list[str] | int:
    """Names of the bundle's modalities; where the user trains on another number of channels, that number."""
    modalities = list(bundle(name).modalities)
    return modalities if len(modalities) == in_channels else in_channels


def labels_of(name: str, options: Mapping[str, Any]) -> list[int]:
    """Values that the label maps hold.

    Those of ``label_table`` where the user gives one, of the data's convention or graph where the bundle has the option
    ``label_convention`` or ``label_graph``, else the bundle's own.

    Raises:
        InputError: for a table or a graph that cannot be read, or whose length is not ``out_channels``; for an unknown
            convention.
    """
    if "label_graph" in options:
        return _values_of_graph(options)
    convention = _convention(options)
    if convention:
        return label_values(convention)
    table = read_label_table(options.get("label_table"), name)
    classes = options.get("out_channels", len(table))
    if classes != len(table):
        source = options.get("label_table") or "the bundle's own label table"
        raise InputError(
            f"{source} names {len(table)} labels with the background, out_channels is {classes}: "
            f"add --out_channels {len(table)}, or give the table of your labels with --label_table FILE."
        )
    return list(table)


def _training_cases(
    given: list[Case] | None, options: Mapping[str, Any], modalities: Sequence[str] | int
) -> TrainingCases:
    """Who measures the training cases as they are checked."""
    cases = load_section(options["dataset_dir"], options["datalist"], "training") if given is None else given
    return TrainingCases(cases, named_channels(modalities))


def _values_of_graph(options: Mapping[str, Any]) -> list[int]:
    """Every value that a file may have for a label of the data's graph."""
    graph = _graph(options)
    classes = options.get("out_channels", len(graph))
    if classes != len(graph):
        raise InputError(
            f"label_graph {_graph_name(options)!r} has {len(graph)} labels with the background, out_channels is "
            f"{classes}: leave out_channels out, or give the graph of your labels with --label_graph FILE."
        )
    return list(graph.file_names())


def _graph(options: Mapping[str, Any]) -> LabelGraph:
    return label_graph_of(options["dataset_dir"], options["datalist"], options["label_graph"])


def _kind_of_labels(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks are told about the files' labels, for their advice about other values."""
    return {"label_convention": _convention(options), "label_graph": _graph_name(options)}


def _graph_name(options: Mapping[str, Any]) -> str:
    """Name or file of the graph of the files' labels; an empty string for a bundle whose labels have none."""
    if "label_graph" not in options:
        return ""
    return label_graph_name(options["dataset_dir"], options["datalist"], options["label_graph"])


def _convention(options: Mapping[str, Any]) -> str:
    """The convention of the files' labels; an empty string for a bundle whose labels have none."""
    if "label_convention" not in options:
        return ""
    return label_convention(options["dataset_dir"], options["datalist"], options["label_convention"])


def _reorders(options: Mapping[str, Any]) -> bool:
    """Whether the bundle puts the files' channels into its own order (``ReorderChannelsd``)."""
    return bool(options.get("reorder_channels", False))


def _patch_of(options: Mapping[str, Any]) -> Sequence[int] | None:
    """The patch as far as volumes can be smaller than it: slices, and spines, are resized to theirs, or padded."""
    return None if {"num_slices", "label_graph"} & set(options) else options["patch_size"]


def _expected_brightness(options: Mapping[str, Any]) -> tuple[float, float] | None:
    """Range in which an image's 99.9th percentile is expected where the image will be divided by 255."""
    return (128, 300) if options.get("intensity") == "divide" else None


def _checked(name: str, workflow: str, parser: ConfigParser | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the other top-level keys of the running configuration, all of them sound."""
    if parser is None:
        check_options(options)
        return dict(options)
    if "label_graph" in options:
        _graph(options)  # other keys need it, and an error in them is wrapped
    folder = bundle(name).folder
    assert folder is not None
    overlays = [
        path for path in sorted((folder / "configs").glob("*.json")) if path.stem not in (*WORKFLOWS, "metadata")
    ]
    config: Any = parser.config
    if workflow == "evaluate" and "train" in config:  # MONAI's own checks merge the two
        overlays.append(folder / "configs" / "train.json")
    require_known_keys(config, folder / "configs" / f"{workflow}.json", overlays)
    keys = [key for key in MEANINGS if key in config and key not in options]
    everything = {**options, **{key: parser.get_parsed_content(key) for key in keys}}
    check_options(everything)
    prepare_tracking(parser, workflow, resumed=bool(resume_from(options.get("resume"), ".")))
    return everything


def _check_weights(parser: ConfigParser | None, options: Mapping[str, Any]) -> None:
    """Refuse a network that cannot be built, and files that are not of this network."""
    network = None if parser is None else built_network(parser)
    least_share = options.get("pretrained_share", 1.0)
    if "refinement_checkpoint" in options:
        if network is not None:
            load_stages(network, options["checkpoint"], options["refinement_checkpoint"])
        return
    for path, share in ((options.get("checkpoint"), 1.0), (options.get("pretrained"), least_share)):
        if path and network is not None:
            load_weights(network, path, share)
        elif path:
            read_checkpoint(path)
    if network is not None and parser is not None and options.get("coarse_logits") == "computed":
        load_coarse(parser.get_parsed_content("computed_logits::network"), options["coarse_checkpoint"])
    last = resume_from(options.get("resume"), options.get("ckpt_dir", "."))
    if last is not None:
        read_run(last, network)


def _check_logits(parser: ConfigParser | None, options: Mapping[str, Any], *sections: str) -> None:
    """Read the stored logits of all cases where a second stage runs on them."""
    if (options.get("coarse_logits") == "stored" or options.get("stages") == "refine") and parser is not None:
        place = options["dataset_dir"], options["datalist"]
        cases = [load_section(*place, section, labelled=False) for section in sections]
        require_stored_logits(parser.get_parsed_content("stored_logits"), *cases)


def _given(parser: ConfigParser | None, id: str) -> list[Case] | None:
    """Cases that the host of the bundle put in place of the data list's; None where there are none."""
    cases = parser.get(id) if parser is not None else None
    return cases if isinstance(cases, list) else None


def _check_ranks(validation_cases: int) -> None:
    ranks = idist.get_world_size()
    if 0 < validation_cases < ranks:
        raise InputError(
            f"{validation_cases} validation cases for {ranks} processes: each needs one; "
            "list more cases, or start fewer processes."
        )


def _check_places(cases: Sequence[Case], options: Mapping[str, Any]) -> None:
    """Refuse cases whose results would land anywhere, or in one place.

    Results lie in ``output_dir`` as images do in ``dataset_dir``, or are called as their cases.
    """
    root = Path(options["dataset_dir"]).absolute()
    outside = [path for case in cases for path in case["image"][:1] if not Path(path).is_relative_to(root)]
    if outside:
        raise InputError(
            f"{outside[0]} is not in dataset_dir '{root}' ({len(outside)} such cases), so its result has no place in "
            "output_dir: name a folder that holds all images with --dataset_dir, and the list with --datalist."
        )
    if options.get("output_names") == "case":
        require_distinct_names(cases)
