# SPDX-License-Identifier: Apache-2.0
"""Random transforms of windows of slices: the published elastic deformation, and a mirror that keeps left and right."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple
from numpy.typing import NDArray
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.elastic import elastic_deformation, sampled


class RandElasticSlicesd(RandomizableTransform, MapTransform):
    """Deform a window of slices and its label map alike, with S2aNet's published elastic deformation.

    Published are 20 deformed copies of every slice on disk, the same in all epochs; here each visit draws its own. All
    sampling is by nearest neighbour, so that no label is made up and 8-bit slices stay 8-bit.

    Args:
        keys: n x H x W or 1 x H x W each, of one H x W.
        prob: of deforming at all; 1 as published, which never shows the network an undeformed slice.
        alpha: strength of the displacement; see :func:`~custom_nets.slices.elastic.displacement_field`. This and the
            next two are shares of the shorter side, which is the width of the square slices published.
        sigma: smoothness of the displacement, above 0.
        alpha_affine: the largest shift of the affine map's three points.
        channel_smoothing: smooth the noise over the channels to the letter: three times slower, no visible difference.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a probability or a share out of range; when called, for keys of several sizes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        alpha: float = 2.0,
        sigma: float = 0.08,
        alpha_affine: float = 0.08,
        channel_smoothing: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, _probability(prob))
        for name, value in {"alpha": alpha, "sigma": sigma, "alpha_affine": alpha_affine}.items():
            if not value >= 0:
                raise InputError(f"{name} is {value!r}: give a share of the slice's shorter side, at least 0")
        if sigma == 0:
            raise InputError("sigma is 0: give a share of the slice's shorter side above 0, such as 0.08")
        self.alpha = alpha
        self.sigma = sigma
        self.alpha_affine = alpha_affine
        self.channel_smoothing = channel_smoothing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform ``data[key]`` for every key; types and metadata are kept."""
        result = dict(data)
        self.randomize(None)
        keys = list(self.key_iterator(result))
        if not self._do_transform or not keys:
            return result
        images = [torch.as_tensor(result[key]) for key in keys]
        index = self._drawn(_common_size(images), sum(len(image) for image in images))
        first = 0
        for key, image in zip(keys, images, strict=True):
            result[key] = sampled(image, index[first : first + len(image)] if len(index) > 1 else index)
            first += len(image)
        return result

    def _drawn(self, size: tuple[int, int], channels: int) -> NDArray[np.int64]:
        side = min(size)
        alpha, sigma, jitter = (share * side for share in (self.alpha, self.sigma, self.alpha_affine))
        return elastic_deformation(size, channels, alpha, sigma, jitter, self.R, self.channel_smoothing)


class RandMirrord(RandomizableTransform, MapTransform):
    """Mirror slices left to right, and exchange the labels of left and right structures: not published, off by itself.

    For axial and coronal slices, whose columns run from right to left; in sagittal slices it has no meaning.

    Args:
        image_keys: n x H x W each.
        label_keys: 1 x H x W each, whole numbers from 0.
        pairs: label values (left, right), of :func:`~custom_nets.datasets.sides.left_right_pairs`; others stay.
        prob: of mirroring.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a probability out of range, or a label in two pairs.
    """

    def __init__(
        self,
        image_keys: KeysCollection,
        label_keys: KeysCollection,
        pairs: Sequence[Sequence[int]],
        prob: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        self.label_keys = ensure_tuple(label_keys)
        MapTransform.__init__(self, (*ensure_tuple(image_keys), *self.label_keys), allow_missing_keys)
        RandomizableTransform.__init__(self, _probability(prob))
        values = [value for pair in pairs for value in pair]
        if any(len(pair) != 2 for pair in pairs) or len(set(values)) < len(values) or min(values, default=0) < 0:
            raise InputError(f"pairs is {pairs!r}: give pairs of labels (left, right), each label once")
        self.partner = {a: b for left, right in pairs for a, b in ((left, right), (right, left))}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mirror ``data[key]`` along its columns for every key; types and metadata are kept."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(result):
                mirrored = torch.as_tensor(result[key]).flip(-1)
                result[key] = self._exchanged(mirrored) if key in self.label_keys else mirrored
        return result

    def _exchanged(self, label: Tensor) -> Tensor:
        largest = max(int(label.max()), *self.partner, 0)
        partners = torch.tensor([self.partner.get(value, value) for value in range(largest + 1)], device=label.device)
        return partners.to(label.dtype)[label.long()]


def _probability(prob: float) -> float:
    if not 0 <= prob <= 1:
        raise InputError(f"prob is {prob!r}: give a probability from 0 to 1")
    return prob


def _common_size(images: Sequence[Tensor]) -> tuple[int, int]:
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) > 1:
        raise InputError(f"slices of the sizes {sorted(sizes)} cannot be deformed alike: resize them first")
    return images[0].shape[-2], images[0].shape[-1]
