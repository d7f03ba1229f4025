# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of S2aNet's authors, of the network and of those that the paper compares it with.

Their files are bare state dicts, and the names and shapes tell which of the networks a file holds. What they cannot
tell is an order: until 2023-12-10 the three-slice file of the name msacunet concatenated the centre slice first, and
the n-slice file in ascending order, under the same names. The centre-skip, no-share and mUNet files put the centre
first in the slice-aware module, where alone they join slices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from custom_nets.checkpoints import StateDict, rename, require_same
from custom_nets.errors import InputError
from custom_nets.nets.s2anet import S2aNet

#: Options that describe a file and are no arguments of the network.
FILE_OPTIONS = ("slice_order",)

_SLICE_ORDERS = ("ascending", "centre_first")
#: Channels of the levels and of the bottom at feature_scale 1, and the entries that tell a file's.
_WIDTHS = {
    "conv1.conv1.0.weight": 64,
    "conv2.conv1.0.weight": 128,
    "conv3.conv1.0.weight": 256,
    "conv4.conv1.0.weight": 512,
    "center.conv1.0.weight": 1024,
}


def convert(state_dict: StateDict, *, slice_order: str | None = None, **options: Any) -> StateDict:
    """Names and channels of S2aNet's authors to ours, for a network whose slices are in ascending order.

    Args:
        state_dict: of S2aNet, an n-slice network, a centre-skip or no-share network, a U-Net, mUNet, AUNet or A2UNet.
        slice_order: of the concatenations in the file, "ascending" or "centre_first"; needed where nothing tells it.
        options: arguments of `S2aNet`; those left out are told by names and shapes.

    Raises:
        InputError: for another network (all disagreements are listed), or without a ``slice_order`` that is needed.
    """
    if any(name.startswith("backbone.") for name in state_dict):
        raise InputError(
            "the published state dict: is one of the ResNet-50 networks FCN and PSPNet, which are not part of this "
            "collection. Give a file of S2aNet or of one of its variants."
        )
    told = network_options(state_dict)
    order = _order_in_file(state_dict, told, slice_order)
    options = told | options
    try:
        with torch.device("meta"):
            network = S2aNet(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"the options {options} make no S2aNet: {error}") from error
    state_dict = rename(state_dict, _names(told))
    require_same(state_dict, network.state_dict(), "the published state dict", "S2aNet")
    return _ascending(state_dict, network) if order == "centre_first" else state_dict


def network_options(state_dict: StateDict) -> dict[str, Any]:
    """The arguments of `S2aNet` that a published state dict was trained with, dropout and device apart.

    An option that the shapes do not tell is left out; ``slice_order`` is too, since :func:`convert` gives ascending.
    """
    first = _size(state_dict, "conv1.conv1.0.weight", 0)
    third = _size(state_dict, "conv3.conv1.0.weight", 0)
    bottom = _size(state_dict, "conv4.conv1.0.weight", 1)
    skips = _size(state_dict, "up_concat1.conv.conv1.0.weight", 1)
    own_encoders = "conv1a.conv1.0.weight" in state_dict
    slices = bottom // third if third and bottom % third == 0 and bottom // third % 2 else 1
    centre_skip = slices == 3 and skips == 2 * first
    options: dict[str, Any] = {
        "num_slices": slices,
        "share_encoder": not own_encoders,
        "skip": "centre" if centre_skip or own_encoders else "all",
        "up": "bilinear" if "up_concat1.up.1.weight" in state_dict else "transposed",
        "norm": "batch" if "conv1.conv1.1.weight" in state_dict else "none",
        "poolings": 4 if "center.conv1.0.weight" in state_dict else 3,
        "scale_aware": _place(state_dict),
        "feature_scale": _feature_scale(state_dict),
    }
    told = {"in_channels": ("conv1.conv1.0.weight", 1), "out_channels": ("final.weight", 0)}
    sizes = {option: _size(state_dict, name, axis) for option, (name, axis) in told.items()}
    return options | {option: size for option, size in sizes.items() if size}


def _size(state_dict: StateDict, name: str, axis: int) -> int:
    """Length of an axis of a convolution's weight; 0 where there is none."""
    value = state_dict.get(name)
    return 0 if value is None or value.ndim != 4 else value.shape[axis]


def _place(state_dict: StateDict) -> str:
    """Where the scale-aware module stands: the width of its result tells."""
    width = _size(state_dict, "aspp.project.0.weight", 0) or _size(state_dict, "SCaM.project.0.weight", 0)
    if not width:
        return "none"
    at_levels = {
        _size(state_dict, "conv1.conv1.0.weight", 0): "skip1",
        _size(state_dict, "conv2.conv1.0.weight", 0): "level2",
    }
    return at_levels.get(width, "bottom")


def _feature_scale(state_dict: StateDict) -> float:
    """The roundest number that makes all widths; where the widths contradict each other, that of the first."""
    pairs = [(full, _size(state_dict, name, 0)) for name, full in _WIDTHS.items()]
    pairs = [(full, width) for full, width in pairs if width]
    if not pairs:
        return 1
    greatest = min(full / width for full, width in pairs)
    for digits in range(7):
        scale = round(greatest, digits)
        if scale > 0 and all(int(full / scale) == width for full, width in pairs):
            return int(scale) if scale == int(scale) else scale
    full, width = pairs[0]
    return full / width


def _order_in_file(state_dict: StateDict, told: dict[str, Any], given: str | None) -> str:
    """Order of the slices in the file's concatenations: what its layout means, or else what was said."""
    if given is not None and given not in _SLICE_ORDERS:
        raise InputError(f"slice_order {given!r}: choose one of {', '.join(_SLICE_ORDERS)}.")
    if told["num_slices"] == 1:
        return "ascending"
    if told["skip"] == "centre":
        meant = "centre_first"
    elif told["num_slices"] != 3 or any(name.startswith("SCaM.") for name in state_dict):
        meant = "ascending"
    elif given is None:
        raise InputError(
            "the published state dict: networks of three slices with skips from all of them were saved under the same "
            "names with the slices concatenated in two orders: previous, centre, next ('ascending') and centre, "
            "previous, next ('centre_first'). Say which one the file has: slice_order='centre_first' (with the tool: "
            "--slice_order centre_first) if its name begins with macunet or msacunet, 'ascending' if it begins with "
            "3_slices_."
        )
    else:
        return given
    if given not in (None, meant):
        raise InputError(
            f"slice_order {given!r}: the names and shapes in the published state dict are of a network with the "
            f"slices in the order {meant!r}; leave slice_order out."
        )
    return meant


def _names(told: dict[str, Any]) -> dict[str, str]:
    """Regular expressions from the published names to ours."""
    centre = 0 if told["share_encoder"] else 1
    place = {"skip1": "scale_aware_skip", "level2": "encoders.0.scale_aware"}.get(told["scale_aware"], "scale_aware")
    return {
        r"^conv([123])\.": rf"encoders.{centre}.level\1.",
        r"^conv([123])a\.": r"encoders.0.level\1.",
        r"^conv([123])b\.": r"encoders.2.level\1.",
        r"^conv4\.": "slice_aware.",
        r"^center\.": "deepest.",
        r"^(aspp|SCaM)\.b(\d)\.block\.": rf"{place}.branches.\2.",
        r"^(aspp|SCaM)\.project\.": f"{place}.project.",
        r"^((encoders|slice_aware|deepest|scale_aware).*)\.0\.(\w+)$": r"\1.conv.\3",
        r"^((encoders|slice_aware|deepest|scale_aware).*)\.1\.(\w+)$": r"\1.norm.\3",
        r"^up_concat(\d)\.up\.1\.": r"decoder\1.up.0.",  # published behind the upsampling, ours before it
        r"^up_concat(\d)\.up\.": r"decoder\1.up.",
        r"^up_concat(\d)\.conv\.conv(\d)\.0\.": r"decoder\1.conv\2.",
        r"^final\.": "head.",
    }


def _ascending(state_dict: StateDict, network: S2aNet) -> StateDict:
    """Put the input channels of the convolutions that join slices from centre first into ascending order."""
    slices = network.num_slices
    middle = slices // 2
    blocks = [*range(1, middle + 1), 0, *range(middle + 1, slices)]
    changed = {"slice_aware.conv1.conv.weight": blocks}
    if len(network.skipping) == slices:
        upsampled_first = [0, *(1 + block for block in blocks)]
        changed |= {f"decoder{level}.conv1.weight": upsampled_first for level in (1, 2, 3)}
    return state_dict | {name: _permuted(state_dict[name], order) for name, order in changed.items()}


def _permuted(weight: Tensor, order: list[int]) -> Tensor:
    """The weight with its ``len(order)`` equal blocks of input channels in another order."""
    parts = weight.chunk(len(order), dim=1)
    return torch.cat([parts[position] for position in order], dim=1)
