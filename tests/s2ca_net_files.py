# SPDX-License-Identifier: Apache-2.0
"""State dicts as S2CA-Net's authors saved them, of every network with golden numbers, filled by the recipe.

Names and shapes come from the listing of the released configuration; the other networks' are scaled and cut from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests import golden
from tests.recipe import GOLDENS

StateDict = dict[str, Tensor]
Shape = tuple[int, ...]

#: As the listing is: its patch, the width of its first level, its embeddings.
PATCH, WIDTH, EMBED = 128, 16, (256, 512)

#: Golden -> options of S2CANet besides the patch size.
NETWORKS: dict[str, dict[str, Any]] = {
    "net_p32b2": {},
    "ckptcfg_p32": {"embed_channels": (360, 512), "decoder_depths": (6, 2)},
    "small_p32": {"filters": (8, 16, 32, 64)},
    "large_p32": {"filters": (32, 64, 128, 256)},
    "baseline_p32": {"local_global": False, "context": "none", "deformable": "none"},
    "b_lgsm_p32": {"context": "none", "deformable": "none"},
    "b_mca_p32": {"local_global": False, "deformable": "none"},
    "b_msadc_p32": {"local_global": False, "context": "none"},
    "b_lgsm_mca_p32": {"deformable": "none"},
    "b_lgsm_mca_deform_p32": {"context": "max_pool", "deformable": "per_level"},
    "b_lgsm_mca_msadc_p32": {"deformable": "replacing", "embed_channels": (360, 512), "decoder_depths": (6, 2)},
}

_MS_ADC = re.compile(r"in_|out_|skip_")
_MCA = re.compile(r"down\dPooling|ca\.|sa\.|BottomAspmlp")
_BLOCK = re.compile(r"(.*former(\d)_(\d)\.poolformer\.network\.0\.)(\d)(\..*)")


@cache
def listing(name: str = "keys") -> tuple[tuple[str, Shape], ...]:
    """Names and shapes of a whole file."""
    entries = json.loads((GOLDENS / "s2ca_net" / f"{name}.json").read_text(encoding="utf-8"))
    return tuple((key, tuple(shape)) for key, shape in entries)


def entries(patch_size: int, **options: Any) -> dict[str, Shape]:
    """Names and shapes of the file of a network; ``options`` of S2CANet, the widths being multiples of one another."""
    width = Fraction(options.get("filters", (WIDTH,))[0], WIDTH)
    embed = [Fraction(new, old) for new, old in zip(options.get("embed_channels", EMBED), EMBED, strict=True)]
    return {
        key: _scaled(key, shape, width, embed, Fraction(patch_size, PATCH))
        for key, shape in _named(listing(), **options)
    }


def _named(
    full: Sequence[tuple[str, Shape]],
    local_global: bool = True,
    context: str = "strided",
    deformable: str = "added",
    encoder_depths: Sequence[int] = (6, 2),
    decoder_depths: Sequence[int] = (4, 2),
    **_: Any,
) -> list[tuple[str, Shape]]:
    """Cut and repeat the listing's entries, at the listing's widths."""
    named = []
    for key, shape in full:
        block = _BLOCK.match(key)
        if (
            ("former" in key and not local_global)
            or (_MCA.match(key) and context == "none")
            or ("Pooling" in key and context == "max_pool")
            or (_MS_ADC.match(key) and deformable in ("none", "per_level"))
            or (key.startswith("conv_bottom.0") and context == "none")
        ):
            continue
        if block is None:
            named.append((key, shape))
        elif block[4] == "0":
            depth = (encoder_depths if block[3] == "0" else decoder_depths)[int(block[2]) - 2]
            named += [(f"{block[1]}{number}{block[5]}", shape) for number in range(depth)]
    if context == "none":
        last = [(key, shape) for key, shape in named if key.startswith("conv_bottom.1")]
        named += [(key.replace("1", str(number), 1), shape) for number in (0, 2, 3) for key, shape in last]
    if deformable == "per_level":
        named += [entry for level in range(3) for entry in _deformable(f"skip_{level}", WIDTH * 2**level)]
    return named


def _deformable(name: str, channels: int) -> list[tuple[str, Shape]]:
    """An attentive deformable convolution that squeezes the channels four times."""
    seen = channels // 4
    return [
        (f"{name}.conv_se.weight", (seen, channels, 1, 1, 1)),
        (f"{name}.conv_kernel.weight", (channels, 27 * seen, 1, 1, 1)),
        (f"{name}.offset_conv_kernel.weight", (81, seen, 3, 3, 3)),
        (f"{name}.att.conv.weight", (1, 2, 7, 7, 7)),
    ]


def _scaled(key: str, shape: Shape, width: Fraction, embed: Sequence[Fraction], patch: Fraction) -> Shape:
    """Scale the channels, which are the first two axes, each by what it counts."""
    factors = [width, width]
    if "aspmlp." in key:  # has 128 channels at any width
        outer = {"patch_embed.proj.weight": 1, "conv1x1.weight": 0, "conv1x1.bias": 0}
        factors = [width if outer.get(key.split("aspmlp.")[1]) == axis else Fraction(1) for axis in (0, 1)]
    elif "poolformer." in key:
        inner = embed[int(key.split("former")[1][0]) - 2]
        factors = [inner, inner]
        if "patch_embed.proj.weight" in key:
            factors[1] = width
        elif "poolformer.conv1x1" in key:
            factors[0] = width
    elif "conv1x1_down.weight" in key:
        factors[1] *= patch
    elif "conv1x1_up" in key:
        factors[0] *= patch
    channels = [
        int(size * factor) if size > 5 and size != 81 else size for size, factor in zip(shape, factors, strict=False)
    ]
    return (*channels, *shape[2:])


@lru_cache(maxsize=4096)
def _weight(key: str, shape: Shape) -> Tensor:
    return torch.from_numpy(np.asarray(golden.weight(key, shape)))


def official(patch_size: int, **options: Any) -> StateDict:
    """The published state dict of a network with the recipe's numbers; arguments as of `entries`."""
    return {key: _weight(key, shape).clone() for key, shape in entries(patch_size, **options).items()}


def empty(patch_size: int, **options: Any) -> StateDict:
    """The same without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in entries(patch_size, **options).items()}


def file_options(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of a network those that its file does not tell."""
    return {key: value for key, value in options.items() if value == "replacing"}


def parameters(state: StateDict) -> int:
    """How many of the numbers in a published state dict are trained."""
    return sum(value.numel() for key, value in state.items() if "running_" not in key and "num_batches" not in key)
