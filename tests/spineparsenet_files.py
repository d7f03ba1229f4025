# SPDX-License-Identifier: Apache-2.0
"""State dicts as SpineParseNet's authors saved them, of both stages and of the ablation, filled by the recipe."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from custom_nets.nets.spineparsenet import SpineParseNet
from tests import golden
from tests.recipe import GOLDENS

StateDict = dict[str, Tensor]
Shape = tuple[int, ...]

#: Networks with a listing of their entries; "transfer" is GCSN with another way back from the graph.
NETWORKS = ("gcsn", "deeplabv3plus_pretrain", "transfer", "resunet2d")

#: Channels of GCSN that are sums of others, at width 1.
_SUMS = {152: (128, 24), 192: (128, 64), 640: (128,) * 5}

#: Entries of GCSN that depend on the labels, and the axis.
_PER_LABEL = {"featuremap_2_graph.pre_fea": 1, "semantic.weight": 0, "semantic.bias": 0}


@cache
def listing(name: str) -> dict[str, Shape]:
    """Names and shapes of a whole published file; the names of "transfer" are those its golden was made with."""
    document = json.loads((GOLDENS / "spineparsenet" / "keys.json").read_text(encoding="utf-8"))
    if name != "transfer":
        return {key: tuple(shape) for key, shape in document[name]}
    entries = {key: shape for key, shape in listing("gcsn").items() if not key.startswith("graph_2_fea.")}
    unpooling = {"node_fea_for_res": (128, 1), "node_fea_for_hidden": (128, 1), "weight": (128, 128)}
    return entries | {f"graph_2_fea.{key}": shape for key, shape in unpooling.items()}


def entries(name: str, labels: int = 20, width: float = 1.0) -> dict[str, Shape]:
    """Names and shapes of a first stage for other labels, with more or fewer channels."""
    scaled = {}
    for key, shape in listing(name).items():
        channels = [_scaled(size, width) for size in shape[:2]]
        if key in _PER_LABEL:
            channels[_PER_LABEL[key]] = labels
        scaled[key] = (*channels, *shape[2:])
    return scaled


def _scaled(channels: int, width: float) -> int:
    if channels == 1:  # of the image, of a depthwise convolution
        return 1
    return sum(max(1, round(part * width)) for part in _SUMS.get(channels, (channels,)))


def fine_entries(labels: int = 20, filters: tuple[int, ...] = (32, 64, 128, 256, 512), coarse: bool = True) -> Any:
    """Names and shapes of a second stage of five levels."""
    widths = dict(zip((32, 64, 128, 256, 512), filters, strict=True))
    widths |= {21: 1 + labels if coarse else 1}
    shapes = {}
    for key, shape in listing("resunet2d").items():
        channels = [widths.get(size, size) for size in shape[:2]]
        if key.startswith("final_conv"):
            channels[0] = labels
        shapes[key] = (*channels, *shape[2:])
    return shapes


@lru_cache(maxsize=4096)
def _weight(key: str, shape: Shape) -> Tensor:
    return torch.from_numpy(np.asarray(golden.weight(key, shape)))


def filled(shapes: dict[str, Shape]) -> StateDict:
    """The entries with the recipe's numbers."""
    return {key: _weight(key, shape).clone() for key, shape in shapes.items()}


def empty(shapes: dict[str, Shape]) -> StateDict:
    """The entries without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def official(name: str) -> StateDict:
    """The published state dict with the recipe's numbers."""
    return filled(listing(name))


def parameters(state: StateDict) -> int:
    """How many of the numbers in a published state dict are trained."""
    return sum(value.numel() for key, value in state.items() if "running_" not in key and "num_batches" not in key)


def small_first_stage(**options: Any) -> GCSN:
    """A network of few channels and six labels in eval mode."""
    torch.manual_seed(0)
    few: dict[str, Any] = {"graph": mrspineseg(3), "width": 0.125}
    return _lively(GCSN(**few | options))


def small_second_stage(**options: Any) -> ResUNet2d:
    """A network of few channels and six labels in eval mode."""
    torch.manual_seed(0)
    few: dict[str, Any] = {"coarse_channels": 6, "out_channels": 6, "filters": (4, 6, 8, 8, 8)}
    return _lively(ResUNet2d(**few | options))


def small(**options: Any) -> SpineParseNet:
    """Both stages of few channels and small sizes in eval mode, six labels."""
    torch.manual_seed(0)
    few: dict[str, Any] = {"graph": mrspineseg(3), "width": 0.125, "filters": (4, 6, 8, 8, 8)}
    few |= {"coarse_size": (5, 16, 32), "fine_size": (32, 48), "slices_at_once": 2}
    return _lively(SpineParseNet(**few | options))


def _lively(network: Any) -> Any:
    """In eval mode, with norms that do not pass their input on as it is, and scores that are not all alike."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.6)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("classify.weight"):
            torch.nn.init.normal_(parameter)
    return network.eval()
