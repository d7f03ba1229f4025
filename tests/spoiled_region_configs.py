# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil a sound bundle whose network sees regions of a tumour, and what the linter must say to each."""

from __future__ import annotations

from tests.spoiled_configs import GONE, Spoil, put

_STEPS = "train::deterministic_transforms"
_NAMED = "validate::key_metric::mean_dice"
_FOREGROUND = "inferer::inferer::inferer"

#: As `SPOILED` of rsanet: steps that training does behind the crop, presets, names and conventions of what is written.
SPOILED_REGIONS: list[tuple[str, Spoil, str]] = [
    # training may switch off what validation always does, and change nothing of it
    (
        "image_preprocessing_agrees",
        put("train", f"{_STEPS}::7::k", 8),
        "s2ca_net/train: validate::preprocessing[6]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("train", f"{_STEPS}::9::channel_wise", False),
        "s2ca_net/train: validate::preprocessing[8]: is",
    ),
    # what validation itself can switch off is switched by the same option
    (
        "image_preprocessing_agrees",
        put("train", f"{_STEPS}::2::_disabled_", True),
        "s2ca_net/train: validate::preprocessing[2]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("train", f"{_STEPS}::5::_disabled_", GONE),
        "s2ca_net/train: validate::preprocessing[4]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("train", "validate::preprocessing::transforms::5::_disabled_", "$@spacing"),
        "s2ca_net/train: validate::preprocessing[4]: is",
    ),
    # and evaluation and inference switch nothing
    (
        "image_preprocessing_agrees",
        put("evaluate", "validate::preprocessing::transforms::10::_disabled_", True),
        "s2ca_net/evaluate: validate::preprocessing[8]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("inference", "preprocessing::transforms::3::order", [0, 1, 2, 3]),
        "s2ca_net/inference: preprocessing[2]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("inference", "preprocessing::transforms::3::_disabled_", GONE),
        "s2ca_net/inference: preprocessing[2]: is",
    ),
    ("inferers_agree", put("inference", "inferer::inferer::activation", "softmax"), "s2ca_net/inference: inferer: is"),
    ("inferers_agree", put("evaluate", f"{_FOREGROUND}::enabled", True), "s2ca_net/evaluate: validate::inferer: is"),
    ("inferers_agree", put("inference", f"{_FOREGROUND}::outside", [0] * 4), "s2ca_net/inference: inferer: is"),
    (
        "inferers_agree",
        put("train", f"{_FOREGROUND}::inferer::mode", "gaussian"),
        "s2ca_net/evaluate: validate::inferer: is",
    ),
    (
        "postprocessing_agrees",
        put("inference", "postprocessing::transforms::1::threshold", 0.4),
        "s2ca_net/inference: postprocessing[0]: is",
    ),
    (
        "postprocessing_agrees",
        put("evaluate", "validate::postprocessing::transforms::3", GONE),
        "s2ca_net/evaluate: validate::postprocessing: is",
    ),
    (
        "postprocessing_agrees",
        put("train", "validate::postprocessing::transforms::3::nesting", "nested"),
        "s2ca_net/evaluate: validate::postprocessing[3]: is",
    ),
    # what a training's key metric does not say is as reported; what it says is compared
    ("key_metrics_agree", put("train", f"{_NAMED}::empty_rule", "et"), "s2ca_net/evaluate: validate::key_metric: is"),
    (
        "key_metrics_agree",
        put("evaluate", f"{_NAMED}::_target_", "custom_nets.metric_handlers.StrokeMetrics"),
        "s2ca_net/evaluate: validate::key_metric: is",
    ),
    ("key_metrics_agree", put("train", "validate::key_metric", {}), "s2ca_net/evaluate: validate::key_metric: is"),
    ("networks_agree", put("evaluate", "network_def::swapped_axes", False), "s2ca_net/evaluate: network_def: is"),
    ("defaults_agree", put("inference", "min_enhancing_voxels", 500), "s2ca_net/inference: min_enhancing_voxels: is"),
    ("channels_are_the_networks", put("train", "in_channels", 3), "s2ca_net/train: network_def::in_channels: is 3"),
    # presets hold options
    ("settings_are_options", put("sgd", "momentun", 0.9), "s2ca_net/sgd: momentun: no workflow"),
    ("settings_are_options", put("fast", "window", "foreground"), "s2ca_net/fast: window: no workflow"),
    ("settings_are_options", put("all_cases", "all_cases", "$True"), "s2ca_net/all_cases: all_cases: is '$True'"),
    (
        "settings_are_options",
        put("published_checkpoint", "embedding_channels", [360, 512]),
        "s2ca_net/published_checkpoint: embedding_channels: no workflow",
    ),
]
