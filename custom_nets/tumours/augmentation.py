# SPDX-License-Identifier: Apache-2.0
"""S2CA-Net's random deformation of a crop: a smooth elastic displacement and an affine map, in one sampling."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.networks.layers import gaussian_1d
from monai.transforms import MapTransform, RandomizableTransform, create_rotate
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from custom_nets.errors import InputError

#: Where the published Gaussian ends, in sigma.
TRUNCATION = 3.0

#: Rows and columns of the three shears that are published; the matrix has 1 on its diagonal and else 0.
_SHEARED = ([0, 0, 1], [1, 2, 0])


class RandElasticAffined(RandomizableTransform, MapTransform):
    """Deform images and label maps alike, as MONAI 0.6's `Rand3DElasticd` did in S2CA-Net's training.

    A voxel at c, in voxels from the centre of the crop, takes the value at A (c + m u(c)): u is uniform noise in
    (-1, 1) along each axis, smoothed by a Gaussian of standard deviation sigma with zeros around the crop, m its
    magnitude, and A = R_x R_y R_z H diag(scale) with the shears H. Beyond its border the crop is mirrored at the
    centres of its outermost voxels. Labels are sampled by nearest neighbour: no value is made up.

    Today's `Rand3DElasticd` is not used: it mirrors at the faces of the outermost voxels, composes the shears to a
    matrix of determinant 1, and convolves, which for a wide Gaussian takes tens of times as long.

    Args:
        keys: C x D x H x W each, of one D x H x W.
        prob: of deforming at all.
        sigma_range: of the Gaussian, in voxels, above 0.
        magnitude_range: m; the smoothed noise is far below 1, so displacements are below a few voxels.
        rotate_range: largest angle about each axis, in radians.
        shear_range: largest of each of the three shears.
        scale_range: largest deviation from 1 of each axis' factor, below 1.
        mode: "nearest" or "bilinear" (in three dimensions), one for all keys or one for each; published is "nearest"
            for images too.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for an option out of range; when called, for keys of several sizes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        sigma_range: Sequence[float] = (1.0, 20.0),
        magnitude_range: Sequence[float] = (0.3, 2.3),
        rotate_range: float = math.pi / 6,
        shear_range: float = 0.1,
        scale_range: float = 0.2,
        mode: str | Sequence[str] = "nearest",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= prob <= 1:
            raise InputError(f"prob is {prob!r}: give a probability from 0 to 1")
        if not 0 < sigma_range[0] <= sigma_range[1]:
            raise InputError(f"sigma_range is {list(sigma_range)!r}: give two numbers above 0, the smaller one first")
        if not 0 <= scale_range < 1:
            raise InputError(f"scale_range is {scale_range!r}: give a number from 0 to below 1")
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if unknown := set(self.mode) - {"nearest", "bilinear"}:
            raise InputError(f"the interpolation is {sorted(unknown)[0]!r}: choose nearest or bilinear")
        self.sigma_range = tuple(sigma_range)
        self.magnitude_range = tuple(magnitude_range)
        self.rotate_range = rotate_range
        self.shear_range = shear_range
        self.scale_range = scale_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform ``data[key]`` for every key; types and metadata are kept."""
        result = dict(data)
        self.randomize(None)
        keys = list(self.key_iterator(result, self.mode))
        if not self._do_transform or not keys:
            return result
        sizes = {tuple(result[key].shape[1:]) for key, _ in keys}
        if len(sizes) > 1:
            raise InputError(f"volumes of the sizes {sorted(sizes)} cannot be deformed alike: crop them first")
        positions = self._positions(sizes.pop())
        for key, mode in keys:
            value = torch.as_tensor(result[key])
            result[key] = convert_to_dst_type(sampled(value, positions.to(value.device), mode), value)[0]
        return result

    def _positions(self, size: Sequence[int]) -> Tensor:
        noise = torch.from_numpy(self.R.uniform(-1.0, 1.0, (3, *size)).astype(np.float32))
        magnitude, sigma = (float(self.R.uniform(low, high)) for low, high in (self.magnitude_range, self.sigma_range))
        affine = affine_matrix(
            self.R.uniform(-self.rotate_range, self.rotate_range, 3),
            self.R.uniform(-self.shear_range, self.shear_range, 3),
            1 + self.R.uniform(-self.scale_range, self.scale_range, 3),
        )
        return deformed_positions(smoothed(noise, sigma).mul_(magnitude), affine)


def smoothed(noise: Tensor, sigma: float) -> Tensor:
    """Smooth each channel by MONAI's Gaussian up to 3 sigma, with zeros around the volume.

    The filter along an axis is a product with a banded matrix, which for a large sigma is far quicker than the
    convolution of MONAI's `GaussianFilter`.

    Args:
        noise: C x D x H x W, float32.
        sigma: standard deviation in voxels, above 0.
    """
    for n in tuple(noise.shape[1:]):  # each product moves the first axis to the end: three make a round
        noise = torch.tensordot(noise, _smoothing(n, sigma), dims=([1], [0]))
    return noise


def affine_matrix(angles: ArrayLike, shears: ArrayLike, scales: ArrayLike) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix R_x R_y R_z H diag(scales), H with its shears in (0, 1), (0, 2) and (1, 0).

    Args:
        angles: three, about the axes in their order, in radians.
        shears: three.
        scales: three; above 1 an object shrinks.
    """
    shear = np.eye(3)
    shear[_SHEARED] = shears
    rotation = np.asarray(create_rotate(3, np.asarray(angles).tolist()))[:3, :3]
    return rotation @ shear @ np.diag(np.asarray(scales))


def deformed_positions(displacement: Tensor, affine: NDArray[np.float64]) -> Tensor:
    """Return where each voxel of the result takes its value: A (c + displacement), from the centre of the volume.

    Args:
        displacement: 3 x D x H x W, along the axes in their order, in voxels.
        affine: 3 x 3.

    Returns:
        3 x D x H x W, voxels from the centre.
    """
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in displacement.shape[1:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).add_(displacement)
    return torch.tensordot(torch.from_numpy(affine).float(), grid, dims=1)


def sampled(volume: Tensor, positions: Tensor, mode: str) -> Tensor:
    """Take values of a volume, which is mirrored at the centres of its outermost voxels.

    Args:
        volume: C x D x H x W of any type.
        positions: 3 x D' x H' x W', voxels from the centre of the volume.
        mode: "nearest" or "bilinear".

    Returns:
        C x D' x H' x W' of the volume's type.
    """
    reach = torch.tensor([2 / max(1, n - 1) for n in volume.shape[1:]], device=positions.device)
    grid = torch.einsum("cdhw,c->dhwc", positions, reach).flip(-1)  # the last axis first
    taken = F.grid_sample(volume[None].float(), grid[None], mode, "reflection", align_corners=True)[0]
    return (taken if volume.is_floating_point() or mode == "nearest" else taken.round()).to(volume.dtype)


def _smoothing(n: int, sigma: float) -> Tensor:
    """The filter along n voxels, n x n, symmetric."""
    kernel = gaussian_1d(torch.tensor(sigma), TRUNCATION)
    distance = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    tail = len(kernel) // 2
    return torch.where(distance <= tail, kernel[tail + distance.clamp(max=tail)], 0.0)
