# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SpineParseNet's first stage: GCSN, the network of its pre-training, and the ablation's graphs.

A file is a dictionary whose ``model_state_dict`` is the state dict, beside the optimizer's and counters. It does not
hold the graph: for other labels than MRSpineSeg's twenty pass ``graph``.
"""

from __future__ import annotations

from typing import Any

import torch

from custom_nets.checkpoints import StateDict, rename, require_same
from custom_nets.errors import InputError
from custom_nets.nets.gcsn import GCSN

_NAMES = {
    r"^xception_features\.conv([12])\.(weight)$": r"encoder.stem\1.conv.\2",
    r"^xception_features\.bn([12])\.": r"encoder.stem\1.norm.",
    r"^xception_features\.block20\.": "encoder.block4.",
    r"^xception_features\.block": "encoder.block",
    r"^xception_features\.conv3\.": "encoder.dilated1.",
    r"^xception_features\.conv4\.": "encoder.dilated2.",
    r"^xception_features\.conv5\.": "encoder.dilated3.",
    r"^(encoder\.block1)\.rep\.0\.": r"\1.convolution1.",
    r"^(encoder\.block1)\.rep\.2\.": r"\1.convolution2.",
    r"^(encoder\.block1)\.rep\.4\.": r"\1.convolution3.",
    r"\.rep\.1\.": ".convolution1.",
    r"\.rep\.3\.": ".convolution2.",
    r"\.rep\.5\.": ".convolution3.",
    r"\.block2_lastconv\.1\.": ".convolution3.",
    r"\.skip\.": ".shortcut.conv.",
    r"\.skipbn\.": ".shortcut.norm.",
    r"^aspp1\.atrous_convolution\.": "pyramid.pointwise.conv.",
    r"^aspp1\.bn\.": "pyramid.pointwise.norm.",
    r"^aspp2\.": "pyramid.dilated.0.",
    r"^aspp3\.": "pyramid.dilated.1.",
    r"^aspp4\.": "pyramid.dilated.2.",
    r"^global_avg_pool\.1\.": "pyramid.pooled.conv.",
    r"^global_avg_pool\.2\.": "pyramid.pooled.norm.",
    r"^concat_projection_conv1\.": "pyramid.project.conv.",
    r"^concat_projection_bn1\.": "pyramid.project.norm.",
    r"^feature_projection_conv1\.": "low4.conv.",
    r"^feature_projection_bn1\.": "low4.norm.",
    r"^feature_projection_conv2\.": "low2.conv.",
    r"^feature_projection_bn2\.": "low2.norm.",
    r"^decoder([12])\.0\.": r"decoder\1a.",
    r"^decoder([12])\.1\.": r"decoder\1b.",
    r"\.atrous_convolution\.": ".",
    r"_bn\.": "_norm.",
    r"^semantic\.": "classify.",
    r"^skip_conv\.0\.": "reasoning.skip.",
    r"^featuremap_2_graph\.pre_fea$": "reasoning.assign",
    r"^featuremap_2_graph\.weight$": "reasoning.embed",
    r"^graph_conv1\.": "reasoning.convolutions.0.",
    r"^graph_conv2\.": "reasoning.convolutions.1.",
    r"^graph_conv3\.": "reasoning.convolutions.2.",
    r"^graph_2_fea\.conv\.": "reasoning.unpool.",
    r"^graph_2_fea\.bn\.": "reasoning.unpool_norm.",
    r"^graph_2_fea\.node_fea_for_res$": "reasoning.voxel_score",
    r"^graph_2_fea\.node_fea_for_hidden$": "reasoning.node_score",
    r"^graph_2_fea\.weight$": "reasoning.unpool",
}


def convert(state_dict: StateDict, **options: Any) -> StateDict:
    """Names of the published first stage to ours.

    Args:
        state_dict: of GCSN, or of the graph-free network of its pre-training.
        options: arguments of `GCSN`; ``graph`` is needed where there are not twenty labels.

    Raises:
        InputError: for another network (all disagreements are listed), or a missing graph.
    """
    options = network_options(state_dict) | options
    head = state_dict.get("semantic.weight")
    if head is not None and len(head) != 20 and options.get("graph") is None:
        raise InputError(
            f"the published state dict has {len(head)} labels, and does not tell which of them touch: give the label "
            "graph that it was trained with (option graph)."
        )
    try:
        with torch.device("meta"):
            network = GCSN(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the options {options} make no GCSN: {error}") from error
    converted = rename(state_dict, _NAMES)
    require_same(converted, network.state_dict(), "the published state dict", "GCSN")
    return converted


def network_options(state_dict: StateDict) -> dict[str, Any]:
    """Constructor arguments that names and shapes tell."""
    first = state_dict.get("xception_features.conv1.weight")
    mode = "semantic" if "featuremap_2_graph.pre_fea" in state_dict else "none"
    mode = "transfer" if "graph_2_fea.node_fea_for_hidden" in state_dict else mode
    if first is None or first.ndim != 5:
        return {"graph_mode": mode}
    return {"graph_mode": mode, "in_channels": first.shape[1], "width": first.shape[0] / 16}
