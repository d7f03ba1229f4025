# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of S2CA-Net's authors, of the network and of its ablation.

A file is a dictionary whose ``net`` is the state dict, beside optimizer, scheduler and epoch. Names and shapes tell the
network's options, but for the exchange of axes, which all trained weights need, and whether MS-ADC's maps are added to
the skip connections or replace them (pass ``deformable="replacing"``). The published files do not fit the published
class: they have 360 channels and six decoder blocks at level 2, which the shapes tell too.
Shortcuts of blocks that have none, and slopes that nothing uses, are left out.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from custom_nets.checkpoints import StateDict, rename, require_same
from custom_nets.errors import InputError
from custom_nets.nets.s2ca_net import S2CANet

#: PReLUs that never run, of shortcuts and inside the gates.
_UNUSED = re.compile(r"identity_mapping\.act\.|^gate\d_\d\.\w+(\.0)?\.act\.")

#: Parts of the network. A mixer's two branches lie side by side in the files.
_PARTS = {
    r"^backbone\.conv([01])_0\.": r"encoder\1.",
    r"^conv([01])_1\.": r"decoder\1.",
    r"^backbone\.conv([23])_0\.": r"encoder\1.local_branch.",
    r"^conv([23])_1\.": r"decoder\1.local_branch.",
    r"^backbone\.former([23])_0\.": r"encoder\1.global_branch.",
    r"^former([23])_1\.": r"decoder\1.global_branch.",
    r"^gate\d_(\d)\.": r"gate\1.",
    r"^convds(\d)\.": r"head\1.",
    r"^down8Pooling\.": "context.down0.",
    r"^down4Pooling\.": "context.down1.",
    r"^down2Pooling\.": "context.down2.",
    r"^ca\.": "context.weigh.",
    r"^sa\.conv\.": "context.gate.convolution.",
    r"^BottomAspmlp_l4\.aspmlp\.": "context.mlp.mlp.",
    r"^BottomAspmlp_l4\.fuse_conv\.": "context.mlp.fuse.",
    r"^in_down01\.": "skips.from0.",
    r"^in_up21\.": "skips.from2.",
    r"^skip_ca\.": "skips.weigh.",
    r"^skip_msadc\.": "skips.deform.",
    r"^skip_([012])\.": r"deform\1.",
    r"^out_up10\.": "skips.to0.",
    r"^out_1\.": "skips.to1.",
    r"^out_down12\.": "skips.to2.",
}
_LAYERS = {
    r"\.W_g\.conv\.": ".from_below.",
    r"\.W_g\.norm\.": ".norm_below.",
    r"\.W_x\.conv\.": ".from_skip.",
    r"\.W_x\.norm\.": ".norm_skip.",
    r"\.psi\.0\.conv\.": ".score.",
    r"\.psi\.0\.norm\.": ".norm_score.",
    r"\.conv([12])\.dwconv\.": r".unit\1.depthwise.",
    r"\.conv([12])\.pwconv\.": r".unit\1.pointwise.",
    r"\.conv([12])\.act\.": r".unit\1.prelu.",
    r"\.identity_mapping\.conv\.": ".shortcut.",
    r"\.act\.": ".prelu.",
    r"\.conv1x1_down\.": ".reduce.",
    r"\.conv1x1_up\.": ".expand.",
    r"\.fuse_conv\.": ".fuse.",
    r"\.poolformer\.network\.0\.": ".former.blocks.",
    r"\.poolformer\.": ".former.",
    r"\.aspmlp\.layers\.0\.": ".",
    r"\.layers\.0\.blocks\.": ".blocks.",
    r"\.patch_embed\.proj\.": ".embed.",
    r"\.patch_embed\.norm\.": ".norm.",
    r"\.conv1x1\.": ".project.",
    r"\.token_mixer\.conv\.": ".mixer.",
    r"\.token_mixer\.att\.channel_attention\.": ".attention.",
    r"\.token_mixer\.att\.spacial_attention\.conv\.": ".attention.places.",
    r"\.layer_scale_([12])": r".scale\1",
    r"\.fc\.0\.": ".squeeze.",
    r"\.fc\.2\.": ".excite.",
    r"\.fc1\.": ".widen.",
    r"\.fc2\.": ".narrow.",
    r"\.mlp\.(widen|narrow)\.": r".\1.",
    r"\.axial_shift\.conv1\.": ".axial_shift.enter.",
    r"\.axial_shift\.conv2_1\.": ".axial_shift.columns.",
    r"\.axial_shift\.conv2_2\.": ".axial_shift.rows.",
    r"\.axial_shift\.conv3\.": ".axial_shift.leave.",
    r"\.conv_se\.": ".squeeze.",
    r"\.offset_conv_kernel\.": ".offsets.",
    r"\.conv_kernel\.": ".kernel.",
    r"\.att\.conv\.": ".attention.convolution.",
}


def convert(state_dict: StateDict, **options: Any) -> StateDict:
    """Names and shapes of S2CA-Net's authors to ours.

    Args:
        state_dict: of S2CA-Net, at any width and patch size, in the paper's or the published files' configuration, or
            of a network of its ablation.
        options: arguments of `S2CANet`; those left out are told by names and shapes.

    Raises:
        InputError: for another network (all disagreements are listed).
    """
    options = network_options(state_dict) | options
    try:
        with torch.device("meta"):
            network = S2CANet(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the options {options} make no S2CANet: {error}") from error
    expected = network.state_dict()
    used = {name: value for name, value in state_dict.items() if not _UNUSED.search(name)}
    renamed = rename(used, {**_PARTS, **_mixers(options), **_LAYERS})
    converted = {
        name: _kernel(value) if name.endswith("kernel.weight") else value
        for name, value in renamed.items()
        if name in expected or not _needless(name)
    }
    require_same(converted, expected, "the published state dict", "S2CANet")
    return converted


def network_options(state_dict: StateDict) -> dict[str, Any]:
    """The arguments of `S2CANet` that a published state dict was trained with, as far as names and shapes tell."""
    options: dict[str, Any] = {
        "local_global": "backbone.former2_0.conv1x1_down.weight" in state_dict,
        "context": _context(state_dict),
        "deformable": _deformable(state_dict),
    }
    widths = [_size(state_dict, f"backbone.conv{level}_0.conv1.pwconv.weight", 0) for level in range(4)]
    told = {
        "in_channels": _size(state_dict, "backbone.conv0_0.conv1.pwconv.weight", 1),
        "out_channels": _size(state_dict, "convds0.weight", 0),
        "filters": tuple(widths) if all(widths) else 0,
    }
    if options["local_global"]:
        planes = _size(state_dict, "backbone.former2_0.conv1x1_down.weight", 1)
        former = "{}.poolformer.patch_embed.proj.weight"
        told |= {
            "patch_size": 4 * planes // max(widths[2], 1),
            "embed_channels": tuple(_size(state_dict, former.format(f"backbone.former{n}_0"), 0) for n in (2, 3)),
            "encoder_depths": tuple(_depth(state_dict, f"backbone.former{n}_0") for n in (2, 3)),
            "decoder_depths": tuple(_depth(state_dict, f"former{n}_1") for n in (2, 3)),
        }
    return options | {option: value for option, value in told.items() if value}


def _size(state_dict: StateDict, name: str, axis: int) -> int:
    """Length of an axis of a convolution's weight; 0 where there is none."""
    value = state_dict.get(name)
    return 0 if value is None or value.ndim < 4 else value.shape[axis]


def _depth(state_dict: StateDict, branch: str) -> int:
    blocks = f"{branch}.poolformer.network.0."
    return sum(name.startswith(blocks) and name.endswith("layer_scale_1") for name in state_dict)


def _context(state_dict: StateDict) -> str:
    if "sa.conv.weight" not in state_dict:
        return "none"
    return "strided" if "down8Pooling.weight" in state_dict else "max_pool"


def _deformable(state_dict: StateDict) -> str:
    if "in_down01.weight" in state_dict:
        return "added"
    return "per_level" if "skip_1.conv_se.weight" in state_dict else "none"


def _mixers(options: dict[str, Any]) -> dict[str, str]:
    """Without global branches levels 2 and 3 are the units alone; without MCA its convolutions are the bottom."""
    rules = {r"^conv_bottom\.": "bottom." if options["context"] == "none" else "context.convolutions."}
    return rules if options["local_global"] else rules | {r"^((?:en|de)coder[23])\.local_branch\.": r"\1."}


def _kernel(value: Tensor) -> Tensor:
    """A deformable convolution's weight, whose channels the taps were, as one of 3x3x3."""
    if value.ndim != 5 or value.shape[1] % 27 or value.shape[2:].numel() != 1:
        return value  # to be complained of as it is
    return value.reshape(len(value), value.shape[1] // 27, 3, 3, 3)


def _needless(name: str) -> bool:
    """Stored and never run: a shortcut beside the identity, the deformable convolution of level 0."""
    return name.endswith(".shortcut.weight") or name.startswith("deform0.")
