# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of RSANet's authors."""

from __future__ import annotations

from typing import Any

import torch

from custom_nets.checkpoints import StateDict, rename, require_same
from custom_nets.errors import InputError
from custom_nets.nets.rsanet import RSANet

_NAMES = {
    r"^init_conv\.": "stem.0.",
    r"^conv(\d)\.layer\.(layer\.)?": r"encoder\1.",
    r"^down(\d)\.(down|layer)\.(layer\.)?": r"down\1.",
    r"^center\.layer\.(layer\.)?": "bottleneck.",
    r"^up_concat(\d)\.up\.up\.": r"decoder\1.up.",
    r"^up_concat(\d)\.conv\.layer\.(layer\.)?": r"decoder\1.block.",
    r"^final\.0\.": "head.convolve.",
    r"^final\.1\.": "head.classify.",
    r"^rsa_block\.": "attention.",
}


def convert(state_dict: StateDict, **options: Any) -> StateDict:
    """Names of RSANet's authors to ours; a plain U-Net's checkpoint gets a fresh attention block with β = 0."""
    state_dict = rename(state_dict, _NAMES)
    options = _told_by_shapes(state_dict) | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = RSANet(**options)
        except (TypeError, ValueError) as error:
            raise InputError(f"the options {options} make no RSANet: {error}") from error
    if not any(name.startswith("attention") for name in state_dict):
        fresh = {name: value for name, value in network.state_dict().items() if name.startswith("attention")}
        state_dict = state_dict | fresh
    require_same(state_dict, network.state_dict(), "the published state dict", "RSANet")
    return state_dict


def _told_by_shapes(state_dict: StateDict) -> dict[str, Any]:
    """Constructor arguments that the shapes tell.

    The widths are those of the network's only if its convolutions and norms agree on them: else some shape is wrong,
    and the comparison with the default network names it.
    """
    options: dict[str, Any] = {}
    shapes = {name: list(value.shape) for name, value in state_dict.items()}
    levels = ("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck")
    norms = [shapes.get(f"{level}.0.norm.weight", []) for level in levels]
    convolutions = [shapes.get(f"{level}.1.conv.weight", []) for level in levels]
    if all(len(n) == 1 and n == c[:1] for n, c in zip(norms, convolutions, strict=True)):
        options["filters"] = [width for (width,) in norms]
    for option, name, axis in (("in_channels", "stem.0.weight", 1), ("out_channels", "head.classify.weight", 0)):
        if len(shapes.get(name, [])) == 5:
            options[option] = shapes[name][axis]
    if any(name.endswith("running_mean") for name in state_dict):
        options["norm"] = "BN"
    return options
