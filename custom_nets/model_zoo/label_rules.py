# SPDX-License-Identifier: Apache-2.0
"""Rules of the Model Zoo and of MONAI Label about ids and transforms of the configurations, beyond the linter's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from custom_nets.config_linter.reading import Config, has, nodes_of, references_in
from custom_nets.model_zoo.verdicts import Problem, Subject, fails

_VALIDATION = ("evaluator", "handlers", "dataset", "dataset::data")
_TRAINING = ("train::handlers", "train::dataset::data")
_PARALLEL = ("device", "network", "initialize", "run", "training", "finalize")
#: What MONAI Label's inference looks up; one of each.
_SERVED = (
    *(("network_def",), ("preprocessing", "pre_transforms"), ("inferer",), ("postprocessing", "post_transforms")),
    *(("device",), ("bundle_root",)),
)
#: What MONAI Label's training looks up or changes.
_TRAINED = (
    *("run", "train::trainer::max_epochs", "train::dataset::data", "validate::dataset::data", "train::handlers"),
    *("device", "bundle_root", "network"),
)
#: Transforms after which a prediction does not lie on the scan's grid.
_MOVES = ("Orientation", "Spacing", "Crop", "Pad", "Resize", "Flip", "Rotate", "Zoom")
_BEFORE_TRAINING = ("image", "label")


def trainings_have_the_zoos_ids(subject: Subject) -> Iterator[Problem]:
    """A training has handlers and data, and evaluator, handlers and data of its validation, under the Zoo's ids."""
    names = (*_TRAINING, *(f"validate::{name}" for name in _VALIDATION))
    yield from _missing(subject, "train", tuple((name,) for name in names))


def several_gpus_have_the_zoos_ids(subject: Subject) -> Iterator[Problem]:
    """multi_gpu_train.json changes device, network, initialize, run and finalize."""
    config = subject.files.configs.get("multi_gpu_train")
    for name in _PARALLEL if config else ():
        if config and name not in config.own:
            yield fails(f"{config.where} has no '{name}'", "add it")


def label_finds_what_it_serves(subject: Subject) -> Iterator[Problem]:
    """inference.json has the ids that MONAI Label serves."""
    yield from _missing(subject, "inference", _SERVED)


def label_finds_what_it_trains(subject: Subject) -> Iterator[Problem]:
    """train.json has the ids that MONAI Label trains with."""
    yield from _missing(subject, "train", tuple((name,) for name in _TRAINED))


def images_are_read_alone(subject: Subject) -> Iterator[Problem]:
    """inference.json reads `image` alone, by LoadImaged and EnsureChannelFirstd: one 4D file or a list of 3D ones."""
    config = subject.files.configs.get("inference")
    steps = _steps(config, "preprocessing") if config else []
    targets = [step.get("_target_") for step in steps]
    for number, step in enumerate(steps):
        if step.get("_target_") == "LoadImaged":
            if step.get("keys") not in ("image", ["image"]):
                yield fails(f"LoadImaged has the keys {step.get('keys')!r}", "read 'image'")
            if targets[number + 1 : number + 2] != ["EnsureChannelFirstd"]:
                yield fails("LoadImaged is not followed by EnsureChannelFirstd", "put it there")
    if steps and "LoadImaged" not in targets:
        yield fails("preprocessing has no LoadImaged", "begin with it")


def the_scans_grid_comes_back(subject: Subject) -> Iterator[Problem]:
    """Where inference.json turns, crops or resamples the image, Invertd undoes it."""
    config = subject.files.configs.get("inference")
    if config is None:
        return
    before = [str(step.get("_target_")).rpartition(".")[2] for step in _steps(config, "preprocessing")]
    moved = [name for name in before if any(part in name for part in _MOVES)]
    after = [step.get("_target_") for step in _steps(config, "postprocessing")]
    if moved and "Invertd" not in after:
        yield fails(f"nothing undoes {', '.join(moved)}", "add Invertd to postprocessing")


def orientation_labels_are_given(subject: Subject) -> Iterator[Problem]:
    """Orientationd gets its labels, null for the file's own: MONAI warns of its default."""
    for config in subject.files.configs.values():
        for key, value in config.nodes():
            if isinstance(value, dict) and value.get("_target_") == "Orientationd" and "labels" not in value:
                yield fails(f"{config.where}: {key} has none", 'write "labels": null')


def training_reads_image_and_label(subject: Subject) -> Iterator[Problem]:
    """train.json reads image and label and nothing else: MONAI Label hands over no more."""
    config = subject.files.configs.get("train")
    for key, step in nodes_of(config.resolved) if config else ():
        if isinstance(step, dict) and step.get("_target_") == "LoadImaged":
            keys = step.get("keys")
            more = sorted(set([keys] if isinstance(keys, str) else keys or []) - set(_BEFORE_TRAINING))
            if more:
                yield fails(f"{key} reads {', '.join(more)} too", "derive it from image and label")


def schedules_follow_the_trainer(subject: Subject) -> Iterator[Problem]:
    """The learning rate follows train::trainer::max_epochs, which a host may set, and not another number of epochs."""
    config = subject.files.configs.get("train")
    if config is not None and "epochs" in {
        name for _, value in nodes_of(config.merged.get("lr_scheduler")) for name in references_in(value)
    }:
        yield fails("lr_scheduler refers to @epochs", "refer to @train::trainer::max_epochs")


def the_best_model_is_served(subject: Subject) -> Iterator[Problem]:
    """Training writes its best model into the bundle's models, where MONAI Label loads it from."""
    config = subject.files.configs.get("train")
    given = str(config.at("ckpt_dir")) if config else ""
    if config and not ("@bundle_root" in given and "models" in given):
        yield fails(f"ckpt_dir is {given}", "write \"$@bundle_root + '/models'\"")


def _missing(subject: Subject, name: str, wanted: tuple[tuple[str, ...], ...]) -> Iterator[Problem]:
    """Ids of which a configuration has none of the names; one that is not there is the linter's finding."""
    config = subject.files.configs.get(name)
    for names in wanted if config else ():
        if config and not any(has(config.resolved, one) for one in names):
            yield fails(f"{config.where} has no {' or '.join(names)}", "add it")


def _steps(config: Config, name: str) -> list[dict[str, Any]]:
    chain = config.at(name)
    steps = chain.get("transforms", []) if isinstance(chain, dict) else chain or []
    return [step for step in steps if isinstance(step, dict)]


RULES = (
    trainings_have_the_zoos_ids,
    several_gpus_have_the_zoos_ids,
    label_finds_what_it_serves,
    label_finds_what_it_trains,
    images_are_read_alone,
    the_scans_grid_comes_back,
    orientation_labels_are_given,
    training_reads_image_and_label,
    schedules_follow_the_trainer,
    the_best_model_is_served,
)
