# SPDX-License-Identifier: Apache-2.0
"""Overlap of label maps slice by slice: the validation metric of the S2A-Net paper's released training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from custom_nets.errors import InputError

#: Added to the denominators, as published; a class that a slice and its prediction both lack counts as 0.
EPSILON = 1e-10


class OverlapCounts(NamedTuple):
    """Pixels of every image and class, each N x K, int64.

    Attributes:
        intersection: pixels of the class in both label maps.
        predicted: pixels of the class in the prediction.
        reference: pixels of the class in the label.
    """

    intersection: Tensor
    predicted: Tensor
    reference: Tensor


def overlap_counts(prediction: Tensor, label: Tensor, classes: int) -> OverlapCounts:
    """Count the pixels of every class in every image, without one-hot maps and without waiting for the device.

    Args:
        prediction: N x …, whole numbers 0 … classes - 1 of any type.
        label: the same shape and values.
        classes: K, the number of classes with the background.

    Raises:
        InputError: if the shapes differ, or for a value outside 0 … classes - 1 (on a GPU, where looking would wait for
            the device, such a value ends the program in PyTorch's own device assertion).
    """
    if prediction.shape != label.shape or label.ndim < 2:
        shapes = f"prediction of shape {tuple(prediction.shape)} and label of shape {tuple(label.shape)}"
        raise InputError(f"{shapes} must be equal and N x …; bring both onto one grid")
    predicted, true = prediction.flatten(1).long(), label.flatten(1).long()
    for name, values in (("prediction", predicted), ("label", true)):
        _check_range(values, classes, name)
    nothing = torch.zeros((len(true), classes), dtype=torch.int64, device=true.device)
    one = nothing.new_ones(()).expand(true.shape)
    return OverlapCounts(
        intersection=nothing.scatter_add(1, true, (predicted == true).long()),
        predicted=nothing.scatter_add(1, predicted, one),
        reference=nothing.scatter_add(1, true, one),
    )


def _check_range(values: Tensor, classes: int, name: str) -> None:
    if values.device.type != "cpu" or not values.numel():
        return
    low, high = (int(value) for value in torch.aminmax(values))
    if low < 0 or high >= classes:
        raise InputError(
            f"the {name} holds values {low} … {high}, but {classes} classes leave 0 … {classes - 1};"
            " check the label table and the number of classes"
        )


def slice_iou(counts: OverlapCounts) -> Tensor:
    """Intersection over union I / (U + 1e-10) of every image and class, N x K, float64; 0 for a class absent from both.

    The published validation averages this over images and then over all K classes, the background among them. A slice
    holds only part of the structures and an absent one counts as 0, so that even a perfect segmentation stays far
    below 1 (near 0.3 on pelvic scans): a number to compare within one data set only.
    """
    union = counts.predicted + counts.reference - counts.intersection
    return counts.intersection / (union.double() + EPSILON)


def slice_dice(counts: OverlapCounts) -> Tensor:
    """Dice coefficient 2 I / (P + T + 1e-10) of every image and class, N x K, float64; see :func:`slice_iou`."""
    return 2 * counts.intersection / ((counts.predicted + counts.reference).double() + EPSILON)
