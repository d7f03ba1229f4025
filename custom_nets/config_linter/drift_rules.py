# SPDX-License-Identifier: Apache-2.0
"""Rules about drift: what train, evaluate and inference share is the same in all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from custom_nets.config_linter.reading import BundleFiles, Config, Finding, nodes_of
from custom_nets.options import WORKFLOWS, options_in

#: Options whose default may differ from workflow to workflow.
_DIFFER = ("section", "output_dir", "num_workers")
#: Arguments of the inferer that say how predictions are averaged over flips, brought back to the scan, or shown.
_HOW_ONLY = ("tta", "flips", "pairs", "resize_back", "progress")
#: Transforms that copy, name, bring a prediction back to the scan's grid, write it, or that an inferer does by itself.
_BESIDE = (
    *("CopyItemsd", "Invertd", "SaveImaged", "custom_nets.slices.planes.SlicesFirstd"),
    *("custom_nets.case_names.CaseNamed", "custom_nets.case_names.NamedPredictiond"),
    "custom_nets.tumours.transforms.OutputConventiond",
)
#: How a key metric begins that the user chooses by its name.
_BY_NAME = "$chosen_first(@validate::metrics,"
#: Arguments of a dictionary transform that may hold one value a key.
_ONE_A_KEY = ("mode", "padding_mode", "align_corners", "dtype")
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
    """network_def is the same: a checkpoint of one workflow fits the others."""
    for first, second in _pairs(bundle):
        yield from _compare(first, second, "network_def", first.at("network_def"), second.at("network_def"))


def image_preprocessing_agrees(bundle: BundleFiles) -> Iterator[Finding]:
    """The image goes through the same deterministic transforms; labels and copies do not count."""
    for config in bundle.standing_alone():
        if config.workflow == "train":
            ids = ("train::deterministic_transforms", "validate::preprocessing")
            training, validation = (_transforms(config.at(name), "image") for name in ids)
            yield from _compare(config, config, ids[1], _as_validated(training, validation), validation)
    for first, second in _pairs(bundle):
        chains = (_transforms(config.at(_place(config, "preprocessing")), "image") for config in (first, second))
        yield from _compare(first, second, _place(second, "preprocessing"), *chains)


def inferers_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Windows are cut and joined the same way; flips and the progress bar do not count."""
    for first, second in _pairs(bundle):
        inferers = (_without(config.at(_place(config, "inferer")), _HOW_ONLY) for config in (first, second))
        yield from _compare(first, second, _place(second, "inferer"), *inferers)


def slices_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Slices are cut, scaled and joined to windows alike in training, in validation and by the inferer."""
    for config in bundle.standing_alone():
        first: dict[str, Any] = {}
        for key, part in nodes_of(config.resolved):
            for name in _SLICES.get(str(part.get("_target_")), ()) if isinstance(part, dict) else ():
                found = part.get(name)
                if found != first.setdefault(name, found):
                    problem = f"is {_short(found)}, but {_short(first[name])} before"
                    yield config.finding(f"{key}::{name}", problem, "make them the same")


def postprocessing_agrees(bundle: BundleFiles) -> Iterator[Finding]:
    """Probabilities become labels by the same transforms; the way back to the scan's grid does not count."""
    for first, second in _pairs(bundle):
        chains = (_transforms(config.at(_place(config, "postprocessing")), "pred") for config in (first, second))
        yield from _compare(first, second, _place(second, "postprocessing"), *chains)


def key_metrics_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """Evaluation reports the metric that chose the checkpoint, unless a loss did."""
    for first, second in _pairs(bundle):
        if "inference" not in (first.workflow, second.workflow) and not _chosen_by_loss(first):
            choosing, reported = (config.at("validate::key_metric") for config in (first, second))
            if isinstance(reported, dict):
                by_name = str(choosing).startswith(_BY_NAME)
                choosing = _among(first.at("validate::metrics") if by_name else choosing, reported)
            yield from _compare(first, second, "validate::key_metric", choosing, reported)


def defaults_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """An option that several workflows have has the same default in all of them, or that of a later training stage."""
    stages = [config.own for config in bundle.configs.values() if config.overlay and config.workflow == "train"]
    for first, second in _pairs(bundle):
        mine, theirs = options_in(first.own), options_in(second.own)
        for key in mine:
            staged = any(key in stage and stage[key] == theirs.get(key) for stage in stages)
            if key in theirs and key not in _DIFFER and not staged:
                yield from _compare(first, second, key, mine[key], theirs[key])


def forms_agree(bundle: BundleFiles) -> Iterator[Finding]:
    """A top-level key is a component in every workflow, or in none."""
    for first, second in _pairs(bundle):
        for key in first.own:
            if key in second.own and isinstance(first.own[key], dict) != isinstance(second.own[key], dict):
                yield from _compare(first, second, key, first.own[key], second.own[key])


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


def _pairs(bundle: BundleFiles) -> Iterator[tuple[Config, Config]]:
    """Each configuration of a stage with the first one of that stage, which is train where there is one."""
    ordered = sorted(bundle.standing_alone(), key=lambda config: WORKFLOWS.index(config.workflow))
    for stage in sorted({config.stage for config in ordered}):
        first, *others = [config for config in ordered if config.stage == stage]
        for second in others:
            yield first, second


def _compare(first: Config, second: Config, key: str, mine: Any, theirs: Any) -> Iterator[Finding]:
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            if one != other:
                yield from _compare(first, second, f"{key}[{number}]", one, other)
    elif mine != theirs:
        problem = f"is {_short(theirs)}, but {_short(mine)} in {first.where.rpartition('/')[2]}"
        yield second.finding(key, problem, "make them the same")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _place(config: Config, name: str) -> str:
    """Where a workflow keeps its inferer, pre- and postprocessing."""
    return name if config.workflow == "inference" else f"validate::{name}"


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(part, names) for key, part in value.items() if key not in names}
    return value


def _as_validated(training: list[Any] | None, validation: list[Any] | None) -> list[Any] | None:
    """Training's transforms, of which it may switch off what validation always does: it is done behind the crop."""
    if training is None or validation is None or len(training) != len(validation):
        return training
    return [
        _without(one, () if isinstance(other, dict) and "_disabled_" in other else ("_disabled_",))
        for one, other in zip(training, validation, strict=True)
    ]


def _transforms(chain: Any, key: str) -> list[Any] | None:
    """The transforms of a list or a Compose that change ``key``, reduced to what they do with it."""
    steps = chain.get("transforms") if isinstance(chain, dict) else chain
    if not isinstance(steps, list):
        return None
    return [_reduced(step, key) for step in steps if not isinstance(step, dict) or _concerns(step, key)]


def _concerns(step: dict[str, Any], key: str) -> bool:
    return key in _keys(step) and step.get("_target_") not in _BESIDE


def _reduced(step: Any, key: str) -> Any:
    if not isinstance(step, dict):
        return step
    keys = _keys(step)
    reduced = {**step, "keys": key}
    for name in _ONE_A_KEY:
        values = step.get(name)
        if isinstance(values, list) and len(values) == len(keys):
            reduced[name] = values[keys.index(key)]
    return reduced


def _keys(step: dict[str, Any]) -> list[str]:
    keys = step.get("keys", [])
    return keys if isinstance(keys, list) else [keys]


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
