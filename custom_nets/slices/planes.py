# SPDX-License-Identifier: Apache-2.0
"""Which way a volume is sliced, and how its slices are seen: the same for every scan, however its file stores them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation
from nibabel.orientations import io_orientation
from numpy.typing import ArrayLike

from custom_nets.case_names import file_of
from custom_nets.errors import InputError

#: Where slices, rows and columns run to, by the plane of the slices: the views of radiology, the patient's left on the
#: right of axial and coronal slices.
PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
_PLANE_ACROSS = ("sagittal", "coronal", "axial")  # of slices that follow one another along R, A, S


def check_plane(plane: str) -> None:
    """Refuse what is neither a plane nor "auto".

    Raises:
        InputError: naming those that are.
    """
    if plane not in ("auto", *PLANES):
        raise InputError(f"plane is {plane!r}: choose one of auto, {', '.join(PLANES)}")


def axis_codes(affine: ArrayLike, plane: str = "auto", file: str = "the volume") -> str:
    """Return where slices, rows and columns of a volume run to, such as "SPL" for axial slices.

    Args:
        affine: 4 x 4, voxel index to mm.
        plane: of the slices; "auto" slices along the axis with the largest spacing, axially where the largest are equal
            to a hundredth.
        file: what an error names.

    Raises:
        InputError: for another plane, or an affine that gives no direction for every axis.
    """
    check_plane(plane)
    matrix = np.asarray(affine, dtype=float)
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        raise InputError(f"{file}: its affine gives no direction for every axis: write the header again")
    if plane == "auto":
        axes = np.argsort(io_orientation(matrix)[:, 0])  # along R, A, S
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)[axes]
        plane = _PLANE_ACROSS[int(np.flatnonzero(spacing >= 0.99 * spacing.max())[-1])]
    return PLANES[plane]


class SlicesFirstd(MapTransform):
    """Turn volumes so that their slices come first, seen as in radiology: C x slices x rows x columns.

    Args:
        keys: C x X x Y x Z each, any orientation; the first decides on the plane for all.
        plane: axial, coronal or sagittal; "auto" as in :func:`axis_codes`.
        mirrored: slices will be mirrored left to right, so sagittal ones are refused.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for another plane; when called, see :func:`axis_codes`.
    """

    def __init__(
        self, keys: KeysCollection, plane: str = "auto", mirrored: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_plane(plane)
        self.plane = plane
        self.mirrored = mirrored

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn ``data[key]`` for every key; the affine follows."""
        result = dict(data)
        codes = ""
        for key in self.key_iterator(result):
            volume = result[key]
            file = file_of(volume, key)
            codes = codes or axis_codes(volume.affine, self.plane, file)
            if self.mirrored and codes[2] != "L":
                raise InputError(f"{file} has sagittal slices, which mirrored would be wrong: --mirror_probability 0")
            result[key] = turned(volume, codes)
        return result


def turned(volume: MetaTensor, codes: str) -> MetaTensor:
    """Flip and permute the three axes of C x X x Y x Z so that they run to ``codes``; the affine follows."""
    orient: Any = Orientation(axcodes=codes, labels=None)
    return orient(volume)
