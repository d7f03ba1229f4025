# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet's augmentation (section 3.4), in step over image, label map and coarse logits, new in every epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, ensure_tuple
from numpy.typing import NDArray
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.spine.deformation import (
    displaced_volume,
    elastic_displacement,
    rotated_volume,
    sampled_slice,
    slice_grid,
)

#: Orders of splines by their names, for rotations of volumes.
_ORDERS = {"nearest": 0, "bilinear": 1, "spline": 3}
_ELASTIC_ORDER = 3


@dataclass(frozen=True)
class Augmentation:
    """What one visit of a sample drew.

    Attributes:
        angle: of the rotation, in degrees.
        displacement: in voxels of the image, axes x its size; None without elastic deformation.
        contrast: factor of the intensities; None leaves them alone.
    """

    angle: int
    displacement: NDArray[np.float32] | None
    contrast: float | None


class _RandSpined(RandomizableTransform, MapTransform):
    """Draws an augmentation and applies it to all keys; how to deform is left to the two classes below."""

    clip: tuple[float, float]  #: as published
    interpolations: tuple[str, ...]  #: of images, the published one first

    def __init__(
        self,
        image_keys: KeysCollection = "image",
        label_keys: KeysCollection = "label",
        map_keys: KeysCollection = (),
        max_angle: int = 15,
        elastic_probability: float = 0.3,
        elastic_sigma: float = 3.0,
        elastic_alpha: float = 15.0,
        contrast_probability: float = 0.1,
        contrast_range: Sequence[float] = (0.5, 1.5),
        contrast_clip: str = "published",
        image_interpolation: str = "published",
        allow_missing_keys: bool = False,
    ) -> None:
        self.image_keys, self.label_keys = ensure_tuple(image_keys), ensure_tuple(label_keys)
        MapTransform.__init__(self, (*self.image_keys, *self.label_keys, *ensure_tuple(map_keys)), allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        _check_numbers(max_angle, elastic_sigma, elastic_alpha, contrast_range)
        for name, share in {"elastic": elastic_probability, "contrast": contrast_probability}.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name}_probability is {share!r}: give a share from 0 to 1.")
        if contrast_clip not in ("published", "none"):
            raise InputError(f"contrast_clip is {contrast_clip!r}: choose published {list(self.clip)} or none.")
        if image_interpolation not in ("published", *self.interpolations):
            choices = ", ".join(self.interpolations)
            raise InputError(f"image_interpolation is {image_interpolation!r}: choose published, or one of {choices}.")
        self.interpolation = self.interpolations[0] if image_interpolation == "published" else image_interpolation
        self.max_angle = max_angle
        self.elastic_probability = elastic_probability
        self.elastic_sigma = elastic_sigma
        self.elastic_alpha = elastic_alpha
        self.contrast_probability = contrast_probability
        self.contrast_range = tuple(contrast_range)
        self.contrast_clip = contrast_clip

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Augment ``data[key]`` for every key; types and metadata are kept."""
        result = dict(data)
        values = {key: torch.as_tensor(result[key]) for key in self.key_iterator(result)}
        drawn = self.drawn(values[self.image_keys[0]].shape[1:])
        plain = {key: value.as_subclass(Tensor) for key, value in values.items()}
        for key, made in self.deformed(plain, drawn).items():
            if key in self.image_keys and drawn.contrast is not None:
                made = made * drawn.contrast
                made = made.clamp(*self.clip) if self.contrast_clip == "published" else made
            result[key] = convert_to_dst_type(made, values[key], dtype=values[key].dtype)[0]
        return result

    def drawn(self, size: Sequence[int]) -> Augmentation:
        """Draw an augmentation for an image of this size."""
        angle = int(self.R.randint(-self.max_angle, self.max_angle)) if self.max_angle else 0
        displacement, contrast = None, None
        if self.R.uniform() < self.elastic_probability:
            displacement = elastic_displacement(size, self.R, self.elastic_sigma, self.elastic_alpha)
        if self.R.uniform() < self.contrast_probability:
            contrast = self.R.uniform(self.contrast_range[0], self.contrast_range[1])
        return Augmentation(angle, displacement, contrast)

    @abstractmethod
    def deformed(self, values: dict[Hashable, Tensor], drawn: Augmentation) -> dict[Hashable, Tensor]:
        """All values, rotated and displaced alike."""


class RandSpineVolumed(_RandSpined):
    """Turn, deform and brighten or darken volumes for the coarse stage, as published.

    In this order: a rotation in the H-W plane by whole degrees, uniform from -max_angle to max_angle - 1; with
    elastic_probability an elastic displacement along all three axes, by cubic splines; with contrast_probability the
    intensities times a factor. Labels are sampled by nearest neighbour. Beyond its faces the volume is mirrored.

    Published are also two habits that look like slips, and have options: the image is turned by nearest neighbour, and
    after a change of contrast it is clipped to 0 to 1, which erases what is darker than the mean.

    Args:
        image_keys: C x D x H x W each, floating point, normalised; the first one's size is that of the displacement.
        label_keys: 1 x D x H x W each.
        map_keys: of other maps of this size, such as weights, which are deformed as images are.
        max_angle: in degrees; 0 does not turn.
        elastic_probability: of an elastic deformation.
        elastic_sigma: see `elastic_displacement`.
        elastic_alpha: see `elastic_displacement`.
        contrast_probability: of a change of contrast.
        contrast_range: of the factor.
        contrast_clip: "published", to 0 to 1, or "none".
        image_interpolation: of the rotation: "published", which is "nearest", or "bilinear" or "spline" (of order 3).
        allow_missing_keys: do not raise for a missing key; the first image must be there.

    Raises:
        InputError: for an option out of range; when called, for keys of several sizes.
    """

    clip = (0.0, 1.0)
    interpolations = ("nearest", "bilinear", "spline")

    def deformed(self, values: dict[Hashable, Tensor], drawn: Augmentation) -> dict[Hashable, Tensor]:
        """All volumes, rotated and displaced alike."""
        sizes = sorted({tuple(value.shape[1:]) for value in values.values()})
        if len(sizes) > 1:
            raise InputError(f"volumes of the sizes {sizes} cannot be deformed alike: resize and pad them first.")
        result = {}
        for key, value in values.items():
            label = key in self.label_keys
            volume = rotated_volume(value.numpy(force=True), drawn.angle, 0 if label else _ORDERS[self.interpolation])
            if drawn.displacement is not None:
                volume = displaced_volume(volume, drawn.displacement, 0 if label else _ELASTIC_ORDER)
            result[key] = torch.from_numpy(volume)
        return result


class RandSpineSliced(_RandSpined):
    """Turn, deform and brighten or darken slices and their coarse logits for the refinement.

    What happens, and how often, is as published and as in `RandSpineVolumed`, but for a clipping to -10 to 10. Ours is
    that the logits, of another resolution, are deformed exactly when and as the image is (published are deformations of
    their own), and that rotation and displacement are one cubic sampling in place of two.

    Args:
        image_keys: C x H x W each, floating point, normalised; the first one's size is that of the displacement.
        label_keys: 1 x H x W each.
        map_keys: of other maps that cover the same area, of any size: K x h x w logits, weights.
        max_angle: in degrees; 0 does not turn.
        elastic_probability: of an elastic deformation.
        elastic_sigma: see `elastic_displacement`.
        elastic_alpha: see `elastic_displacement`.
        contrast_probability: of a change of contrast.
        contrast_range: of the factor.
        contrast_clip: "published", to -10 to 10, or "none".
        image_interpolation: of both together: "published", which is "bicubic", or "bilinear".
        allow_missing_keys: do not raise for a missing key; the first image must be there.

    Raises:
        InputError: for an option out of range.
    """

    clip = (-10.0, 10.0)
    interpolations = ("bicubic", "bilinear")

    def deformed(self, values: dict[Hashable, Tensor], drawn: Augmentation) -> dict[Hashable, Tensor]:
        """All slices, rotated and displaced alike."""
        if not drawn.angle and drawn.displacement is None:
            return values
        image_size = values[self.image_keys[0]].shape[1:]
        sizes = {value.shape[1:] for value in values.values()}
        grids = {size: slice_grid(size, image_size, drawn.angle, drawn.displacement) for size in sizes}
        return {
            key: sampled_slice(
                value, grids[value.shape[1:]], "nearest" if key in self.label_keys else self.interpolation
            )
            for key, value in values.items()
        }


def _check_numbers(max_angle: int, sigma: float, alpha: float, contrast_range: Sequence[float]) -> None:
    if not isinstance(max_angle, int) or max_angle < 0:
        raise InputError(f"max_angle is {max_angle!r}: give whole degrees, at least 0.")
    for name, value in {"elastic_sigma": sigma, "elastic_alpha": alpha}.items():
        if not value >= 0:
            raise InputError(f"{name} is {value!r}: give a number of voxels, at least 0.")
    if len(contrast_range) != 2 or not 0 <= contrast_range[0] <= contrast_range[1]:
        raise InputError(f"contrast_range is {list(contrast_range)!r}: give two factors, the smaller one first.")
