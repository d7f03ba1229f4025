# SPDX-License-Identifier: Apache-2.0
"""Two label maps that are to be compared: checked, counted in one pass, and cut to what has to be looked at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from custom_nets.errors import InputError

Box = tuple[slice, ...]


def label_map_pair(
    prediction: ArrayLike, reference: ArrayLike, labels: Iterable[int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return both label maps as integers.

    Args:
        prediction: D x H x W, whole numbers.
        reference: the same shape.
        labels: the values that may occur beside 0.

    Raises:
        InputError: if the shapes differ or are not three-dimensional, or for a value that ``labels`` lacks.
    """
    known = sorted({0, *labels})
    predicted, true = _label_map(prediction, "prediction", known), _label_map(reference, "reference", known)
    if predicted.shape != true.shape:
        raise InputError(
            f"the prediction's shape {predicted.shape} and the reference's {true.shape} must be equal;"
            " bring both onto one grid"
        )
    return predicted, true


def _label_map(values: ArrayLike, name: str, known: list[int]) -> NDArray[np.int32]:
    """The values as integers, all of them background or in the table of labels."""
    array = np.asarray(values)
    if array.ndim != 3 or not array.size:
        raise InputError(f"the {name}'s shape is {array.shape}; a label map is D x H x W, without channels")
    gapless = array.dtype.kind in "biu" and known[-1] == len(known) - 1
    if not gapless or array.min() < 0 or array.max() > known[-1]:  # a look at all values takes longer
        unknown = np.setdiff1d(array, known)
        if unknown.size:
            shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", …" if unknown.size > 5 else "")
            raise InputError(
                f"the {name} holds {shown}, which the table of labels lacks (it has {known[0]} … {known[-1]});"
                " label maps are whole numbers: put an argmax before the metrics, or give the table of these labels"
            )
    return array.astype(np.int32, copy=False)


def joint_histogram(predicted: NDArray[np.int32], true: NDArray[np.int32], classes: int) -> NDArray[np.int64]:
    """Count voxels by predicted (row) and true (column) label, 0 … classes - 1."""
    return np.bincount((predicted * classes + true).ravel(), minlength=classes**2).reshape(classes, classes)


def common_boxes(predicted: NDArray[np.int32], true: NDArray[np.int32], most: int) -> dict[int, Box]:
    """Return the smallest box that holds a label in both maps, for the labels 1 … ``most`` that both have."""
    found = zip(*(ndimage.find_objects(one, max_label=most) for one in (predicted, true)), strict=True)
    return {
        value: tuple(
            slice(min(one.start, other.start), max(one.stop, other.stop)) for one, other in zip(*pair, strict=True)
        )
        for value, pair in enumerate(found, start=1)
        if None not in pair
    }
