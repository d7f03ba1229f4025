# SPDX-License-Identifier: Apache-2.0
"""A bundle opened for prediction: its own inference.json, with the model's options, loaded once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose, CopyItemsd, SaveImaged
from torch import nn

from custom_nets.bundle_configs import ARGUMENT, OF_A_RUN, takes
from custom_nets.case_names import CaseNamed, NamedPredictiond
from custom_nets.checkpoints import weights_digest
from custom_nets.datasets.tumour_labels import label_names
from custom_nets.errors import InputError
from custom_nets.inferers import Ensemble
from custom_nets.option_checks import check_options
from custom_nets.options import MEANINGS, options_in
from custom_nets.registry import Bundle, bundle
from custom_nets.running_config import first_cause

#: What only a run of the whole list of cases needs: pictures, names and files are made here otherwise.
_OF_FILES = {
    *("output_ext", "output_dtype", "output_postfix", "output_names", "separate_folder", "num_workers"),
    *("pictures", "picture_channel", "pictured_labels", "tracking", "reorder_channels"),
}
_OF_A_LIST = (CopyItemsd, CaseNamed, NamedPredictiond, SaveImaged)


@dataclass(frozen=True)
class OpenedBundle:
    """What a bundle's inference.json defines, ready to run.

    Attributes:
        bundle: whose it is.
        network: in eval mode on ``device``; an `Ensemble` of several checkpoints.
        device: where to compute.
        preprocessing: from file names to the network's input, key ``image``.
        inferer: the bundle's.
        postprocessing: from the inferer's output, key ``pred``, to the label map, saving left out.
        labels: value in the label map -> name, background left out.
        weights: SHA-256 of each checkpoint's weights.
        options: as they are in force.
    """

    bundle: Bundle
    network: nn.Module
    device: torch.device
    preprocessing: Compose
    inferer: Inferer
    postprocessing: list[Any]
    labels: dict[int, str]
    weights: tuple[str, ...]
    options: dict[str, Any]


def open_bundle(
    name: str, checkpoints: tuple[Path, ...], options: Mapping[str, Any], device: str = "auto"
) -> OpenedBundle:
    """Load a bundle's models and build what surrounds them.

    Args:
        name: of the bundle.
        checkpoints: one, or the members of an ensemble.
        options: top-level keys of its inference.json.
        device: "auto", or as PyTorch names devices.

    Raises:
        InputError: for an unknown bundle, option or device, or a checkpoint that is missing or of another network.
    """
    entry = bundle(name)
    known = require_known_options(entry, options)
    where = _device(device)
    parsers = [_parser(entry, {**options, "checkpoint": str(path)}, where) for path in checkpoints]
    try:
        networks = [_loaded(parser).to(where).eval() for parser in parsers]
        first = parsers[0]
        preprocessing = Compose(_kept(first.get_parsed_content("preprocessing")))
        postprocessing = _kept(first.get_parsed_content("postprocessing"))
        inferer = first.get_parsed_content("inferer")
        labels = _labels(entry, first)
        config: Any = first.config
        in_force = {key: first.get_parsed_content(key) for key in sorted(known) if key in config}
    except Exception as error:
        cause = first_cause(error)
        raise (cause if isinstance(cause, InputError) else error) from error
    for step in postprocessing:
        if getattr(step, "transform", None) is not None:
            step.transform = preprocessing  # Invertd undoes what is done here
    return OpenedBundle(
        bundle=entry,
        network=networks[0] if len(networks) == 1 else Ensemble(networks),
        device=where,
        preprocessing=preprocessing,
        inferer=inferer,
        postprocessing=postprocessing,
        labels={value: text for value, text in labels.items() if value != 0},
        weights=tuple(map(weights_digest, networks)),
        options={key: value for key, value in in_force.items() if _is_plain(value)},
    )


def require_known_options(entry: Bundle, options: Iterable[str], also: Iterable[str] = ()) -> set[str]:
    """The options of a bundle's model and of how it is applied.

    Args:
        entry: the bundle.
        options: names of what is given.
        also: options of the command, which may be meant as well.

    Raises:
        InputError: one of ``options`` is none of the bundle's.
    """
    known = _known_options(entry)
    definition = ConfigParser.load_config_file(entry.folder / "configs" / "inference.json")["network_def"]
    for key in options:
        argument = key.removeprefix(ARGUMENT)
        if key not in known and not (argument != key and takes(definition, argument)):
            close = difflib.get_close_matches(key, [*known, *also], n=1)
            meant = f"; did you mean --{close[0]}?" if close else "."
            raise InputError(f"--{key}: is no option of {entry.name}{meant}")
    return known


def _known_options(entry: Bundle) -> set[str]:
    """Options of the model and of how it is applied."""
    config = ConfigParser.load_config_file(entry.folder / "configs" / "inference.json")
    left_out = (OF_A_RUN | _OF_FILES) - {"refinement_checkpoint"}
    return set(options_in(config)) & set(MEANINGS) - left_out


def _parser(entry: Bundle, options: Mapping[str, Any], device: torch.device) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(entry.folder / "configs" / "inference.json"))
    given = {"bundle_root": str(entry.folder), "dataset_dir": str(entry.folder / "no data set"), **options}
    for key, value in given.items():
        parser[key] = value
    parser["device"] = f"$torch.device('{device}')"
    config: Any = parser.config
    keys = [key for key in MEANINGS if key in config]
    check_options({key: parser.get_parsed_content(key) for key in keys})
    return parser


def _loaded(parser: ConfigParser) -> nn.Module:
    """The network with its weights, loaded as the bundle's own run loads them."""
    steps: list[Any] = parser["initialize"]
    place = next(number for number, step in enumerate(steps) if str(step).startswith("$load_"))
    parser.get_parsed_content(f"initialize::{place}")
    return parser.get_parsed_content("network")


def _kept(compose: Compose) -> list[Any]:
    return [step for step in compose.transforms if not isinstance(step, _OF_A_LIST)]


def _labels(entry: Bundle, parser: ConfigParser) -> dict[int, str]:
    """Names by the values that the label map is written with."""
    config: Any = parser.config
    if "graph" in config:
        return dict(parser.get_parsed_content("graph").names)
    if "labels" in config:
        return {int(value): text for value, text in parser.get_parsed_content("labels").items()}
    if "output_convention" in config:
        return label_names(parser.get_parsed_content("output_convention"))
    return dict(entry.labels)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device is {name}, which is not here ({str(error).splitlines()[0]}): give cpu.") from None
    return device


def _is_plain(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return all(part is None or isinstance(part, bool | int | float | str) for part in parts)
