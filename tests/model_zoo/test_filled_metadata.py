# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.model_zoo import filled_metadata
from custom_nets.registry import bundle


def metadata_of(name: str) -> dict[str, Any]:
    return json.loads((bundle(name).folder / "configs" / "metadata.json").read_text())


def test_versions_are_those_of_this_environment_without_local_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = filled_metadata.with_versions(metadata_of("rsanet"))
    assert filled["monai_version"] == version("monai")
    assert filled["required_packages_version"]["nibabel"] == version("nibabel")
    monkeypatch.setattr(filled_metadata, "version", lambda package: f"9.8.7+{package}")
    filled = filled_metadata.with_versions(metadata_of("rsanet"))
    versions = [filled["pytorch_version"], filled["numpy_version"], *filled["required_packages_version"].values()]
    assert set(versions) == {"9.8.7"}


def test_a_new_version_heads_the_changelog() -> None:
    before = metadata_of("rsanet")
    after = filled_metadata.with_release(before, "9.0.0", "better")
    assert after["version"] == "9.0.0"
    assert list(after["changelog"].items()) == [("9.0.0", "better"), *before["changelog"].items()]
    assert filled_metadata.with_release(before, None, None) == before


@pytest.mark.parametrize(
    ("new", "changes", "told"),
    [
        ("9.0.0", None, "--version and --changes go together"),
        (None, "better", "--version and --changes go together"),
        ("9.0", "better", "--version 9.0: give three numbers"),
        ("0.1.0", "better", "--version 0.1.0 is not above 0.1.0"),
        ("0.0.9", "better", "--version 0.0.9 is not above 0.1.0"),
        ("01.2.0", "better", "--version 01.2.0: give three numbers"),
    ],
)
def test_versions_that_the_zoo_would_not_take(new: str | None, changes: str | None, told: str) -> None:
    with pytest.raises(InputError, match=told):
        filled_metadata.with_release(metadata_of("rsanet"), new, changes)


@pytest.mark.parametrize(
    ("slices", "names"),
    [
        (1, ["T1", "FLAIR"]),
        (3, [f"{modality}, slice {beside}" for beside in ("-1", "0", "+1") for modality in ("T1", "FLAIR")]),
    ],
)
def test_modalities_become_channels_slice_by_slice(slices: int, names: list[str]) -> None:
    before = metadata_of("s2anet")
    after = filled_metadata.with_modalities(before, ["T1", "FLAIR"], slices)
    image = after["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == len(names)
    assert image["channel_def"] == {str(number): name for number, name in enumerate(names)}
    assert after["file_name_patterns"] == {"T1": ["t1"], "FLAIR": ["flair"]}, "none is known of another bundle's"
    assert before == metadata_of("s2anet"), "what is given stays as it is"


def test_the_published_network_has_the_channels_that_its_metadata_name() -> None:
    before = metadata_of("s2anet")
    after = filled_metadata.with_modalities(before, bundle("s2anet").modalities, 3)
    assert after["network_data_format"] == before["network_data_format"]
    assert after["file_name_patterns"] == before["file_name_patterns"]


def test_labels_of_ones_own() -> None:
    after = filled_metadata.with_labels(metadata_of("s2anet"), {0: "background", 1: "liver", 2: "spleen"})
    pred = after["network_data_format"]["outputs"]["pred"]
    assert (pred["num_channels"], pred["channel_def"]["2"]) == (3, "spleen")
    assert after["label_classes"] == after["pred_classes"] == "0 background, 1 liver, 2 spleen"


@pytest.mark.parametrize(("name", "shape"), [("s2ca_net", [32, 32, 32]), ("rsanet", ["16*n", "16*n", "16*n"])])
def test_a_network_that_is_built_for_its_patch_says_which(name: str, shape: list[Any]) -> None:
    published = json.loads((bundle(name).folder / "configs" / "inference.json").read_text())["patch_size"]
    data_format = filled_metadata.with_patch(metadata_of(name), published, [32, 32, 32])["network_data_format"]
    assert data_format["inputs"]["image"]["spatial_shape"] == shape
    assert data_format["outputs"]["pred"]["spatial_shape"] == shape


def write_results(folder: Path, metrics: Any, weights: str = "abc") -> Path:
    (folder / "metrics_summary.json").write_text(json.dumps({"cases": 2, "metrics": metrics}))
    (folder / "evaluation.json").write_text(json.dumps({"weights": weights, "section": "testing", "cases": 2}))
    return folder


@pytest.mark.parametrize("named", ["", "metrics_summary.json"])
def test_scores_are_the_means_of_an_evaluation(tmp_path: Path, named: str) -> None:
    means = {"dice": 0.5, "hd95": None, "volume_difference": float("inf"), "n": 3}
    write_results(tmp_path, {name: {"mean": mean, "std": 1} for name, mean in means.items()} | {"text": "no metric"})
    scores, record = filled_metadata.read_scores(tmp_path / named, "abc")
    assert scores == {"dice": 0.5, "n": 3.0}
    assert record == {"weights": "abc", "section": "testing", "cases": 2}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), "evaluation.json: No such file"),
        (lambda folder: (folder / "metrics_summary.json").write_text("{"), "metrics_summary.json: is no JSON file"),
        (lambda folder: (folder / "metrics_summary.json").write_text("[]"), "is no JSON object"),
        (lambda folder: write_results(folder, {"dice": {"mean": 1}}, "def"), r"scores of other weights \(SHA-256 def"),
        (lambda folder: write_results(folder, {"dice": {"mean": None}}), "has no metric with a mean"),
    ],
)
def test_results_that_are_not_this_models(tmp_path: Path, spoil: Any, told: str) -> None:
    write_results(tmp_path, {"dice": {"mean": 1}})
    spoil(tmp_path)
    with pytest.raises(InputError, match=told) as caught:
        filled_metadata.read_scores(tmp_path, "abc")
    assert re.search("evaluate|--results", str(caught.value)), "what to do is said"
