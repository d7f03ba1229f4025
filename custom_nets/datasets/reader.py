# SPDX-License-Identifier: Apache-2.0
"""Reading the modalities of a case as channels when their headers agree, though not to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import ensure_tuple

from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, corner_shift
from custom_nets.errors import InputError


class SameGridReader(NibabelReader):
    """MONAI's NIfTI reader with the tolerance of this package's checks, for any number of threads.

    ``NibabelReader`` refuses to stack files whose affines differ by more than about 1e-8 in an entry that is zero;
    rounding in a header exceeds that (one file with a qform, the next with an sform). Here every file of the list gets
    the first one's affine when no corner of the volume moves by more than ``tolerance_mm``.

    Args:
        tolerance_mm: the largest shift that counts as rounding, in mm.
        arguments: those of ``NibabelReader``.
    """

    def __init__(self, tolerance_mm: float = AFFINE_TOLERANCE_MM, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tolerance_mm = tolerance_mm

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Open one file or the files of a case.

        Returns:
            One nibabel image, or a list of images that have the same affine.

        Raises:
            InputError: the files of the list are not on one grid.
        """
        images = super().read(data, **kwargs)
        return [self._like_first(images[0], image) for image in images] if isinstance(images, list) else images

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Stack what ``read`` returned; see `NibabelReader`.

        MONAI's reader keeps the names of the last ``read`` and takes as many images as there are names. Of two threads
        that fill a cache one would cut the other's modalities short, so each call works on a reader of its own.
        """
        own = copy(self)
        own.filenames = tuple(image.get_filename() for image in ensure_tuple(img))
        return super(SameGridReader, own).get_data(img)

    def _like_first(self, first: Any, image: Any) -> Any:
        if image is first or np.array_equal(image.affine, first.affine):
            return image
        grid = image.shape[:3]
        shift = corner_shift(first.affine, image.affine, grid)
        if shift > self.tolerance_mm:
            raise InputError(
                f"{image.get_filename()}: affine differs from {first.get_filename()} by up to {shift:.3g} mm "
                f"(allowed {self.tolerance_mm:g} mm): resample it onto that file's grid"
            )
        return type(image)(image.dataobj, first.affine, image.header, file_map=image.file_map)
