# SPDX-License-Identifier: Apache-2.0
"""How rules compare configurations: which ones with one another, and what of a chain of transforms counts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from custom_nets.config_linter.reading import BundleFiles, Config, Finding
from custom_nets.options import WORKFLOWS

#: Options whose default may differ from workflow to workflow.
DIFFER = ("section", "output_dir", "num_workers")
#: Transforms that copy, name, bring a prediction back to the scan's grid, write it, or that an inferer does by itself.
_BESIDE = (
    *("CopyItemsd", "Invertd", "SaveImaged", "custom_nets.slices.planes.SlicesFirstd"),
    *("custom_nets.case_names.CaseNamed", "custom_nets.case_names.NamedPredictiond"),
    *("custom_nets.tumours.transforms.OutputConventiond", "custom_nets.label_graphs.transforms.NodesToLabelsd"),
    "custom_nets.spine.order_check.OrderCheckd",
)
#: Arguments of a dictionary transform that may hold one value a key.
_ONE_A_KEY = ("mode", "padding_mode", "align_corners", "dtype")


def pairs(bundle: BundleFiles, apart: Collection[str] = ()) -> Iterator[tuple[Config, Config]]:
    """Each configuration of a stage with the first one of that stage, which is train where there is one.

    Those whose network's `_target_` is in ``apart`` are only put together with one another.
    """
    ordered = sorted(bundle.standing_alone(), key=lambda config: WORKFLOWS.index(config.workflow))
    groups: dict[tuple[str, str], list[Config]] = {}
    for config in ordered:
        target = str(config.at("network_def::_target_"))
        groups.setdefault((config.stage, target if target in apart else ""), []).append(config)
    for _, (first, *others) in sorted(groups.items()):
        for second in others:
            yield first, second


def compare(first: Config, second: Config, key: str, mine: Any, theirs: Any) -> Iterator[Finding]:
    """Yield what is not the same under ``key`` of ``second`` as in ``first``; of lists of a length the entries."""
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            if one != other:
                yield from compare(first, second, f"{key}[{number}]", one, other)
    elif mine != theirs:
        problem = f"is {short(theirs)}, but {short(mine)} in {first.where.rpartition('/')[2]}"
        yield second.finding(key, problem, "make them the same")


def short(value: Any) -> str:
    """Return a value as JSON, cut off where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."


def place(config: Config, name: str) -> str:
    """Where a workflow keeps its inferer, pre- and postprocessing."""
    return name if config.workflow == "inference" else f"validate::{name}"


def without(value: Any, names: tuple[str, ...]) -> Any:
    """Return nested mappings without the keys in ``names``."""
    if isinstance(value, dict):
        return {key: without(part, names) for key, part in value.items() if key not in names}
    return value


def transforms(chain: Any, key: str) -> list[Any] | None:
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
