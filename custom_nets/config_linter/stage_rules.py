# SPDX-License-Identifier: Apache-2.0
"""Rules about a network whose stages are trained one by one, each with a configuration of its own, and run as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from custom_nets.bundle_configs import RENAMED
from custom_nets.config_linter.comparing import DIFFER, compare, place, transforms
from custom_nets.config_linter.reading import BundleFiles, Config, Finding
from custom_nets.options import options_in


@dataclass(frozen=True)
class Stage:
    """One stage of a network.

    Attributes:
        prepared: what its training does to the image last and the whole network by itself; "@NAME" is the whole
            network's argument NAME.
        renamed: options of its training -> how they are called where the whole network runs.
    """

    prepared: tuple[Mapping[str, Any], ...]
    renamed: Mapping[str, str] = field(default_factory=dict)


_SPINE = "custom_nets.spine.transforms"
_CROPPED = {"_target_": f"{_SPINE}.CropCentrald", "share": "@crop_share"}
_NORMALISED = {"_target_": "NormalizeIntensityd", "subtrahend": "@intensity_mean", "divisor": "@intensity_std"}

#: Network of stages -> the networks of its stages.
STAGES_OF: dict[str, dict[str, Stage]] = {
    "custom_nets.SpineParseNet": {
        "custom_nets.GCSN": Stage(
            (
                _CROPPED,
                {"_target_": f"{_SPINE}.ResizeInPlaned", "size": "$@coarse_size[1:]", "mode": "spline"},
                {"_target_": f"{_SPINE}.PadSlicesd", "slices": "$@coarse_size[0]"},
                _NORMALISED,
            )
        ),
        "custom_nets.ResUNet2d": Stage(
            (_CROPPED, {"_target_": f"{_SPINE}.ResizeInPlaned", "size": "@fine_size", "mode": "spline"}, _NORMALISED),
            renamed=RENAMED["custom_nets.ResUNet2d"],
        ),
    }
}
#: What a training of the same network as train.json may have otherwise: one from which that starts.
_OF_A_START = ("imports", "ckpt_dir", "output_dir", "pretrained", "pretrained_share", "epochs", "graph_mode")
#: Of a stage's network what the labels decide, which the whole network has from its graph.
_FROM_THE_GRAPH = ("coarse_channels", "out_channels")
#: A later stage's component that computes the earlier one's output, and where that one's input is prepared.
_COMPUTED = "computed_logits"
#: Adds to the image's case what is no image.
_ADDED = "custom_nets.spine.logits_sources.AddCoarseLogitsd"


def stages_get_their_arguments(bundle: BundleFiles) -> Iterator[Finding]:
    """A network of stages gets the arguments with which its stages are trained."""
    for training, stage, whole in _trained_stages(bundle):
        given = _renamed(training.at("network_def"), stage)
        for name in sorted(set(given) - {"_target_", *_FROM_THE_GRAPH} - _only_of_a_start(bundle, training)):
            key = f"network_def::{name}"
            yield from compare(training, whole, key, given[name], whole.at("network_def").get(name))


def stages_see_their_images(bundle: BundleFiles) -> Iterator[Finding]:
    """A network of stages, and what is done before it, make of an image what its stages are trained on."""
    for training, stage, whole in _trained_stages(bundle):
        trained = _renamed(_image_chain(training), stage)
        key = place(whole, "preprocessing")
        before = transforms(whole.at(key), "image")
        if trained is not None and before is not None:
            yield from compare(training, whole, key, trained, [*before, *_by_itself(stage, whole)])


def stages_have_the_same_defaults(bundle: BundleFiles) -> Iterator[Finding]:
    """An option that a later stage's training shares with the whole network has the same default."""
    for training, stage, whole in _trained_stages(bundle):
        theirs = options_in(whole.own)
        for key, value in options_in(training.own).items():
            name = stage.renamed.get(key, key)
            if training.stage and name in theirs and name not in (*DIFFER, *_only_of_a_start(bundle, training)):
                yield from compare(training, whole, name, value, theirs[name])


def trainings_of_one_network_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """A training from which train.json starts differs from it in what a start may differ in, and in nothing else."""
    main = _main_training(bundle)
    for training in bundle.standing_alone():
        if main is not None and training is not main and _is_start(training, main):
            for key in dict.fromkeys((*main.own, *training.own)):
                if key not in _OF_A_START:
                    yield from compare(main, training, key, main.own.get(key), training.own.get(key))


def computed_stages_are_the_trained_ones(bundle: BundleFiles) -> Iterator[Finding]:
    """Where a later stage's training computes the earlier one's output, network and image are those of its training."""
    main = _main_training(bundle)
    for training, stage, _ in _trained_stages(bundle):
        computed = training.own.get(_COMPUTED)
        if main is None or not isinstance(computed, dict):
            continue
        network, chain = _renamed(computed.get("network"), stage), transforms(computed.get("transform"), "image")
        yield from compare(main, training, f"{_COMPUTED}::network", main.at("network_def"), network)
        yield from compare(main, training, f"{_COMPUTED}::transform", _image_chain(main), _renamed(chain, stage))


def _trained_stages(bundle: BundleFiles) -> Iterator[tuple[Config, Stage, Config]]:
    """Each training of a stage, what is known of that stage, and each configuration that runs the whole network."""
    for whole in bundle.standing_alone():
        stages = STAGES_OF.get(str(whole.at("network_def::_target_")), {})
        for training in bundle.standing_alone():
            stage = stages.get(str(training.at("network_def::_target_")))
            if training.workflow == "train" and stage is not None:
                yield training, stage, whole


def _main_training(bundle: BundleFiles) -> Config | None:
    return next((one for one in bundle.standing_alone() if (one.workflow, one.stage) == ("train", "")), None)


def _is_start(training: Config, main: Config) -> bool:
    """Whether it trains the network of the main training."""
    same = training.at("network_def::_target_") == main.at("network_def::_target_")
    return training.workflow == "train" and bool(training.stage) and same


def _only_of_a_start(bundle: BundleFiles, training: Config) -> set[str]:
    main = _main_training(bundle)
    return set(_OF_A_START) if main is not None and _is_start(training, main) else set()


def _image_chain(training: Config) -> list[Any] | None:
    chain = transforms(training.at("train::deterministic_transforms"), "image")
    return None if chain is None else [step for step in chain if step.get("_target_") != _ADDED]


def _by_itself(stage: Stage, whole: Config) -> list[Any]:
    """What the network does to the image, as transforms, in the options of the configuration that runs it."""
    arguments = whole.at("network_def")
    steps = _replaced(list(stage.prepared), lambda name: str(arguments.get(name, f"no argument {name}")))
    return [{"_target_": step["_target_"], "keys": "image", **step} for step in steps]


def _renamed(value: Any, stage: Stage) -> Any:
    return _replaced(value, lambda name: f"@{stage.renamed.get(name, name)}")


def _replaced(value: Any, change: Callable[[str], str]) -> Any:
    """Replace every reference @NAME in nested values."""
    if isinstance(value, dict):
        return {key: _replaced(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, change) for part in value]
    return re.sub(r"@(\w+)", lambda found: change(found[1]), value) if isinstance(value, str) else value


BUNDLE_RULES = (
    stages_get_their_arguments,
    stages_see_their_images,
    stages_have_the_same_defaults,
    trainings_of_one_network_agree,
    computed_stages_are_the_trained_ones,
)
