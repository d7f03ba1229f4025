# SPDX-License-Identifier: Apache-2.0
"""What a bundle's run checks before its first step, so that bad input costs seconds and not hours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

from custom_nets.checkpoints import read_checkpoint
from custom_nets.datasets.datalist import load_section
from custom_nets.datasets.preflight import check_inference, check_training
from custom_nets.errors import InputError, stops_with_message
from custom_nets.precision import amp_dtype_named
from custom_nets.registry import bundle
from custom_nets.training.run_state import resume_from


@stops_with_message
def before_training(name: str, options: Mapping[str, Any]) -> None:
    """Check everything that a training run of bundle ``name`` will need; ends the program with one message if it fails.

    Args:
        name: of the bundle; its metadata names modalities and labels.
        options: the run's top-level keys, as the bundle's train.json hands them over.

    Of a distributed run the first process checks for all.
    """
    if idist.get_rank() != 0:
        return
    check_options(options)
    last = resume_from(options["resume"], options["ckpt_dir"])
    if last is not None:
        read_checkpoint(last)
    require_writable(options["ckpt_dir"], options["output_dir"])
    _check_ranks(len(load_section(options["dataset_dir"], options["datalist"], "validation")))
    check_training(
        options["dataset_dir"],
        options["datalist"],
        modalities_of(name, options["in_channels"]),
        list(bundle(name).labels),
        options["patch_size"],
        spacing=options.get("spacing"),
    )


@stops_with_message
def before_segmenting(name: str, options: Mapping[str, Any], section: str, labelled: bool = False) -> None:
    """Check everything that an inference, or with ``labelled`` an evaluation, of bundle ``name`` will need."""
    check_options(options)
    if not Path(options["checkpoint"]).is_file():
        raise InputError(
            f"{options['checkpoint']}: no such checkpoint; train first, or name one with --checkpoint FILE."
        )
    require_writable(options["output_dir"])
    labels = list(bundle(name).labels) if labelled else None
    modalities = modalities_of(name, options["in_channels"])
    check_inference(options["dataset_dir"], options["datalist"], modalities, labels, section=section)


def _check_ranks(validation_cases: int) -> None:
    ranks = idist.get_world_size()
    if 0 < validation_cases < ranks:
        raise InputError(
            f"{validation_cases} validation cases for {ranks} processes: each needs one; "
            "list more cases, or start fewer processes."
        )


def modalities_of(name: str, in_channels: int) -> list[str] | int:
    """Names of the bundle's modalities; where the user trains on another number of channels, that number."""
    modalities = list(bundle(name).modalities)
    return modalities if len(modalities) == in_channels else in_channels


def check_options(options: Mapping[str, Any]) -> None:
    """Check the values of the keys that all bundles share, those that are there.

    Raises:
        InputError: naming the key, the value found and what would do.
    """
    for key in ("epochs", "val_interval", "batch_size", "in_channels", "patches_per_case", "sw_batch_size"):
        if key in options and (type(options[key]) is not int or options[key] < 1):
            raise InputError(f"{key} is {options[key]!r}: give a whole number of at least 1.")
    for key in ("num_workers", "pictures", "seed"):
        if key in options and (type(options[key]) is not int or options[key] < 0):
            raise InputError(f"{key} is {options[key]!r}: give a whole number of at least 0.")
    for key in ("learning_rate", "weight_decay", "gradient_clip", "min_lesion_volume"):
        number = options.get(key, 0.0)
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
            raise InputError(f"{key} is {number!r}: give a number of at least 0.")
    for key in ("amp", "tta"):
        if key in options and not isinstance(options[key], bool):
            raise InputError(f"{key} is {options[key]!r}: write True or False.")
    if not 0 <= options.get("overlap", 0.0) < 1:
        raise InputError(f"overlap is {options['overlap']!r}: give a number from 0 up to, but not, 1.")
    _check_sizes(options)
    _check_device(options)


def _check_sizes(options: Mapping[str, Any]) -> None:
    patch = options["patch_size"]
    if not _three(patch) or not all(type(size) is int and size >= 1 for size in patch):
        raise InputError(f"patch_size is {patch!r}: give three whole numbers of voxels, as [96,96,96].")
    spacing = options.get("spacing")
    if spacing is not None and (not _three(spacing) or not all(0 < size < math.inf for size in spacing)):
        raise InputError(f"spacing is {spacing!r}: give three sizes in mm, as [1,1,1], or null to keep the scans' own.")


def _three(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3


def _check_device(options: Mapping[str, Any]) -> None:
    device = torch.device(options["device"])
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is '{device}', but {torch.cuda.device_count()} CUDA devices are here: try --device cpu."
        )
    dtype = amp_dtype_named(options.get("amp_dtype", "bfloat16"))
    if options["amp"] and dtype == torch.float16 and device.type != "cuda" and "learning_rate" in options:
        raise InputError("amp_dtype is 'float16', whose gradients need CUDA: use bfloat16, or --amp false.")


def require_writable(*folders: str | Path) -> None:
    """Make the folders; `InputError` where that, or writing into one, is not possible."""
    for folder in map(Path, folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"{folder}: cannot be written to ({error.strerror}); name another folder.") from error
