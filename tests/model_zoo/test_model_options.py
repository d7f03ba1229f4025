# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.model_zoo.model_options import overlay_options, read_configs, with_options
from custom_nets.registry import bundle


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        ("rsanet", {"filters": [1, 2]}, {("train", "filters"), ("evaluate", "filters"), ("inference", "filters")}),
        ("rsanet", {"epochs": 7}, {("train", "epochs")}),
        # an overlay keeps its own: it is for another stage
        ("zoom_resunet", {"patch_size": [8]}, {(name, "patch_size") for name in ("train", "evaluate", "inference")}),
        (
            "spineparsenet",
            {"fine_size": [8]},
            {*((n, "fine_size") for n in ("evaluate", "inference")), ("refine", "patch_size")},
        ),
        (
            "spineparsenet",
            {"patch_size": [4]},
            {*((n, "patch_size") for n in ("pretrain", "train", "evaluate", "inference")), ("refine", "coarse_size")},
        ),
    ],
)
def test_an_option_is_set_wherever_the_model_has_it(
    name: str, options: dict[str, Any], places: set[tuple[str, str]]
) -> None:
    before = read_configs(bundle(name).folder)
    after = with_options(before, options)
    changed = {(file, key) for file in before for key in before[file] if before[file][key] != after[file][key]}
    assert changed == places
    assert {str(after[file][key]) for file, key in places} == {str(value) for value in options.values()}
    assert all(before[file].keys() == after[file].keys() for file in before)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("filter", r"--filter: is no option of this bundle; did you mean --filters\?"),
        ("dataset_dir", "--dataset_dir: is not of a model but of a run"),
        ("network", "--network: is no option of this bundle"),
    ],
)
def test_what_is_no_option_of_the_model_is_refused(option: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        with_options(read_configs(bundle("rsanet").folder), {option: 1})


def test_an_overlay_gives_what_it_says_of_the_model() -> None:
    configs = read_configs(bundle("rsanet").folder)
    assert configs["demo"]["num_workers"] == 0
    assert overlay_options(configs, "demo") == {k: v for k, v in configs["demo"].items() if k != "num_workers"}
    for unknown in ("train", "gone"):
        with pytest.raises(InputError, match=f"overlay '{unknown}' is unknown: choose one of demo"):
            overlay_options(configs, unknown)
