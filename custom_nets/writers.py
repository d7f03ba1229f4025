# SPDX-License-Identifier: Apache-2.0
"""NIfTI output that is on disk whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.data import NibabelWriter

from custom_nets.files import written_whole

logger = logging.getLogger(__name__)


class WholeNibabelWriter(NibabelWriter):
    """MONAI's `NibabelWriter` whose file appears under its name only when it is complete.

    A run that is stopped while it writes leaves no file, or the old one, never half a segmentation. Used by MONAI's own
    `SaveImaged` through its argument ``"writer": "custom_nets.writers.WholeNibabelWriter"``.
    Unlike its parent it keeps a last spatial axis of length 1: the output always has the input's shape.
    """

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Take ``data_array`` (C x D x H x W); ``squeeze_end_dims`` drops the channel axis if it has length 1."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        if squeeze_end_dims and self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def write(self, filename: PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the image to ``filename`` (``.nii`` or ``.nii.gz``), whole or not at all."""
        with written_whole(Path(filename)) as temporary:
            super().write(temporary, verbose=False, **obj_kwargs)
        if verbose:
            logger.info("wrote %s", filename)
