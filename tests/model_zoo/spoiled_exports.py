# SPDX-License-Identifier: Apache-2.0
"""An export in which the check finds nothing, and ways to spoil it with what the check must say to each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import state_digest
from custom_nets.config_linter import read_bundle
from custom_nets.config_linter.folder_rules import write_card
from custom_nets.files import file_digest
from custom_nets.model_zoo.large_files import LARGE_FILES, LARGEST
from custom_nets.model_zoo.parity import Comparison
from custom_nets.registry import ROOT
from tests.bundle_runs import TINY
from tests.spoiled_configs import FORMAT, GONE, Spoil, drop, put, swap, write

_SOURCE = ROOT / "bundles" / "rsanet"


def exported(target: Path) -> Path:
    """A folder as the export makes it, of an untrained small network. Its code is a link, so that tests are quick."""
    folder = target / "rsanet"
    shutil.copytree(_SOURCE / "configs", folder / "configs", ignore=shutil.ignore_patterns("demo*.json"))
    shutil.copytree(_SOURCE / "docs", folder / "docs")
    shutil.copy(_SOURCE / "LICENSE", folder)
    (folder / "custom_nets").symlink_to(ROOT / "custom_nets")
    for config in ("train", "evaluate", "inference"):
        for key, value in TINY["rsanet"].options.items():
            put(config, key, value)(folder)
    write_card(read_bundle(folder))
    (folder / "models").mkdir()
    torch.save(network_of(folder).state_dict(), folder / "models" / "model.pt")
    return folder


def network_of(folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    return network


def model(content: Any) -> Spoil:
    return lambda folder: torch.save(content, folder / "models" / "model.pt")


def report(difference: float, *files: str, inputs: int = 1, digest: str | None = None) -> Spoil:
    """docs/parity.json, and the forms that it tells of."""

    def spoil(folder: Path) -> None:
        one = asdict(Comparison((1, 3, 32, 32, 32), difference, largest=1.0, same_labels=1.0))
        forms = [{"file": f"models/{file}", "comparisons": [one] * inputs} for file in files]
        own = state_digest(torch.load(folder / "models" / "model.pt", weights_only=True))
        content = {"forms": forms, "left_out": [], "tolerance": 1e9, "digest": digest or own}
        (folder / "docs" / "parity.json").write_text(json.dumps(content))
        (folder / "models" / "model.ts").write_bytes(b"")

    return spoil


def large(**entry: Any) -> Spoil:
    """A file over 25 MB, and, with an entry, large_files.yml."""

    def spoil(folder: Path) -> None:
        with (folder / "models" / "large.bin").open("wb") as file:
            file.truncate(LARGEST + 1)
        right = {"path": "models/large.bin", "url": "https://example.org/large.bin", "hash_type": "sha256"}
        if entry:
            hashed = {"hash_val": file_digest(folder / "models" / "large.bin"), **right, **entry}
            (folder / LARGE_FILES).write_text(json.dumps({"large_files": [hashed]}))

    return spoil


def named(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder.rename(folder.with_name(name))


_PRED = f"{FORMAT}::outputs"
_LOADED = "preprocessing::transforms::0"
#: Rule, what spoils a sound export, the verdict and a part of what must be told.
SPOILED: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("model_is_there", drop("models/model.pt"), "fails", "is made by training -> export with --checkpoint"),
    ("name_is_lower_case", named("Brain-MR"), "fails", "is 'Brain-MR' -> rename it"),
    ("name_is_a_segmentation", named("lesion_detection"), "fails", "'lesion_detection' has 'detection'"),
    ("nothing_is_pickled", write("docs/table.pkl", ""), "fails", "docs/table.pkl"),
    (
        "no_path_of_one_machine",
        write("docs/more.md", "see\n/home/me/data"),
        "fails",
        "docs/more.md, line 2, has '/home/'",
    ),
    ("no_path_of_one_machine", put("metadata", "data_source", "/mnt/data/x"), "fails", "configs/metadata.json, line"),
    # large files
    ("large_files_are_listed", large(), "fails", "models/large.bin (25 MB, 25 are allowed) is not in large_files.yml"),
    ("large_files_are_listed", write(LARGE_FILES, "large_files: 3"), "fails", "has no list 'large_files'"),
    ("large_files_are_listed", write(LARGE_FILES, "a: [b"), "fails", "large_files.yml is no YAML file"),
    ("listed_files_stay_inside", large(path="../large.bin"), "fails", "'../large.bin' -> give a path"),
    ("listed_files_stay_inside", large(path="/large.bin"), "fails", "'/large.bin' -> give a path"),
    ("listed_hashes_are_right", large(hash_val="ab"), "fails", "listed is ab -> list what is there"),
    ("listed_hashes_are_right", large(hash_val=""), "fails", "hash_type 'sha256' and hash_val ''"),
    ("listed_hashes_are_right", large(hash_type="crc"), "fails", "has hash_type 'crc'"),
    ("listed_hashes_are_right", large(hash_type="md5"), "not checked", "only sha256"),
    ("listed_hashes_are_right", large(path="models/other.bin"), "not checked", "models/other.bin is not here"),
    ("listed_files_have_an_address", large(url=""), "later", "before a pull request to the Zoo give export --url"),
    # card
    ("card_has_its_sections", drop("docs/README.md"), "fails", "no title -> begin with '# Title'"),
    ("card_has_its_sections", swap("docs/README.md", "## Citation", "**Citation**"), "fails", "no section 'citation'"),
    ("card_tells_the_forms", swap("docs/README.md", "TensorRT", "It"), "fails", "nothing about TensorRT"),
    ("links_of_the_card_lead_somewhere", write("docs/README.md", "![x](x.png)"), "fails", "x.png is not there"),
    ("links_of_the_card_lead_somewhere", write("docs/README.md", "[x](../..)"), "fails", "../.. is outside the bundle"),
    # metadata
    ("name_is_a_title", put("metadata", "name", " "), "fails", "is ' ' -> write one"),
    ("optional_packages_are_bare", put("metadata", "optional_packages_version", {"x": ">=1"}), "fails", "x is '>=1'"),
    ("apps_find_their_properties", put("metadata", "supported_apps", ["x"]), "fails", "is ['x'] -> write an object"),
    ("apps_find_their_properties", put("metadata", "supported_apps", {"vista": "1"}), "not checked", "vista: "),
    ("version_is_new", put("metadata", "version", "3.1.4"), "not checked", "look for rsanet_v3.1.4"),
    ("tensors_are_image_and_pred", put("metadata", _PRED, {"mask": {}}), "fails", "the first of outputs is 'mask'"),
    ("tensors_are_image_and_pred", put("metadata", FORMAT, 3), "fails", "cannot be judged (AttributeError"),
    # ids
    ("trainings_have_the_zoos_ids", put("train", "validate::handlers", GONE), "fails", "has no validate::handlers"),
    ("several_gpus_have_the_zoos_ids", put("multi_gpu_train", "finalize", GONE), "fails", "has no 'finalize'"),
    (
        "label_finds_what_it_serves",
        put("inference", "postprocessing", GONE),
        "fails",
        "no postprocessing or post_trans",
    ),
    ("label_finds_what_it_trains", put("train", "network", GONE), "fails", "rsanet/train has no network"),
    (
        "images_are_read_alone",
        put("inference", f"{_LOADED}::keys", ["image", "mask"]),
        "fails",
        "LoadImaged has the keys",
    ),
    (
        "images_are_read_alone",
        put("inference", "preprocessing::transforms::1", GONE),
        "fails",
        "is not followed by Ens",
    ),
    ("images_are_read_alone", put("inference", _LOADED, GONE), "fails", "preprocessing has no LoadImaged"),
    (
        "the_scans_grid_comes_back",
        put("inference", "postprocessing::transforms::0", GONE),
        "fails",
        "nothing undoes Orient",
    ),
    (
        "orientation_labels_are_given",
        put("inference", "preprocessing::transforms::3::labels", GONE),
        "fails",
        "rsanet/inference: preprocessing::transforms::3 has none",
    ),
    (
        "training_reads_image_and_label",
        put("train", "train::deterministic_transforms::0::keys", ["image", "label", "weight"]),
        "fails",
        "train::deterministic_transforms::0 reads weight too",
    ),
    (
        "schedules_follow_the_trainer",
        put("train", "lr_scheduler::total_iters", "@epochs"),
        "fails",
        "refers to @epochs",
    ),
    (
        "the_best_model_is_served",
        put("train", "ckpt_dir", "$@output_dir"),
        "fails",
        "-> write \"$@bundle_root + '/models'",
    ),
    # code and weights
    ("code_is_complete", drop("custom_nets"), "fails", "is beside the bundles -> copy the whole package"),
    ("weights_are_plain", model({"state_dict": {"w": torch.zeros(1)}}), "fails", "holds ['state_dict']"),
    ("weights_are_plain", model({"module.w": torch.zeros(1)}), "fails", "1 names begin with 'module.'"),
    ("weights_are_plain", model({}), "fails", "holds [] -> save"),
    ("weights_are_plain", model([1]), "fails", "holds no mapping"),
    ("weights_are_plain", model({"w": Path()}), "fails", "torch.load(weights_only=True) says"),
    ("weights_are_plain", drop("models/model.pt"), "not checked", "there is no model"),
    ("pytype_agrees", lambda folder: None, "not checked", "mypy"),
    (
        "packages_are_named",
        put("metadata", "required_packages_version::scikit-image", GONE),
        "fails",
        "scikit-image, which custom_nets/",
    ),
    # forms
    ("forms_are_compared", report(0.0), "fails", "models/model.ts is not in it"),
    ("forms_are_compared", report(0.0, "model.ts", "model.onnx"), "fails", "models/model.onnx is in it, but not"),
    ("forms_agree", report(1e-3, "model.ts"), "fails", "models/model.ts differs by 0.001"),
    ("forms_agree", report(float("nan"), "model.ts"), "fails", "models/model.ts differs by nan"),
    ("forms_agree", report(0.0, "model.ts", inputs=0), "fails", "models/model.ts was compared on no input"),
    (
        "forms_and_scores_are_the_weights",
        report(0.0, "model.ts", digest="of other weights"),
        "fails",
        "models/model.pt was replaced",
    ),
]
