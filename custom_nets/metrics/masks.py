# SPDX-License-Identifier: Apache-2.0
"""Two masks that are to be compared: of one shape, and no larger than they need be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.components import bounding_box
from custom_nets.errors import InputError


def cropped_pair(prediction: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return both masks, true where not 0, cropped to the smallest box that holds both lesions.

    Args:
        prediction: D x H x W.
        reference: the same shape.

    Raises:
        InputError: if the shapes differ or are not three-dimensional.
    """
    predicted, true = np.asarray(prediction) != 0, np.asarray(reference) != 0
    require_one_grid(predicted, true)
    box = bounding_box(predicted | true)
    return predicted[box], true[box]


def require_one_grid(prediction: NDArray[Any], reference: NDArray[Any]) -> None:
    """Refuse volumes that cannot be compared voxel by voxel.

    Raises:
        InputError: if the shapes differ or are not three-dimensional.
    """
    if prediction.shape != reference.shape or reference.ndim != 3:
        raise InputError(
            f"the prediction's shape {prediction.shape} and the reference's {reference.shape} must be equal and"
            " D x H x W; bring both onto one grid"
        )
