# SPDX-License-Identifier: Apache-2.0
"""Whether the values of SpineParseNet's own options can be meant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from custom_nets.errors import InputError
from custom_nets.spine.cropping import central_rows

#: How each stage may turn images; and how the first stage sees a volume of many slices.
CHOICES = {"windows": ("whole", "sliding")}
_COARSE_TURNS = ("published", "nearest", "bilinear", "spline")
_FINE_TURNS = ("published", "bicubic", "bilinear")


def check_spine_options(options: Mapping[str, Any]) -> None:
    """Check those of the options that are there.

    Raises:
        InputError: naming the option, the value found and what would do.
    """
    refinement = "coarse_logits" in options
    turns = _FINE_TURNS if refinement else _COARSE_TURNS
    if options.get("image_interpolation", "published") not in turns:
        raise InputError(
            f"image_interpolation is {options['image_interpolation']!r}: choose one of {', '.join(turns)}."
        )
    _check_sizes(options, refinement)
    _check_numbers(options)
    if not _number(options.get("crop_share", 0.5)):
        raise InputError(f"crop_share is {options['crop_share']!r}: give a share of the rows above 0, up to 1.")
    central_rows(1, options.get("crop_share", 0.5))
    filters = options.get("filters", [32, 64, 128, 256, 512])
    if not isinstance(filters, Sequence) or len(filters) != 5 or not all(type(n) is int and n > 0 for n in filters):
        raise InputError(f"filters is {filters!r}: give five whole numbers, as [32,64,128,256,512].")


def _check_sizes(options: Mapping[str, Any], refinement: bool) -> None:
    for key in ("coarse_size", *(() if refinement else ("patch_size",))):
        if not _whole(options.get(key, (18, 128, 256)), 3, 1):
            raise InputError(f"{key} is {options[key]!r}: give slices, rows and columns, as [18,128,256].")
    for key in ("fine_size", *(("patch_size",) if refinement else ())):
        if not _whole(options.get(key, (256, 512)), 2, 16):
            raise InputError(f"{key} is {options[key]!r}: give rows and columns, multiples of 16, as [256,512].")


def _check_numbers(options: Mapping[str, Any]) -> None:
    if options.get("slice_spacing", False) is not False and not _positive(options["slice_spacing"]):
        raise InputError(
            f"slice_spacing is {options['slice_spacing']!r}: give mm, as 4.4, or False for the scans' own."
        )
    for key in ("width", "intensity_std"):
        if key in options and not _positive(options[key]):
            raise InputError(f"{key} is {options[key]!r}: give a number above 0.")
    if "intensity_mean" in options and not _number(options["intensity_mean"]):
        raise InputError(f"intensity_mean is {options['intensity_mean']!r}: give a number; tools.intensity_statistics.")
    if options.get("batch_size", 2) < 2:
        raise InputError(f"batch_size is {options['batch_size']}: batch norm needs at least 2.")
    half = options.get("amp") and options.get("amp_dtype") == "float16"
    if half and options.get("graph_mode") == "global_reasoning" and options.get("stages") != "refine":
        raise InputError("graph_mode global_reasoning sums over all voxels, too much for float16: --amp_dtype bfloat16")
    if options.get("stages") == "refine" and options.get("tta"):
        raise InputError("tta mirrors volumes, but stored logits are of the volumes as they are: give --tta False.")
    angle = options.get("max_angle", 15)
    if type(angle) is not int or not 0 <= angle <= 180:
        raise InputError(f"max_angle is {angle!r}: give whole degrees from 0 to 180; 15 as published.")


def _whole(value: Any, count: int, multiple: int) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return False
    return all(type(size) is int and size >= 1 and size % multiple == 0 for size in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0
