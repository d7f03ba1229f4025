# SPDX-License-Identifier: Apache-2.0
"""State dicts as S2aNet's authors saved them, of every network with golden numbers, filled by the recipe."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests import golden
from tests.recipe import GOLDENS

StateDict = dict[str, Tensor]

#: Golden -> (listing of its entries, options of S2aNet besides classes and widths, options that the file needs).
NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "s2anet_c5_fs8": ("S2aNet", {}, {}),
    "s2anet_c55_fs1": ("S2aNet", {}, {}),
    "s2anet_c5_fs8_upsample": ("S2aNet", {"up": "bilinear"}, {}),
    "s2anet_c5_fs8_nobn": ("S2aNet", {"norm": "none"}, {}),
    "msacunet_centreskip_c5_fs8": ("msacUNet_centre_skip", {"skip": "centre"}, {}),
    "msacunet_v1_centrefirst_c5_fs8": ("msacUNet_v1_centre_first", {}, {"slice_order": "centre_first"}),
    "noshare_c5_fs1": ("noshare", {"share_encoder": False, "skip": "centre"}, {}),
    "nslices1_c5_fs8": ("AcUNet", {"num_slices": 1}, {}),
    "nslices3_c5_fs8": ("nslices3", {}, {"slice_order": "ascending"}),
    "nslices5_c5_fs8": ("nslices5", {"num_slices": 5}, {}),
    "nslices7_c5_fs8": ("nslices7", {"num_slices": 7}, {}),
    "unet1_c5_fs8": ("UNet_1ch", {"num_slices": 1, "poolings": 4, "scale_aware": "none"}, {}),
    "unet3_c5_fs8": ("UNet_3ch", {"in_channels": 3, "num_slices": 1, "poolings": 4, "scale_aware": "none"}, {}),
    "munet_c5_fs8": ("mUNet", {"poolings": 4, "scale_aware": "none", "skip": "centre"}, {}),
    "acunet_c5_fs8": ("AcUNet", {"num_slices": 1}, {}),
    "aunet_c5_fs8": ("AUNet", {"num_slices": 1, "scale_aware": "skip1"}, {}),
    "a2unet_c5_fs8": ("A2UNet", {"num_slices": 1, "scale_aware": "level2"}, {}),
}


def network_options(name: str) -> dict[str, Any]:
    """Options of the `S2aNet` that a golden is of."""
    classes, scale = (55, 1) if "c55" in name else (5, 1 if name.endswith("fs1") else 8)
    return {"out_channels": classes, "feature_scale": scale} | NETWORKS[name][1]


def entries(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict that a golden is of."""
    listing, options = NETWORKS[name][0], network_options(name)
    if listing == "S2aNet":
        full = json.loads((GOLDENS / "s2anet" / "keys.json").read_text(encoding="utf-8"))
    else:
        full = json.loads((GOLDENS / "s2anet" / "keys_variants.json").read_text(encoding="utf-8"))[listing]
    shapes = {}
    for key, shape in full:
        if options.get("norm") == "none" and key.startswith("conv") and ".1." in key:
            continue
        if options.get("up") == "bilinear" and ".up." in key:
            key = key.replace(".up.", ".up.1.")
            shape = [shape[1], shape[0], 1, 1] if len(shape) == 4 else shape
        shapes[key] = tuple(_scaled(size, options["out_channels"], options["feature_scale"]) for size in shape)
    return shapes


def _scaled(size: int, classes: int, scale: int) -> int:
    """Of 55 classes and widths from 64 on to the golden's; kernels and slices as channels stay."""
    return classes if size == 55 else size // scale if size >= 64 else size


@lru_cache(maxsize=2)
def _filled(name: str) -> StateDict:
    return {key: torch.from_numpy(np.asarray(golden.weight(key, shape))) for key, shape in entries(name).items()}


def official(name: str, he: bool = False) -> StateDict:
    """The published state dict of a golden; ``he``: by the rule that keeps deep features large."""
    state = _filled(name)
    return {key: louder(value) if he else value for key, value in state.items()}


def louder(value: Tensor) -> Tensor:
    """The rule "_he": entries with two or more axes times √2."""
    return (value.double() * np.sqrt(2.0)).float() if value.ndim >= 2 else value
