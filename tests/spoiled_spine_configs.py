# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil a sound bundle whose network has stages trained one by one, and what the linter must say to each."""

from __future__ import annotations

from tests.spoiled_configs import FORMAT, GONE, Spoil, put

_STEPS = "train::deterministic_transforms"
_COMPUTED = "computed_logits"

#: As `SPOILED` of rsanet: stages in one network, a start of the training, labels of a graph.
SPOILED_SPINES: list[tuple[str, Spoil, str]] = [
    # the whole network gets what its stages are trained with
    (
        "stages_get_their_arguments",
        put("inference", "network_def::width", 0.5),
        'spineparsenet/inference: network_def::width: is 0.5, but "@width" in train',
    ),
    (
        "stages_get_their_arguments",
        put("evaluate", "network_def::graph_mode", GONE),
        "spineparsenet/evaluate: network_def::graph_mode: is null",
    ),
    (
        "stages_get_their_arguments",
        put("refine", "network_def::filters", "@other_filters"),
        'spineparsenet/inference: network_def::filters: is "@filters", but "@other_filters" in refine',
    ),
    (
        "stages_get_their_arguments",
        put("refine", "network_def::in_channels", 2),
        "spineparsenet/evaluate: network_def::in_channels: is",
    ),
    ("networks_agree", put("inference", "network_def::windows", "sliding"), "spineparsenet/inference: network_def: is"),
    ("networks_agree", put("inference", "network_def::_target_", "custom_nets.ResUNet2d"), "spineparsenet/inference: "),
    # and makes of an image what they are trained on
    (
        "stages_see_their_images",
        put("evaluate", "network_def::crop_share", 0.5),
        "spineparsenet/evaluate: validate::preprocessing[5]: is",
    ),
    (
        "stages_see_their_images",
        put("inference", "network_def::intensity_std", "@intensity_mean"),
        "spineparsenet/inference: preprocessing[8]: is",
    ),
    (
        "stages_see_their_images",
        put("train", f"{_STEPS}::7::size", "$@patch_size[:2]"),
        "spineparsenet/evaluate: validate::preprocessing[6]: is",
    ),
    (
        "stages_see_their_images",
        put("train", f"{_STEPS}::7::mode", ["bilinear", "nearest"]),
        "spineparsenet/inference: preprocessing[6]: is",
    ),
    ("stages_see_their_images", put("pretrain", f"{_STEPS}::8", GONE), "spineparsenet/inference: preprocessing: is"),
    (
        "stages_see_their_images",
        put("refine", f"{_STEPS}::8::size", [256, 512]),
        "spineparsenet/inference: preprocessing[6]: is",
    ),
    (
        "stages_see_their_images",
        put("refine", f"{_STEPS}::4::axcodes", "LAS"),
        "spineparsenet/evaluate: validate::preprocessing[2]: is",
    ),
    (
        "stages_see_their_images",
        put("inference", "network_def::fine_size", GONE),
        "spineparsenet/inference: preprocessing[6]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("inference", "preprocessing::transforms::3::axcodes", "LAS"),
        "spineparsenet/inference: preprocessing[2]: is",
    ),
    (
        "image_preprocessing_agrees",
        put("pretrain", "validate::preprocessing::transforms::6::share", 1),
        "spineparsenet/pretrain: validate::preprocessing[5]: is",
    ),
    # the same options mean the same in all stages, whatever they are called
    (
        "stages_have_the_same_defaults",
        put("refine", "patch_size", [256, 256]),
        "spineparsenet/evaluate: fine_size[1]: is 512, but 256 in refine",
    ),
    (
        "stages_have_the_same_defaults",
        put("refine", "coarse_size", [18, 128, 128]),
        "spineparsenet/inference: patch_size[2]: is 256, but 128 in refine",
    ),
    ("stages_have_the_same_defaults", put("refine", "width", 0.5), "spineparsenet/inference: width: is 1.0, but 0.5"),
    (
        "stages_have_the_same_defaults",
        put("pretrain", "intensity_mean", 0),
        "spineparsenet/evaluate: intensity_mean: is 466.0, but 0 in pretrain",
    ),
    ("defaults_agree", put("train", "crop_share", 1), "spineparsenet/evaluate: crop_share: is 0.5, but 1 in train"),
    # a start of the training is that training but for what makes it a start
    (
        "trainings_of_one_network_agree",
        put("pretrain", "learning_rate", 1e-4),
        "spineparsenet/pretrain: learning_rate: is 0.0001, but 0.001 in train",
    ),
    (
        "trainings_of_one_network_agree",
        put("pretrain", f"{_STEPS}::10::stage", "refinement"),
        "spineparsenet/pretrain: train: is",
    ),
    (
        "trainings_of_one_network_agree",
        put("train", "keep_largest", GONE),
        "spineparsenet/pretrain: keep_largest: is false, but null in train",
    ),
    # what the refinement computes by itself is what the first stage's training does
    (
        "computed_stages_are_the_trained_ones",
        put("refine", f"{_COMPUTED}::network::width", 0.5),
        f"spineparsenet/refine: {_COMPUTED}::network: is",
    ),
    (
        "computed_stages_are_the_trained_ones",
        put("refine", f"{_COMPUTED}::transform::transforms::6::size", "@patch_size"),
        f"spineparsenet/refine: {_COMPUTED}::transform[6]: is",
    ),
    (
        "computed_stages_are_the_trained_ones",
        put("refine", f"{_COMPUTED}::transform::transforms::8", GONE),
        f"spineparsenet/refine: {_COMPUTED}::transform: is",
    ),
    # an inferer may say where logits come from, and nothing else
    ("inferers_agree", put("evaluate", "inferer::inferer::slices_at_once", 2), "spineparsenet/evaluate: validate::inf"),
    ("postprocessing_agrees", put("inference", "postprocessing::transforms::0::_disabled_", True), "spineparsenet/inf"),
    # labels are the graph's
    (
        "channels_are_the_networks",
        put("metadata", f"{FORMAT}::outputs::pred::num_channels", 13),
        "spineparsenet/refine: network_def::out_channels: is 20, metadata has 13",
    ),
    (
        "channels_are_the_networks",
        put("refine", "network_def::out_channels", 13),
        "spineparsenet/refine: network_def::out_channels: is 13, metadata has 20",
    ),
    (
        "labels_are_the_graphs",
        put("metadata", f"{FORMAT}::outputs::pred::channel_def::3", "L9"),
        "spineparsenet/train: label_graph: has another label 3 than",
    ),
    ("labels_are_the_graphs", put("inference", "label_graph", "spider"), "spineparsenet/inference: label_graph: has"),
]
