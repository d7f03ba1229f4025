# SPDX-License-Identifier: Apache-2.0
"""Rules about drift: what train, evaluate and inference share is the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from custom_nets.config_linter.comparing import DIFFER, compare, pairs, place, short, transforms, without
from custom_nets.config_linter.reading import BundleFiles, Config, Finding, nodes_of
from custom_nets.config_linter.stage_rules import STAGES_OF
from custom_nets.options import options_in

#: Arguments of the inferer that say how predictions are averaged over flips, brought back to the scan, or shown, and
#: where a later stage's input comes from if the first one does not run.
_HOW_ONLY = ("tta", "flips", "pairs", "resize_back", "progress", "logits")
#: How a key metric begins that the user chooses by its name.
_BY_NAME = "$chosen_first(@validate::metrics,"
#: Components of a network of slices, and their arguments that are the same wherever one configuration gives them.
_SLICES = {
    "custom_nets.S2aNet": ("num_slices",),
    "custom_nets.slices.dataset.SliceWindows": ("num_slices",),
    "custom_nets.slices.inferer.SliceStackInferer": ("num_slices", "plane"),
    "custom_nets.slices.planes.SlicesFirstd": ("plane",),
    "custom_nets.slices.preparation.SlicePreparation": ("mean", "std", "intensity", "index_rule"),
    "custom_nets.slices.transforms.NormaliseSlicesd": ("mean", "std"),
}


def networks_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """network_def is the same, or one of stages: a checkpoint of one workflow fits the others."""
    for first, second in pairs(bundle, apart=STAGES_OF):
        yield from compare(first, second, "network_def", first.at("network_def"), second.at("network_def"))


def image_preprocessing_agrees(bundle: BundleFiles) -> Iterator[Finding]:
    """The image goes through the same deterministic transforms; labels and copies do not count."""
    for config in bundle.standing_alone():
        if config.workflow == "train":
            ids = ("train::deterministic_transforms", "validate::preprocessing")
            training, validation = (transforms(config.at(name), "image") for name in ids)
            yield from compare(config, config, ids[1], _as_validated(training, validation), validation)
    for first, second in pairs(bundle, apart=STAGES_OF):
        chains = (transforms(config.at(place(config, "preprocessing")), "image") for config in (first, second))
        yield from compare(first, second, place(second, "preprocessing"), *chains)


def inferers_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Windows are cut and joined the same way; flips and the progress bar do not count."""
    for first, second in pairs(bundle):
        inferers = (without(config.at(place(config, "inferer")), _HOW_ONLY) for config in (first, second))
        yield from compare(first, second, place(second, "inferer"), *inferers)


def slices_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Slices are cut, scaled and joined to windows alike in training, in validation and by the inferer."""
    for config in bundle.standing_alone():
        first: dict[str, Any] = {}
        for key, part in nodes_of(config.resolved):
            for name in _SLICES.get(str(part.get("_target_")), ()) if isinstance(part, dict) else ():
                found = part.get(name)
                if found != first.setdefault(name, found):
                    problem = f"is {short(found)}, but {short(first[name])} before"
                    yield config.finding(f"{key}::{name}", problem, "make them the same")


def postprocessing_agrees(bundle: BundleFiles) -> Iterator[Finding]:
    """Probabilities become labels by the same transforms; the way back to the scan's grid does not count."""
    for first, second in pairs(bundle):
        chains = (transforms(config.at(place(config, "postprocessing")), "pred") for config in (first, second))
        yield from compare(first, second, place(second, "postprocessing"), *chains)


def key_metrics_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Evaluation reports the metric that chose the checkpoint, unless a loss did."""
    for first, second in pairs(bundle):
        if "inference" not in (first.workflow, second.workflow) and not _chosen_by_loss(first):
            choosing, reported = (config.at("validate::key_metric") for config in (first, second))
            if isinstance(reported, dict):
                by_name = str(choosing).startswith(_BY_NAME)
                choosing = _among(first.at("validate::metrics") if by_name else choosing, reported)
            yield from compare(first, second, "validate::key_metric", choosing, reported)


def defaults_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """An option that several workflows have has the same default in all of them, or that of a later training stage."""
    stages = [config.own for config in bundle.configs.values() if config.overlay and config.workflow == "train"]
    for first, second in pairs(bundle):
        mine, theirs = options_in(first.own), options_in(second.own)
        for key in mine:
            staged = any(key in stage and stage[key] == theirs.get(key) for stage in stages)
            if key in theirs and key not in DIFFER and not staged:
                yield from compare(first, second, key, mine[key], theirs[key])


def forms_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """A top-level key is a component in every workflow, or in none."""
    for first, second in pairs(bundle):
        for key in first.own:
            if key in second.own and isinstance(first.own[key], dict) != isinstance(second.own[key], dict):
                yield from compare(first, second, key, first.own[key], second.own[key])


def _chosen_by_loss(config: Config) -> bool:
    metrics = config.at("validate::key_metric")
    return isinstance(metrics, dict) and any(m.get("_target_") == "ignite.metrics.Loss" for m in metrics.values())


def _among(metrics: Any, reported: dict[str, Any]) -> dict[str, Any]:
    """Those of a training's metrics that are reported; arguments that the training does not give count as reported."""
    given = metrics if isinstance(metrics, dict) else {}
    return {
        name: {key: given[name].get(key, value) for key, value in metric.items()}
        for name, metric in reported.items()
        if isinstance(given.get(name), dict)
    }


def _as_validated(training: list[Any] | None, validation: list[Any] | None) -> list[Any] | None:
    """Training's transforms, of which it may switch off what validation always does: it is done behind the crop."""
    if training is None or validation is None or len(training) != len(validation):
        return training
    return [
        without(one, () if isinstance(other, dict) and "_disabled_" in other else ("_disabled_",))
        for one, other in zip(training, validation, strict=True)
    ]


BUNDLE_RULES = (
    networks_agree,
    image_preprocessing_agrees,
    inferers_agree,
    slices_agree,
    postprocessing_agrees,
    key_metrics_agree,
    defaults_agree,
    forms_agree,
)
