# SPDX-License-Identifier: Apache-2.0
"""Whether the values of the keys that all bundles share can be meant."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from custom_nets.components import neighbourhood
from custom_nets.errors import InputError
from custom_nets.precision import amp_dtype_named
from custom_nets.schedules import WarmPlateauCosine
from custom_nets.spine.option_checks import CHOICES as SPINE_CHOICES
from custom_nets.spine.option_checks import check_spine_options
from custom_nets.tumours.regions import CONVENTIONS

_AT_LEAST_ONE = (
    *("epochs", "val_interval", "batch_size", "in_channels", "patches_per_case", "sw_batch_size"),
    *("base_width", "restart_epochs", "bootstrap_resamples", "step_epochs", "num_slices", "out_channels"),
)
_AT_LEAST_ZERO = (
    *("num_workers", "pictures", "seed", "warmup_epochs", "plateau_epochs"),
    *("min_region_voxels", "min_enhancing_voxels"),
)
_NOT_NEGATIVE = ("learning_rate", "weight_decay", "gradient_clip", "min_lesion_volume", "positive_weight", "aux_weight")
_SWITCHES = (
    *("amp", "tta", "separate_folder", "keep_largest", "count_hallucinated", "all_cases", "cudnn_benchmark"),
    *("per_modality", "deep_supervision", "local_global", "swapped_axes", "lesion_wise", "reorder_channels"),
    "out_of_fold",
)
_SHARES = (
    *("cache_rate", "lesion_share", "flip_probability", "pretrained_share"),
    *("elastic_probability", "mirror_probability", "contrast_probability", "momentum"),
)
_ABOVE_ZERO = ("intensity_std", "feature_scale")
_CHOICES = {
    "intensity": ("divide", "percentile", "zscore"),
    "schedule": ("sgdr", "official"),
    "validation": ("crops", "volumes"),
    "windows": ("centre", "sliding", "whole"),
    "assd": ("pooled", "directed"),
    "plane": ("auto", "axial", "coronal", "sagittal"),
    "weighting": ("adaptive", "static", "rank", "none"),
    "select_by": ("mean_iou", "mean_dice"),
    "resize_back": ("labels", "probabilities"),
    "distance_unit": ("mm", "voxel"),
    "blending": ("constant", "gaussian"),
    "optimizer_name": ("adam", "sgd"),
    "loss_name": ("cross_entropy", "pixelwise", "fpfn"),
    "contrast_clip": ("published", "none"),
    "coarse_logits": ("stored", "computed"),
    "stages": ("both", "coarse", "refine"),
    "graph_mode": ("semantic", "none", "global_reasoning", "transfer"),
    "suppression": ("global", "local"),
    "nesting": ("published", "nested"),
    "empty_rule": ("all", "et"),
    "output_names": ("image", "case"),
    "output_convention": tuple(CONVENTIONS),
    "label_convention": ("auto", *CONVENTIONS),
    "context": ("strided", "max_pool", "none"),
    "deformable": ("added", "replacing", "per_level", "none"),
}
#: Of a network with supervision_weights; MONAI's loss takes weights of its own where they are fewer.
_HEADS = 4
#: Of bundles whose network sees slices.
_SLICE_CHOICES = {"intensity": ("minmax", "percentile", "none"), "windows": ("resized", "sliding")}
#: Of bundles whose network sees regions of a tumour.
_REGION_CHOICES = {
    "intensity": ("crop", "volume", "nonzero"),
    "windows": ("sliding", "foreground"),
    "image_interpolation": ("nearest", "bilinear"),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Check the values of the keys that all bundles share, those that are there.

    Raises:
        InputError: naming the key, the value found and what would do.
    """
    _check_numbers(options)
    for key in _SWITCHES:
        if key in options and not isinstance(options[key], bool):
            raise InputError(f"{key} is {options[key]!r}: write True or False.")
    for key, choices in _choices(options).items():
        if key in options and options[key] not in choices:
            raise InputError(f"{key} is {options[key]!r}: choose one of {', '.join(choices)}.")
    _check_shares(options)
    if "label_graph" in options:
        check_spine_options(options)
    else:
        _check_sizes(options)
    _check_mirrors(options)
    _check_plan(options)
    _check_supervision(options)
    _check_device(options)
    if "connectivity" in options:
        neighbourhood(options["connectivity"])


def require_writable(**folders: str | Path) -> None:
    """Refuse folders, given by their options' names, that cannot be made or written into. Nothing is made.

    Raises:
        InputError: naming the option, the folder and the reason.
    """
    for option, folder in folders.items():
        path = Path(folder).absolute()
        existing = next(place for place in (path, *path.parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise InputError(
                f"{option} is '{folder}', which cannot be written to ({existing}: {error.strerror}); "
                f"name another folder with --{option}."
            ) from error


def _choices(options: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The words that each option takes in a bundle of these options."""
    if "num_slices" in options:
        return _CHOICES | _SLICE_CHOICES
    if "label_graph" in options:
        return _CHOICES | SPINE_CHOICES
    return _CHOICES | _REGION_CHOICES if "region_threshold" in options else _CHOICES


def _check_numbers(options: Mapping[str, Any]) -> None:
    for lowest, keys in ((1, _AT_LEAST_ONE), (0, _AT_LEAST_ZERO)):
        for key in keys:
            if key in options and (type(options[key]) is not int or options[key] < lowest):
                raise InputError(f"{key} is {options[key]!r}: give a whole number of at least {lowest}.")
    for key in _NOT_NEGATIVE:
        if key in options and not (_number(options[key]) and options[key] >= 0):
            raise InputError(f"{key} is {options[key]!r}: give a number of at least 0.")
    for key in _ABOVE_ZERO:
        if key in options and not (_number(options[key]) and options[key] > 0):
            raise InputError(f"{key} is {options[key]!r}: give a number above 0.")


def _check_shares(options: Mapping[str, Any]) -> None:
    overlap, threshold = (options.get(key, 0.5) for key in ("overlap", "lesion_threshold"))
    if not _number(overlap) or not 0 <= overlap < 1:
        raise InputError(f"overlap is {overlap!r}: give a number from 0 up to, but not, 1.")
    if not _number(threshold) or not 0 < threshold < 1:
        raise InputError(f"lesion_threshold is {threshold!r}: give a probability between 0 and 1, such as 0.5.")
    if not _number(options.get("region_threshold", 0.5)) or not 0 < options.get("region_threshold", 0.5) < 1:
        raise InputError(f"region_threshold is {options['region_threshold']!r}: give a probability between 0 and 1.")
    for key in (*_SHARES, *(("intensity_mean",) if "num_slices" in options else ())):
        if key in options and (not _number(options[key]) or not 0 <= options[key] <= 1):
            raise InputError(f"{key} is {options[key]!r}: give a share from 0 to 1.")


def _check_sizes(options: Mapping[str, Any]) -> None:
    patch: Any = options["patch_size"]
    spacing: Any = options.get("spacing")
    if "num_slices" in options:
        if not _numbers(patch, 2) or not all(type(size) is int and size >= 8 and size % 8 == 0 for size in patch):
            raise InputError(f"patch_size is {patch!r}: give rows and columns, multiples of 8, as [512,512].")
        if options["num_slices"] % 2 == 0:
            raise InputError(f"num_slices is {options['num_slices']}: give an odd number, the labelled slice between.")
    elif not _numbers(patch, 3) or not all(type(size) is int and size >= 1 for size in patch):
        raise InputError(f"patch_size is {patch!r}: give three whole numbers of voxels, as [96,96,96].")
    sizes = _numbers(spacing, 3) and all(_number(size) and size > 0 for size in spacing)
    if not sizes and spacing is not None and spacing is not False:
        raise InputError(f"spacing is {spacing!r}: give three sizes in mm, as [1,1,1], or False for the scans' own.")


def _check_mirrors(options: Mapping[str, Any]) -> None:
    for key in ("tta", "mirror_probability"):
        if options.get("plane") == "sagittal" and options.get(key):
            raise InputError(
                f"{key} is {options[key]!r}, a mirroring of left and right, which sagittal slices do not show: "
                f"give --{key} {type(options[key])(0)}."
            )


def _check_plan(options: Mapping[str, Any]) -> None:
    if {"warmup_epochs", "plateau_epochs", "epochs"} <= options.keys():
        WarmPlateauCosine(1, options["warmup_epochs"], options["plateau_epochs"], options["epochs"])


def _check_supervision(options: Mapping[str, Any]) -> None:
    weights = options.get("supervision_weights", [1.0] * _HEADS)
    if not _numbers(weights, _HEADS) or not all(_number(weight) and weight >= 0 for weight in weights):
        raise InputError(
            f"supervision_weights is {weights!r}: give {_HEADS} numbers of at least 0, one for each head, as [1,0,0,0]."
        )


def _check_device(options: Mapping[str, Any]) -> None:
    try:
        device = torch.device(options["device"])
    except (RuntimeError, TypeError):
        raise InputError(f"device is {options['device']!r}: write cpu, cuda, or cuda:0 for the first GPU.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is '{device}', but {torch.cuda.device_count()} CUDA devices are here: try --device cpu."
        )
    dtype = amp_dtype_named(options.get("amp_dtype", "bfloat16"))
    if options["amp"] and dtype == torch.float16 and device.type != "cuda" and "learning_rate" in options:
        raise InputError("amp_dtype is 'float16', whose gradients need CUDA: use bfloat16, or --amp False.")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
