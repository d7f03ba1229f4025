# SPDX-License-Identifier: Apache-2.0
"""The volumes of a case as a page carries them for its viewer: small, and where they are in the body."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from custom_nets.errors import InputError
from custom_nets.figures.volumes import Volume
from custom_nets.report.case_volumes import CaseVolumes, LabelMap

_MARGIN = 2  # voxels around the body
_WHITE = 255  # the largest value of an image; 0 is outside the body
_COMPRESSION = 4  # at most, of what is worth a try
_LARGEST_FACTOR = 16  # of the reduction along an axis

Factors = tuple[int, int, int]
Array = NDArray[Any]


@dataclass(frozen=True)
class EmbeddedVolumes:
    """NIfTI files of a case on one grid, compressed with gzip, as base64 text.

    Attributes:
        image: 8 bit, 0 outside the body, otherwise 1 … 255 between the ends of the grey window; empty without an image.
        prediction: 8 bit; label values are replaced by their places in the table of labels, from 1.
        reference: likewise; empty without one.
        uncertainty: 8 bit, 255 is ``uncertainty_highest``; empty without a map.
        uncertainty_highest: of the map; 0 without one.
        spacing: of these volumes, mm.
        factors: along the three axes, how many voxels of the scan became one.
    """

    image: str
    prediction: str
    reference: str
    uncertainty: str
    uncertainty_highest: float
    spacing: tuple[float, float, float]
    factors: Factors

    @property
    def size(self) -> int:
        """Characters of all files together."""
        return sum(map(len, (self.image, self.prediction, self.reference, self.uncertainty)))


def embedded_volumes(volumes: CaseVolumes, places: NDArray[np.uint8], most: int) -> EmbeddedVolumes:
    """Crop the volumes of a case to the body, store them in 8 bit, and reduce them until they are small enough.

    An image is averaged over the voxels that become one; of label maps one of these voxels is taken. The finest axis is
    reduced first, so that voxels become cubes. Affines follow: a voxel stays where it is in the body.

    Args:
        volumes: of the case.
        places: label value -> value that is stored, for all values from 0 to the highest.
        most: characters that all files may have together.

    Raises:
        InputError: the volumes are larger even when reduced 16 times.
    """
    voxels = np.prod([part.stop - part.start for part in volumes.body])
    factors = _coarser((1, 1, 1), volumes.spacing, float(voxels) / (_COMPRESSION * most))
    while True:
        made = _embedded(volumes, places, factors)
        if made.size <= most:
            return made
        factors = _coarser(factors, volumes.spacing, made.size / most)
        if max(factors) > _LARGEST_FACTOR:
            raise InputError(f"the viewer's volumes have {made.size} bytes in place of {most}; raise --page_mb.")


def _coarser(factors: Factors, spacing: tuple[float, ...], excess: float) -> Factors:
    """Reduce the finest axis, and again, until the files are likely to be small enough."""
    new = list(factors)
    while np.prod(new) < excess * np.prod(factors):
        finest = int(np.argmin([factor * size for factor, size in zip(new, spacing, strict=True)]))
        new[finest] += 1
    first, second, third = new
    return first, second, third


def _embedded(volumes: CaseVolumes, places: NDArray[np.uint8], factors: Factors) -> EmbeddedVolumes:
    affine = volumes.affine.copy()
    affine[:3, 3] = apply_affine(affine, [max(part.start - _MARGIN, 0) for part in volumes.body])

    def averaged(values: Volume) -> str:
        """Values from 0 to 255."""
        small = downscale_local_mean(_cropped(values, volumes.body, factors), factors)
        centre = [(factor - 1) / 2 for factor in factors]
        return _file(np.rint(small).astype(np.uint8), _scaled(affine, factors, centre))

    def sampled(labels: LabelMap) -> str:
        first = [(factor - 1) // 2 for factor in factors]
        steps = tuple(slice(start, None, step) for start, step in zip(first, factors, strict=True))
        sample = _cropped(labels, volumes.body, factors)[steps]
        return _file(
            places[np.where((sample >= 0) & (sample < len(places)), sample, 0)], _scaled(affine, factors, first)
        )

    highest = 0.0 if volumes.uncertainty is None else max(float(volumes.uncertainty.max()), 1e-6)
    return EmbeddedVolumes(
        image="" if volumes.image is None else averaged(_grey(volumes.image, volumes.window)),
        prediction=sampled(volumes.segmentation),
        reference="" if volumes.reference is None else sampled(volumes.reference),
        uncertainty="" if volumes.uncertainty is None else averaged(volumes.uncertainty * (_WHITE / highest)),
        uncertainty_highest=highest,
        spacing=tuple(size * factor for size, factor in zip(volumes.spacing, factors, strict=True)),  # type: ignore[arg-type]
        factors=factors,
    )


def _cropped(values: Array, body: tuple[slice, ...], factors: Factors) -> Array:
    """The body with a margin, filled up with 0 so that the factors divide its sizes."""
    box = tuple(slice(max(part.start - _MARGIN, 0), part.stop + _MARGIN) for part in body)
    found = values[box]
    return np.pad(found, [(0, -size % factor) for size, factor in zip(found.shape, factors, strict=True)])


def _grey(image: Volume, window: tuple[float, float]) -> Volume:
    """Values 1 … 255 inside the body, 0 outside."""
    low, high = window
    inside = np.clip((image - low) / max(high - low, 1e-6), 0.0, 1.0) * (_WHITE - 1) + 1
    return np.nan_to_num(inside)


def _scaled(affine: NDArray[np.float64], factors: Factors, shift: Sequence[float]) -> NDArray[np.float64]:
    """The affine of a reduced grid whose first voxel is centred at ``shift`` of the old one."""
    scaled = affine.copy()
    scaled[:3, :3] *= factors
    scaled[:3, 3] = apply_affine(affine, shift)
    return scaled


def _file(values: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode()
