# SPDX-License-Identifier: Apache-2.0
"""A real lesion mask painted as a chronic infarct into a real T1 of a healthy head.

The anatomy and the lesion's outline are real, the lesion's intensities are made up from the host's own fluid and grey
matter: a cavity with strands inside a gliotic rim, as in `infarcts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from monai.transforms import Compose, RandAdjustContrastd, RandBiasFieldd, RandFlipd, RandSmoothDeformd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from custom_nets.components import bounding_box
from custom_nets.errors import InputError
from custom_nets.phantoms.case import PhantomCase
from custom_nets.phantoms.geometry import Array, RandomWaves, coverage

BRIGHTEST = 255.0
"""The 99.9th percentile of a painted volume, give or take a tenth with variation of the scanner."""

_DEEP_MM = 15.0  # below scalp and skull
_FLUID_PERCENT = 0.5  # of the deep voxels surely lie in the ventricles, small ones too
_CLOSED_MM = 4.0  # sulci of a brain without its skull, open to the outside
_MARGIN_MM = 4.0  # partial volume around the mask
_DEFORMATION = 0.03  # largest shift, in half widths of the volume: about 3 mm


@dataclass(frozen=True)
class Host:
    """A healthy T1.

    Attributes:
        voxels: (X, Y, Z), 0 or more.
        affine: voxel index to mm, (4, 4).
        head: what is not air around the head, or around a brain without its skull, (X, Y, Z).
        fluid: intensity of cerebrospinal fluid.
        grey: intensity of grey matter.
        white: intensity of white matter.
    """

    voxels: Array
    affine: NDArray[np.float64]
    head: NDArray[np.bool_]
    fluid: float
    grey: float
    white: float

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm."""
        return nib.affines.voxel_sizes(self.affine)


def measured_host(voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> Host:
    """Find the head and its tissues' intensities in a healthy T1.

    The levels come from voxels at least 15 mm below the head's surface: white and grey matter are the upper two of
    three classes (Otsu's thresholds), fluid is their half percentile.

    Args:
        voxels: (X, Y, Z), finite.
        affine: voxel index to mm, (4, 4).

    Raises:
        InputError: there is no head, or no contrast of tissues in it.
    """
    image = np.maximum(np.asarray(voxels, np.float32), 0)
    bright = image > 0.12 * np.percentile(image, 99)
    pieces, count = ndimage.label(bright)
    if not count:
        raise InputError("the image is empty: give a T1 of a healthy head")
    spacing = nib.affines.voxel_sizes(affine)
    largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    closed = ndimage.binary_closing(largest, iterations=max(1, round(_CLOSED_MM / spacing.mean())))  # not at the faces
    head = ndimage.binary_fill_holes(largest | closed)
    # not of the closed one, whose airways are darker than fluid
    depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(largest), sampling=spacing)
    deep = image[depth > min(_DEEP_MM, 0.5 * depth.max())]
    try:
        bounds = threshold_multiotsu(deep, 3)
    except ValueError:
        raise InputError(
            "the image has fewer than three intensities in the head: give a T1 of a healthy head"
        ) from None
    grey, white = (float(np.median(deep[np.digitize(deep, bounds) == tissue])) for tissue in (1, 2))
    return Host(image, np.asarray(affine, np.float64), head, float(np.percentile(deep, _FLUID_PERCENT)), grey, white)


def paint_case(host: Host, lesion: NDArray[np.bool_], rng: np.random.Generator, *, vary: bool = True) -> PhantomCase:
    """Paint one lesion into the host.

    Args:
        host: where to paint.
        lesion: on the host's grid, (X, Y, Z); what lies outside the head is left out.
        rng: source of randomness.
        vary: flip the case left to right (every second one), deform it by up to about 3 mm, and change shading,
            gamma, noise and scale; without it nothing but the lesion and a constant factor differs from the host.

    Returns:
        The image ``T1`` and the label 1 = lesion, on the host's grid.

    Raises:
        InputError: no voxel of the lesion lies in the head, or the deformation leaves none of it.
    """
    label = np.asarray(lesion, bool) & host.head
    if not label.any():
        raise InputError("no voxel of the mask lies in the head: align it with the image")
    image, scale = paint_infarct(host, label, rng), BRIGHTEST
    if vary:
        image, label = _varied(image, label, host, rng)
        if not label.any():
            raise InputError("the mask is too small to stand a deformation: leave it out")
        scale *= rng.uniform(0.9, 1.1)
        reference = np.percentile(image, 99.9)
    else:
        reference = np.percentile(host.voxels, 99.9)
    voxels = np.clip(np.rint(image * (scale / reference)), 0, 32767).astype(np.int16)
    return PhantomCase({"T1": voxels}, label.astype(np.uint8), host.affine)


def paint_infarct(host: Host, label: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Return the host's voxels with an infarct; no voxel gets brighter, and none changes 4 mm away from ``label``."""
    margin = np.ceil(_MARGIN_MM / host.spacing).astype(int)
    box = tuple(
        slice(max(span.start - more, 0), span.stop + more)
        for span, more in zip(bounding_box(label), margin, strict=True)
    )
    inside = label[box]
    depth = _signed_distance(inside, host.spacing)
    index = np.stack(np.nonzero(np.ones_like(inside)))
    points = np.float32(host.affine[:3, :3] @ index)
    texture, strands = (RandomWaves(rng, waves, count=16)(points).reshape(inside.shape) for waves in ((5, 15), (9, 35)))

    width = max(float(np.cbrt(np.prod(host.spacing))), 1.5)
    rim = min(rng.uniform(2.0, 5.0), 0.4 * float(depth.max()))
    extent = coverage(depth, width)
    cavity = coverage(depth - rim * np.clip(1 + 0.5 * strands, 0.3, 2), 2 * width)
    cavity *= rng.uniform(0.75, 1.0) * (1 - 0.4 * np.clip(1 - 2.5 * np.abs(strands), 0, 1))

    before = host.voxels[box]
    gliosis = 0.3 * before + 0.7 * (host.fluid + rng.uniform(0.55, 0.8) * (host.grey - host.fluid))
    scar = gliosis + cavity * (host.fluid * rng.uniform(1.0, 1.3) - gliosis)
    scar *= 1 + 0.05 * texture
    scar += 0.015 * host.white * rng.standard_normal(scar.shape, np.float32)
    painted = host.voxels.copy()
    painted[box] = np.minimum(before, np.maximum(before + extent * (scar - before), 0))
    return painted


def _signed_distance(mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> Array:
    """Distance to the mask's border in mm, positive inside; the edge of the array counts as outside."""
    padded = np.pad(mask, 1)
    inner, outer = (ndimage.distance_transform_edt(side, sampling=spacing) for side in (padded, ~padded))
    half = 0.5 * spacing.min()  # between the centres of two voxels lies their border
    return np.float32(np.where(padded, inner - half, half - outer))[1:-1, 1:-1, 1:-1]


def _varied(
    image: Array, label: NDArray[np.bool_], host: Host, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Another patient on another scanner: flip and deformation of both, shading, gamma and noise of the image."""
    both = ("image", "label")
    left_right = int(np.flatnonzero(nib.orientations.io_orientation(host.affine)[:, 0] == 0)[0])
    transforms = Compose([
        RandFlipd(both, prob=0.5, spatial_axis=left_right),
        RandSmoothDeformd(
            both, image.shape, (7, 7, 7), field_mode="trilinear", align_corners=True, prob=1.0, def_range=_DEFORMATION,
            grid_mode=("bilinear", "nearest"), grid_padding_mode="zeros",
        ),
        RandBiasFieldd("image", prob=1.0, coeff_range=(-0.08, 0.08)),
        RandAdjustContrastd("image", prob=1.0, gamma=(0.85, 1.2)),
    ]).set_random_state(int(rng.integers(2**31)))  # fmt: skip
    made = transforms({"image": image[None], "label": label[None].astype(np.float32)})
    varied, moved = (np.asarray(made[key], np.float32)[0] for key in both)
    noise = rng.uniform(0.01, 0.025) * host.white * rng.standard_normal(varied.shape, np.float32)
    varied = np.where(varied > 0, np.maximum(varied + noise, 0), 0)  # what was cut away as background stays 0
    return varied, moved > 0.5
