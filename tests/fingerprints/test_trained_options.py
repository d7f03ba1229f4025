# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.bundle_configs import Configs, read_configs
from custom_nets.errors import InputError
from custom_nets.fingerprints.trained_options import given_options, trained_options, with_files
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.model_zoo.labels import own_labels
from custom_nets.model_zoo.model_options import overlay_options, with_options
from custom_nets.registry import bundle

TABLE = {"0": "background", "1": "Femur, left", "2": "Femur, right"}


def configs_of(name: str) -> Configs:
    return read_configs(bundle(name).folder)


def trained(name: str, stage: str = "train", network: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Of a training with the bundle's own options but ``changes``."""
    config = configs_of(name)[stage]
    return trained_options(name, {**config, **changes}, {**config["network_def"], **(network or {})})


@pytest.mark.parametrize("name", ["rsanet", "zoom_resunet", "s2anet", "s2ca_net"])
def test_a_training_with_the_defaults_needs_no_options(name: str) -> None:
    assert trained(name) == {}


def test_options_that_an_inference_has_are_kept_and_no_others() -> None:
    changes: dict[str, Any] = {"filters": (8, 8, 16, 16, 32), "patch_size": [32, 32, 32], "spacing": False, "epochs": 3}
    changes |= {"overlap": 0.25, "amp": False, "device": "cpu", "pictures": 0, "ckpt_dir": "somewhere"}
    found = trained("rsanet", **changes)
    assert found == {"filters": [8, 8, 16, 16, 32], "patch_size": [32, 32, 32], "spacing": False}
    assert with_options(configs_of("rsanet"), found)["inference"]["spacing"] is False


def test_what_only_the_training_has_otherwise_by_default_is_the_inferences_own() -> None:
    """Zoom-in's crops are smaller than the whole volumes that inference takes, as published."""
    assert trained("zoom_resunet", patch_size=[144, 172, 168]) == {}
    assert trained("zoom_resunet", patch_size=[24, 24, 24]) == {"patch_size": [24, 24, 24]}


def test_arguments_of_the_network_that_no_option_sets() -> None:
    network = {"norm": "batch", "_disabled_": False, "dropout": "@epochs"}
    assert trained("rsanet", network=network) == {"network_def::norm": "batch"}


def test_a_label_table_is_the_labels_themselves(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(TABLE))
    found = trained("s2anet", label_table=str(path), out_channels=3)
    assert found == {"label_table": TABLE, "out_channels": 3}
    assert given_options("s2anet", {"label_table": str(path)}) == found
    path.unlink()
    written = with_files(found, tmp_path / "new")
    assert own_labels(written) == {0: "background", 1: "Femur, left", 2: "Femur, right"}


def test_stages_name_options_as_the_whole_network_does(tmp_path: Path) -> None:
    (tmp_path / "datalist.json").write_text('{"label_graph": "mrspineseg", "testing": []}')
    place: dict[str, Any] = {"dataset_dir": str(tmp_path), "datalist": "datalist.json"}
    assert trained("spineparsenet", **place) == {}
    assert trained("spineparsenet", **place, patch_size=[8, 24, 32], width=0.125) == {
        "patch_size": [8, 24, 32],
        "width": 0.125,
    }
    refined: dict[str, Any] = {"patch_size": [48, 64], "coarse_size": [8, 24, 32], "filters": [4, 4, 8, 8, 8]}
    assert trained("spineparsenet", "refine", **place, **refined) == {
        "fine_size": [48, 64],
        "patch_size": [8, 24, 32],
        "filters": [4, 4, 8, 8, 8],
    }


def test_the_graph_of_the_data_list_is_kept(tmp_path: Path) -> None:
    (tmp_path / "datalist.json").write_text('{"label_graph": "spider", "testing": []}')
    found = trained("spineparsenet", dataset_dir=str(tmp_path), datalist="datalist.json")
    assert list(found) == ["label_graph"]
    assert given_options("spineparsenet", {"label_graph": "spider"}) == found
    written = with_files(found, tmp_path)
    assert read_label_graph(written["label_graph"]).names == read_label_graph("spider").names


def test_overlays_and_options_that_are_given() -> None:
    demo = overlay_options(configs_of("rsanet"), "demo")
    found = given_options("rsanet", {"patch_size": [64, 64, 64], "in_channels": 3}, [demo])
    assert found["patch_size"] == [64, 64, 64] and "filters" in found and "in_channels" not in found
    assert given_options("rsanet", {"network_def::norm": "batch"}) == {"network_def::norm": "batch"}


@pytest.mark.parametrize("option", ["epochs", "output_dir", "device", "network_def::no_such"])
def test_an_option_that_is_none_of_a_model_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"--{option}: is no option of a model of rsanet"):
        given_options("rsanet", {option: 1})
