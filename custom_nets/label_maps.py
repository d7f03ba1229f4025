# SPDX-License-Identifier: Apache-2.0
"""Label maps as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from custom_nets.errors import InputError


def single_label_map(label: Tensor) -> NDArray[Any]:
    """Take 1 x D x H x W to D x H x W.

    Raises:
        InputError: for more than one channel.
    """
    if label.shape[0] != 1:
        raise InputError(
            f"a label map has one channel but got {label.shape[0]} (shape {tuple(label.shape)}); put an argmax, or what"
            " makes labels of overlapping regions, before the metrics"
        )
    return np.asarray(convert_to_tensor(label, track_meta=False)[0].cpu())
