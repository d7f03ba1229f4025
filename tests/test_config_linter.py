# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from custom_nets.config_linter import (
    BUNDLE_RULES,
    CONFIG_RULES,
    drift_rules,
    lint,
    metadata_rules,
    read_bundle,
    stage_rules,
)
from custom_nets.config_linter.allowed_calls import ALLOWED, calls_of
from custom_nets.config_linter.folder_rules import write_card
from custom_nets.registry import ROOT, available
from tests.spoiled_configs import CARD, GONE, SPOILED, SPOILED_STAGES, Spoil, copied, put
from tests.spoiled_region_configs import SPOILED_REGIONS
from tests.spoiled_slice_configs import SPOILED_SLICES
from tests.spoiled_spine_configs import SPOILED_SPINES

_ALL = [*SPOILED, *SPOILED_STAGES, *SPOILED_SLICES, *SPOILED_REGIONS, *SPOILED_SPINES]


@pytest.mark.parametrize("name", available())
def test_the_bundles_are_clean(name: str) -> None:
    assert list(map(str, lint(ROOT / "bundles" / name))) == []


@pytest.mark.parametrize("name", available())
def test_the_copy_is_clean_before_it_is_spoiled(name: str, tmp_path: Path) -> None:
    assert list(map(str, lint(copied(tmp_path, name)))) == []


@pytest.mark.parametrize(("rule", "spoil", "line"), _ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_spoiled_is_reported_by_its_rule(rule: str, spoil: Spoil, line: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, line.partition("/")[0])
    spoil(folder)
    bundle = read_bundle(folder)
    found = [finding for one in BUNDLE_RULES if one.__name__ == rule for finding in one(bundle)]
    for one in CONFIG_RULES:
        if one.__name__ == rule:
            found += [finding for config in bundle.configs.values() for finding in one(config)]
    assert [text for text in map(str, found) if text.startswith(line)], list(map(str, found))
    assert {str(finding) for finding in found} <= {str(finding) for finding in lint(folder)}


@pytest.mark.parametrize(
    "change",
    [
        put("train", "network_def::num_slices", GONE),  # the network's own default, 3
        put("evaluate", "validate::key_metric::mean_dice::surface", False),  # as the training
        put("train", "validate::key_metric", "$chosen_first(@validate::metrics, 'mean_dice')"),
        put("inference", "inferer::inferer::resize_back", "probabilities"),
        put("train", "inferer::inferer::progress", True),
    ],
)
def test_what_may_differ_in_a_bundle_of_slices_is_no_drift(change: Spoil, tmp_path: Path) -> None:
    folder = copied(tmp_path, "s2anet")
    change(folder)
    bundle = read_bundle(folder)
    rules = ("channels_are_the_networks", "inferers_agree", "key_metrics_agree", "image_preprocessing_agrees")
    assert [str(found) for one in BUNDLE_RULES if one.__name__ in rules for found in one(bundle)] == []


@pytest.mark.parametrize(
    "change",
    [
        put("train", "train::deterministic_transforms::7::_disabled_", GONE),  # of crops, never
        put("train", "validate::key_metric::mean_dice::surface", True),
        put("evaluate", "validate::key_metric::mean_dice::resamples", 10),
        put("inference", "postprocessing::transforms::5::convention", "msd"),
        put("inference", "postprocessing::transforms::6::names", "case"),
        put("inference", "preprocessing::transforms::0::name_key", "name"),
    ],
)
def test_what_may_differ_in_a_bundle_of_regions_is_no_drift(change: Spoil, tmp_path: Path) -> None:
    folder = copied(tmp_path, "s2ca_net")
    change(folder)
    bundle = read_bundle(folder)
    rules = ("image_preprocessing_agrees", "postprocessing_agrees", "key_metrics_agree")
    assert [str(found) for one in BUNDLE_RULES if one.__name__ in rules for found in one(bundle)] == []


@pytest.mark.parametrize(
    "change",
    [
        put("inference", "inferer::inferer::logits", GONE),
        put("evaluate", "inferer::inferer::tta", True),
        put("inference", "postprocessing::transforms::1", GONE),  # the report of the order
        put("pretrain", "graph_mode", "transfer"),
        put("pretrain", "epochs", 7),
        put("refine", "computed_logits", GONE),
        put("refine", "epochs", 7),
    ],
)
def test_what_may_differ_in_a_bundle_of_stages_is_no_drift(change: Spoil, tmp_path: Path) -> None:
    folder = copied(tmp_path, "spineparsenet")
    change(folder)
    bundle = read_bundle(folder)
    rules = (*stage_rules.BUNDLE_RULES, *drift_rules.BUNDLE_RULES, *metadata_rules.BUNDLE_RULES)
    assert [str(found) for one in rules for found in one(bundle)] == []


def test_every_rule_is_tested_and_says_what_it_wants() -> None:
    rules = [*BUNDLE_RULES, *CONFIG_RULES]
    assert {rule.__name__ for rule in rules} == {rule for rule, _, _ in _ALL}
    assert all(rule.__doc__ and len(rule.__doc__.strip().splitlines()) == 1 for rule in rules)


def test_the_allow_list_holds_nothing_that_no_bundle_uses() -> None:
    used = {call for name in available() for call in calls_of(read_bundle(ROOT / "bundles" / name))}
    assert set(ALLOWED) == used


def test_the_card_is_written_between_its_markers_only(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    card = folder / "docs" / "README.md"
    card.write_text(f"before\n{CARD}after\n")
    assert write_card(read_bundle(folder)) == card
    text = card.read_text()
    assert text.startswith("before\n# A card") and text.endswith("<!-- /options -->\nafter\n")
    assert "| `torch.device` | evaluate, inference, multi_gpu_train, train |" in text
    assert "| `epochs` | `200` | train |" in text
    assert write_card(read_bundle(folder)) is None
