# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil a sound bundle whose network sees slices, and what the linter must say to each."""

from __future__ import annotations

from tests.spoiled_configs import FORMAT, GONE, Spoil, put, swap

_PREPARATION = "inferer::inferer::preparation"
_NAMED = "validate::key_metric::mean_dice"

#: As `SPOILED` of rsanet: a network of slices, a key metric that the user chooses by its name, many labels.
SPOILED_SLICES: list[tuple[str, Spoil, str]] = [
    # one inferer is another one's, but for its way back to the scan
    ("inferers_agree", put("inference", f"{_PREPARATION}::intensity", "percentile"), "s2anet/inference: inferer: is"),
    ("inferers_agree", put("train", f"{_PREPARATION}::mean", 0.5), "s2anet/evaluate: validate::inferer: is"),
    ("inferers_agree", put("evaluate", "inferer::inferer::plane", "axial"), "s2anet/evaluate: validate::inferer: is"),
    ("inferers_agree", put("train", "inferer::inferer::windows", "sliding"), "s2anet/inference: inferer: is"),
    # and prepares slices as the training does
    (
        "slices_agree",
        put("train", "train::deterministic_transforms::2::plane", "axial"),
        "s2anet/train: inferer::inferer::plane: is",
    ),
    ("slices_agree", put("train", "inferer::inferer::plane", GONE), "s2anet/train: inferer::inferer::plane: is null"),
    (
        "slices_agree",
        put("train", "train::deterministic_transforms::3::preparation::intensity", "percentile"),
        "s2anet/train: inferer::inferer::preparation::intensity: is",
    ),
    (
        "slices_agree",
        put("train", "train::preprocessing::transforms::4::std", 1.0),
        "s2anet/train: train::preprocessing::transforms::4::std: is 1.0",
    ),
    (
        "slices_agree",
        put("train", f"{_PREPARATION}::index_rule", "endpoints"),
        "s2anet/train: inferer::inferer::preparation::index_rule: is",
    ),
    ("slices_agree", put("train", "train::dataset::num_slices", 5), "s2anet/train: train::dataset::num_slices: is 5"),
    (
        "slices_agree",
        put("inference", "inferer::inferer::num_slices", GONE),
        "s2anet/inference: inferer::inferer::num_slices: is null",
    ),
    # channels are slices of modalities
    (
        "channels_are_the_networks",
        put("train", "num_slices", 5),
        "s2anet/train: network_def::in_channels: is 5, metadata has 3",
    ),
    (
        "channels_are_the_networks",
        put("evaluate", "in_channels", 2),
        "s2anet/evaluate: network_def::in_channels: is 6, metadata has 3",
    ),
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::inputs::image::channel_def", {"0": "MR"}),
        "s2anet/metadata: inputs::image::channel_def: names 1 of 3",
    ),
    (
        "channels_are_the_networks",
        put("inference", "out_channels", 54),
        "s2anet/inference: network_def::out_channels: is 54, metadata has 55",
    ),
    (
        "prose_names_the_same_labels",
        swap("configs/metadata.json", "0 background, 1 Adductor brevis, left, 2", "0 background, 2"),
        "s2anet/metadata: label_classes: does not name '1 Adductor brevis, left'",
    ),
    # the evaluation reports one of the metrics that a training can choose by, computed likewise
    ("key_metrics_agree", put("evaluate", f"{_NAMED}::_target_", "MeanDice"), "s2anet/evaluate: validate::key_metric:"),
    ("key_metrics_agree", put("evaluate", f"{_NAMED}::labels", {}), "s2anet/evaluate: validate::key_metric: is"),
    ("key_metrics_agree", put("train", "validate::metrics::mean_dice", GONE), "s2anet/evaluate: validate::key_metric:"),
    (
        "key_metrics_agree",
        put("train", "validate::key_metric", "$@validate::metrics"),
        "s2anet/evaluate: validate::key_metric: is",
    ),
    ("key_metrics_agree", put("train", "validate::metrics", GONE), "s2anet/evaluate: validate::key_metric: is"),
    ("key_metrics_agree", put("train", "validate::metrics::mean_dice", 1), "s2anet/evaluate: validate::key_metric: is"),
    # overlays and expressions
    ("settings_are_options", put("demo", "num_slice", 1), "s2anet/demo: num_slice: no workflow"),
    ("calls_are_allowed", put("train", "labels", "$dict(@label_table)"), "s2anet/train: labels: uses 'dict'"),
    ("defaults_agree", put("inference", "num_slices", 5), "s2anet/inference: num_slices: is 5, but 3 in train"),
]
