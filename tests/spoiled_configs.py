# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil a sound bundle, and what the linter must say to each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from custom_nets.config_linter import read_bundle
from custom_nets.config_linter.folder_rules import write_card
from custom_nets.registry import ROOT

Spoil = Callable[[Path], None]
CARD = "# A card\n\n<!-- calls -->\n<!-- /calls -->\n\n<!-- options -->\n<!-- /options -->\n"
GONE = object()


def copied(target: Path, bundle: str = "rsanet") -> Path:
    """A copy of a bundle with a card of its own, in which nothing is to be found."""
    source, folder = ROOT / "bundles" / bundle, target / "bundles" / bundle
    shutil.copytree(source / "configs", folder / "configs")
    for name in ("LICENSE", "docs/data_license.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text")
    (folder / "docs" / "README.md").write_text(CARD)
    shutil.copy(ROOT / "constraints.txt", target)
    write_card(read_bundle(folder))
    return folder


def put(config: str, name: str, value: Any) -> Spoil:
    """Set an id of a configuration, or delete it."""

    def spoil(folder: Path) -> None:
        path = folder / "configs" / f"{config}.json"
        content = inside = json.loads(path.read_text())
        *parents, last = name.split("::") if name.split("::")[0] in content else [name]
        for key in parents:
            inside = inside[int(key) if isinstance(inside, list) else key]
        if value is GONE:
            del inside[int(last) if isinstance(inside, list) else last]
        elif isinstance(inside, list):
            inside[int(last)] = value
        else:
            inside[last] = value
        path.write_text(json.dumps(content))

    return spoil


def swap(file: str, old: str, new: str) -> Spoil:
    """Replace text in a file of the bundle."""

    def spoil(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return spoil


def drop(file: str) -> Spoil:
    return lambda folder: (folder / file).unlink()


def write(file: str, text: str) -> Spoil:
    return lambda folder: (folder / file).write_text(text) and None


FORMAT = "network_data_format"
#: Rule, what spoils a sound bundle, and the beginning of the line that must come out.
SPOILED: list[tuple[str, Spoil, str]] = [
    ("files_are_there", drop("LICENSE"), "rsanet/LICENSE: file: is missing"),
    ("files_are_there", drop("docs/data_license.txt"), "rsanet/docs/data_license.txt: file: is missing"),
    ("files_are_there", drop("docs/README.md"), "rsanet/docs/README.md: file: is missing"),
    ("files_are_there", drop("configs/logging.conf"), "rsanet/configs/logging.conf: file: is missing"),
    ("files_are_there", drop("configs/multi_gpu_train.json"), "rsanet/configs/multi_gpu_train.json: file: is missing"),
    ("files_can_be_read", write("configs/train.json", "{"), "rsanet/train: file: is no JSON object"),
    ("files_can_be_read", write("configs/train.json", "[]"), "rsanet/train: file: is no JSON object (a list)"),
    ("card_is_current", write("docs/README.md", "# A card"), "rsanet/docs/README.md: calls: has no place"),
    ("card_is_current", put("train", "run", ["$max(1, 2)"]), "rsanet/docs/README.md: calls: is not what"),
    ("card_is_current", put("train", "epochs", 9), "rsanet/docs/README.md: options: is not what"),
    (
        "logging_is_plain",
        swap("configs/logging.conf", "class=StreamHandler", "class=my.Handler"),
        "rsanet/logging.conf: handler_consoleHandler::class: is 'my.Handler'",
    ),
    (
        "logging_is_plain",
        swap("configs/logging.conf", "args=(sys.stdout,)", "args=(open('x'),)"),
        "rsanet/logging.conf: handler_consoleHandler::args: is '(open('x'),)'",
    ),
    ("logging_is_plain", write("configs/logging.conf", "no section"), "rsanet/logging.conf: file: cannot be read"),
    # metadata
    ("metadata_follows_the_schema", put("metadata", "copyright", GONE), "rsanet/metadata: file: 'copyright' is"),
    ("metadata_follows_the_schema", put("metadata", "references", "one"), "rsanet/metadata: references: 'one' is not"),
    ("metadata_follows_the_schema", put("metadata", "schema", "x/2022.json"), "rsanet/metadata: schema: is another"),
    ("metadata_names_the_folder", put("metadata", "bundle", "other"), "rsanet/metadata: bundle: is 'other'"),
    ("version_is_in_the_changelog", put("metadata", "version", "9.9.9"), "rsanet/metadata: changelog: says nothing"),
    ("version_is_in_the_changelog", put("metadata", "version", "1.0a"), "rsanet/metadata: version: is '1.0a'"),
    ("versions_are_the_tested_ones", put("metadata", "monai_version", "1.5.0"), "rsanet/metadata: monai_version: is"),
    ("versions_are_the_tested_ones", put("metadata", "numpy_version", ">=2"), "rsanet/metadata: numpy_version: is"),
    (
        "versions_are_the_tested_ones",
        put("metadata", "required_packages_version::nothere", "1.0"),
        "rsanet/metadata: required_packages_version::nothere: is 1.0, constraints.txt has none",
    ),
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::outputs::pred::num_channels", 3),
        "rsanet/metadata: outputs::pred::channel_def: names 2 of 3",
    ),
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::inputs::image::num_channels", 4),
        "rsanet/evaluate: network_def::in_channels: is 3, metadata has 4",
    ),
    (
        "channels_are_the_networks",
        put("inference", "network_def::out_channels", 5),
        "rsanet/inference: network_def::out_channels: is 5, metadata has 2",
    ),
    (
        "labels_are_numbered_and_named",
        put("metadata", f"{FORMAT}::outputs::pred::channel_def", {"0": "nothing", "1": "lesion"}),
        "rsanet/metadata: outputs::pred::channel_def::0: is 'nothing'",
    ),
    (
        "labels_are_numbered_and_named",
        put("metadata", f"{FORMAT}::inputs::image::channel_def", {"0": "T1", "1": "T2", "3": "FLAIR"}),
        "rsanet/metadata: inputs::image::channel_def: is not numbered",
    ),
    (
        "labels_are_numbered_and_named",
        put("metadata", f"{FORMAT}::inputs::image::channel_def", {"0": "T1", "1": "T1", "2": "FLAIR"}),
        "rsanet/metadata: inputs::image::channel_def: has keys",
    ),
    (
        "file_names_tell_the_modalities",
        put("metadata", "file_name_patterns::T2", GONE),
        "rsanet/metadata: file_name_patterns::T2: is not there",
    ),
    (
        "file_names_tell_the_modalities",
        put("metadata", "file_name_patterns::PD", ["pd"]),
        "rsanet/metadata: file_name_patterns::PD: is no modality",
    ),
    (
        "file_names_tell_the_modalities",
        put("metadata", "file_name_patterns::T2", []),
        "rsanet/metadata: file_name_patterns::T2: is []",
    ),
    (
        "file_names_tell_the_modalities",
        put("metadata", "file_name_patterns::T2", ["t2", "*"]),
        "rsanet/metadata: file_name_patterns::T2: has '*'",
    ),
    (
        "file_names_tell_the_modalities",
        put("metadata", "file_name_patterns::T2", ["t2", "t1"]),
        "rsanet/metadata: file_name_patterns::T2: has 't1' of T1",
    ),
    (
        "prose_names_the_same_labels",
        put("metadata", "label_classes", "0 background, 1 tumour"),
        "rsanet/metadata: label_classes: does not name '1 lesion'",
    ),
    (
        "prose_names_the_same_labels",
        put("metadata", "image_classes", "T1 and T2"),
        "rsanet/metadata: image_classes: does not name FLAIR",
    ),
    # text
    (
        "keys_are_given_once",
        swap("configs/train.json", '"seed": 0,', '"seed": 0, "seed": 1,'),
        "rsanet/train: seed: is given twice",
    ),
    ("overlay_and_macros_fit", put("train", "training", "%runs"), "rsanet/train: file: cannot be merged or resolved"),
    (
        "overlay_and_macros_fit",
        put("multi_gpu_train", "trains::sampler", {}),
        "rsanet/multi_gpu_train: file: cannot be merged or resolved",
    ),
    (
        "references_exist",
        put("train", "optimizer::lr", "@lr"),
        "rsanet/train: optimizer::lr: refers to 'lr', which does not exist",
    ),
    (
        "references_exist",
        put("evaluate", "run", ["$@validate::evaluater.run()"]),
        "rsanet/evaluate: run::0: refers to 'validate::evaluater'",
    ),
    ("inference_has_no_macro", put("inference", "evaluating", "%run"), "rsanet/inference: evaluating: is the macro"),
    (
        "macros_stay_in_the_file",
        put("train", "validate::postprocessing", "%configs/inference.json::postprocessing"),
        "rsanet/train: validate::postprocessing: copies from another file",
    ),
    (
        "inference_needs_no_metadata",
        put("inference", "output_postfix", "$@_meta_::version"),
        "rsanet/inference: output_postfix: refers to the metadata",
    ),
    ("paths_are_relative", put("train", "dataset_dir", "/data/ms"), "rsanet/train: dataset_dir: is the absolute path"),
    ("paths_are_relative", put("train", "dataset_dir", "~/ms"), "rsanet/train: dataset_dir: is the absolute path"),
    ("paths_are_relative", put("train", "datalist", "C:\\ms"), "rsanet/train: datalist: is the absolute path"),
    (
        "paths_are_relative",
        put("train", "dataset_dir", "$os.path.join('/data', 'ms')"),
        "rsanet/train: dataset_dir: holds the absolute path '/data'",
    ),
    (
        "paths_are_relative",
        put("train", "output_dir", "$@bundle_root + '/home/ann'"),
        "rsanet/train: output_dir: holds a personal path",
    ),
    ("expressions_are_python", put("train", "run", ["$@train::trainer.run("]), "rsanet/train: run::0: is no Python"),
    ("expressions_are_python", put("train", "run", ["$x = 1"]), "rsanet/train: run::0: is no Python"),
    ("imports_bind_a_name", put("train", "imports::0", "$import os.path"), "rsanet/train: imports::0: 'import os"),
    ("imports_bind_a_name", put("train", "imports::0", "$import oss"), "rsanet/train: imports::0: cannot be imported"),
    (
        "imports_bind_a_name",
        put("train", "imports::1", "$from custom_nets.checkpoints import load_weight"),
        "rsanet/train: imports::1: cannot be imported",
    ),
    (
        "imports_bind_a_name",
        put("train", "imports::0", "$import os, sys"),
        "rsanet/train: imports::0: imports several names",
    ),
    ("imports_are_used", put("train", "imports::0", "$import glob"), "rsanet/train: imports::0: imports 'glob'"),
    ("calls_are_allowed", put("train", "seed", "$os.getpid()"), "rsanet/train: seed: uses 'os.getpid'"),
    ("calls_are_allowed", put("train", "seed", "$eval('1')"), "rsanet/train: seed: uses 'eval'"),
    ("calls_are_allowed", put("train", "seed", "$@device.__class__"), "rsanet/train: seed: uses '.__class__'"),
    ("calls_are_allowed", put("train", "seed", "$[int(x) for x in '1'][0]"), "rsanet/train: seed: uses 'int'"),
    ("calls_are_allowed", put("train", "seed", "$glob.glob('*')"), "rsanet/train: seed: uses 'glob.glob'"),
    ("calls_are_allowed", put("multi_gpu_train", "run", ["$exit()"]), "rsanet/multi_gpu_train: run::0: uses 'exit'"),
    # keys
    ("keys_are_alive", put("train", "forgotten", 1), "rsanet/train: forgotten: nothing uses it"),
    ("keys_are_alive", put("train", "validate::loss", {}), "rsanet/train: validate::loss: nothing uses it"),
    ("keys_are_alive", put("evaluate", "inferer::inferer::flips", "all"), "rsanet/evaluate: flips: nothing uses it"),
    ("keys_are_alive", put("train", "train::handlers::7::resume", False), "rsanet/train: resume: nothing uses it"),
    (
        "keys_are_alive",
        put("multi_gpu_train", "train::dataloader::sampler", None),
        "rsanet/multi_gpu_train: train::sampler: nothing uses it",
    ),
    ("promised_keys_are_there", put("train", "resume", GONE), "rsanet/train: resume: is missing"),
    ("promised_keys_are_there", put("inference", "tta", GONE), "rsanet/inference: tta: is missing"),
    ("promised_keys_are_there", put("inference", "network_def", GONE), "rsanet/inference: network_def: is missing"),
    ("promised_keys_are_there", put("train", "train::inferer", GONE), "rsanet/train: train::inferer: is missing"),
    ("runs_by_both_names", put("train", "training", GONE), "rsanet/train: training: is no list"),
    ("runs_by_both_names", put("inference", "run", "$@evaluator.run()"), "rsanet/inference: run: is no list"),
    ("runs_by_both_names", put("evaluate", "evaluating", ["$1"]), "rsanet/evaluate: evaluating: differs from 'run'"),
    ("runs_by_both_names", put("multi_gpu_train", "training", ["$1"]), "rsanet/multi_gpu_train: training: differs"),
    (
        "runs_by_both_names",
        put("train", "training", "%run"),
        "rsanet/train: training: differs from 'run', or copies it",
    ),
    (
        "initialize_finds_the_code",
        put("multi_gpu_train", "initialize::1", "$sys.path.append('.')"),
        "rsanet/multi_gpu_train: initialize: does not begin",
    ),
    ("initialize_finds_the_code", put("inference", "initialize", GONE), "rsanet/inference: initialize: does not"),
    ("options_are_checked", put("train", "options", "none"), "rsanet/train: options: is no mapping"),
    ("options_are_checked", put("train", "options::epoch", "@epochs"), "rsanet/train: options::epoch: there is"),
    ("options_are_checked", put("train", "options::seed", "@epochs"), "rsanet/train: options::seed: is '@epochs'"),
    ("options_are_checked", put("train", "options::amp", GONE), "rsanet/train: options::amp: is missing"),
    ("options_are_explained", put("train", "forgotten", 1), "rsanet/train: forgotten: has no meaning"),
    ("settings_are_options", put("demo", "epoch", 3), "rsanet/demo: epoch: no workflow has that option"),
    ("settings_are_options", put("demo", "device", "$exit()"), "rsanet/demo: device: is '$exit()'"),
    # components
    ("targets_exist", put("train", "loss::_target_", "DiceCELos"), "rsanet/train: loss::_target_: 'DiceCELos'"),
    (
        "targets_exist",
        put("train", "network_def::_target_", "custom_nets.RSANett"),
        "rsanet/train: network_def::_target_: 'custom_nets.RSANett' does not exist",
    ),
    (
        "targets_exist",
        put("inference", "postprocessing::transforms::3::writer", "custom_nets.writers.Writer"),
        "rsanet/inference: postprocessing::transforms::3::writer: 'custom_nets.writers.Writer' does not exist",
    ),
    (
        "targets_are_the_mended_ones",
        put("inference", "preprocessing::transforms::4::_target_", "Spacingd"),
        "rsanet/inference: preprocessing::transforms::4: 'Spacingd' is not used",
    ),
    ("arguments_exist", put("train", "loss::smoth", 1), "rsanet/train: loss::smoth: 'DiceCELoss' has no such"),
    ("arguments_exist", put("train", "records::output_dir", GONE), "rsanet/train: records: "),
    (
        "arguments_exist",
        put("train", "network_def::channels", 3),
        "rsanet/train: network_def::channels: 'custom_nets.RSANet' has no such argument",
    ),
    (
        "arguments_exist",
        put("multi_gpu_train", "train::trainer::max_epoch", 3),
        "rsanet/multi_gpu_train: train::trainer::max_epoch: 'SupervisedTrainer' has no such",
    ),
    (
        "handlers_are_literal_lists",
        put("train", "validate::handlers", "$[]"),
        "rsanet/train: validate::handlers: is no literal list",
    ),
    (
        "handlers_are_literal_lists",
        put("inference", "handlers::0", "@evaluator"),
        "rsanet/inference: handlers: is no literal list",
    ),
    (
        "validation_follows_val_interval",
        put("train", "train::handlers::4::interval", 5),
        "rsanet/train: train::handlers::4::interval: is 5",
    ),
    (
        "key_metrics_are_referred_to",
        put("train", "validate::evaluator::key_val_metric", {}),
        "rsanet/train: validate::evaluator::key_val_metric: is written inline",
    ),
    # drift
    ("networks_agree", put("evaluate", "network_def::block", "non_local"), "rsanet/evaluate: network_def: is"),
    (
        "image_preprocessing_agrees",
        put("inference", "preprocessing::transforms::3::axcodes", "RAS"),
        "rsanet/inference: preprocessing[2]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("train", "train::deterministic_transforms::3::mode", ["nearest", "nearest"]),
        "rsanet/evaluate: validate::preprocessing[3]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("train", "validate::preprocessing::transforms", []),
        "rsanet/train: validate::preprocessing: is []",
    ),
    (
        "inferers_agree",
        put("inference", "inferer::inferer::inferer::mode", "constant"),
        "rsanet/inference: inferer: is",
    ),
    (
        "postprocessing_agrees",
        put("evaluate", "validate::postprocessing::transforms::2::connectivity", 6),
        "rsanet/evaluate: validate::postprocessing[1]: is",
    ),
    (
        "key_metrics_agree",
        put("evaluate", "validate::key_metric::mean_dice::metric_fn::ignore_empty", True),
        "rsanet/evaluate: validate::key_metric: is",
    ),
    ("defaults_agree", put("inference", "overlap", 0.25), "rsanet/inference: overlap: is 0.25, but 0.5 in train"),
    ("forms_agree", put("inference", "spacing", {}), "rsanet/inference: spacing: is {}"),
]

#: The same for zoom_resunet: a training of two stages, one sigmoid channel, a model chosen by the loss.
SPOILED_STAGES: list[tuple[str, Spoil, str]] = [
    # an overlay with its own ckpt_dir is a stage of training, and is read as one
    ("keys_are_alive", put("zoom_out", "epoch", 5), "zoom_resunet/zoom_out: epoch: nothing uses it"),
    ("paths_are_relative", put("zoom_out", "ckpt_dir", "/models"), "zoom_resunet/zoom_out: ckpt_dir: is the absolute"),
    ("references_exist", put("zoom_out", "pretrained", "@start"), "zoom_resunet/zoom_out: pretrained: refers to"),
    # without one it is settings for any workflow, which hold plain values
    ("settings_are_options", put("zoom_out", "ckpt_dir", GONE), "zoom_resunet/zoom_out: output_dir: is "),
    ("settings_are_options", put("demo_zoom_out", "epoch", 5), "zoom_resunet/demo_zoom_out: epoch: no workflow"),
    # the evaluation has another key metric where a loss chose the model, and only there
    (
        "key_metrics_agree",
        put("train", "validate::key_metric::loss::_target_", "ignite.metrics.MeanSquaredError"),
        "zoom_resunet/evaluate: validate::key_metric: is",
    ),
    # a sigmoid tells two labels apart, not three
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::outputs::pred::channel_def", {"0": "background", "1": "lesion", "2": "scar"}),
        "zoom_resunet/metadata: outputs::pred::channel_def: names 3 of 1",
    ),
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::inputs::image::channel_def", {"0": "T1", "1": "T2"}),
        "zoom_resunet/metadata: inputs::image::channel_def: names 2 of 1",
    ),
    # a default may be that of a later stage, not any other
    ("defaults_agree", put("evaluate", "patch_size", [96, 96, 96]), "zoom_resunet/evaluate: patch_size[0]: is 96"),
    ("defaults_agree", put("zoom_out", "patch_size", [96, 96, 96]), "zoom_resunet/inference: patch_size[0]: is 144"),
    ("inferers_agree", put("inference", "inferer::inferer::activation", "softmax"), "zoom_resunet/inference: inferer:"),
]
