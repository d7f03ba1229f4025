# SPDX-License-Identifier: Apache-2.0
"""Dictionary transforms that prepare sagittal scans, C x D x H x W with D slices, for SpineParseNet's two stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, Cropd, MapTransform, Pad, Padd, RandomizableTransform, SpatialCrop
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.spline_resize import nearest_resize, spline_resize
from custom_nets.spine.cropping import central_rows, slice_padding
from custom_nets.volume_crops import random_start


class CentralRowsCrop(Crop):
    """Keep the central rows H of C x D x H x W; see `central_rows`.

    Args:
        share: of the rows.
        lazy: as MONAI's.

    Raises:
        InputError: for a share out of range.
    """

    def __init__(self, share: float = 0.5, lazy: bool = False) -> None:
        super().__init__(lazy)
        central_rows(1, share)  # refuse a wrong share before the first case
        self.share = share

    def __call__(self, img: Tensor, lazy: bool | None = None) -> Tensor:  # type: ignore[override]
        """Return C x D x rows x W."""
        shape = img.peek_pending_shape() if isinstance(img, MetaTensor) else img.shape[1:]
        return super().__call__(img, (slice(None), slice(*central_rows(shape[1], self.share))), lazy)


class CropCentrald(Cropd):
    """Keep the central rows of scans; `monai.transforms.Invertd` puts zeros back around them.

    Args:
        keys: C x D x H x W each.
        share: of the rows H that is kept; 0.5 as published, 1 keeps all.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a share out of range.
    """

    def __init__(self, keys: KeysCollection, share: float = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, CentralRowsCrop(share), allow_missing_keys)


class SlicesPad(Pad):
    """Put zeros around too few slices D of C x D x H x W; see `slice_padding`.

    Args:
        slices: the fewest wanted.
        lazy: as MONAI's.

    Raises:
        InputError: for less than one slice.
    """

    def __init__(self, slices: int = 18, lazy: bool = False) -> None:
        super().__init__(lazy=lazy)
        self.slices = _count(slices)

    def compute_pad_width(self, spatial_shape: Sequence[int]) -> tuple[tuple[int, int]]:
        """Widths of all axes, the channel's first."""
        return ((0, 0), slice_padding(spatial_shape[0], self.slices), (0, 0), (0, 0))  # type: ignore[return-value]


class PadSlicesd(Padd):
    """Put zeros around scans of too few slices; one of more stays whole. `monai.transforms.Invertd` takes them off.

    Args:
        keys: C x D x H x W each.
        slices: the fewest wanted; 18 as published.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for less than one slice.
    """

    def __init__(self, keys: KeysCollection, slices: int = 18, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, SlicesPad(slices), allow_missing_keys=allow_missing_keys)


class ResizeInPlaned(MapTransform):
    """Resize every slice as the published preparation does, by scikit-image's cubic spline or by nearest neighbour.

    The affine follows the pixels. Pixels beyond the border count as 0, so that it matters for images whether they are
    normalised before or behind: the published refinement is trained on slices normalised before and tested on slices
    normalised behind. Normalise behind in both, as the coarse stage does.

    Args:
        keys: C x D x H x W each.
        size: rows and columns wanted.
        mode: "spline" (images; become float32) or "nearest" (label maps), one for all keys or one for each.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a size or a mode that does not exist.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        mode: str | Sequence[str] = "spline",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(size) != 2 or not all(isinstance(n, int) and n >= 1 for n in size):
            raise InputError(f"the size of slices is {list(size)}: give rows and columns, such as [128, 256].")
        self.size = tuple(size)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if unknown := set(self.mode) - {"spline", "nearest"}:
            raise InputError(f"the resizing is {sorted(unknown)[0]!r}: choose spline (images) or nearest (label maps).")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by C x D x size for every key; metadata kept."""
        result = dict(data)
        for key, mode in self.key_iterator(result, self.mode):
            volume = torch.as_tensor(result[key])
            plain = volume.as_subclass(Tensor)
            made = spline_resize(plain.float(), self.size) if mode == "spline" else nearest_resize(plain, self.size)
            result[key] = _with_metadata(made, volume)
        return result


class RandSliceWindowd(RandomizableTransform, MapTransform):
    """Keep adjacent slices, drawn at random where a scan has more: volumes of a batch need one size.

    Args:
        keys: C x D x H x W each, of one D.
        slices: how many to keep; a scan with as many, or fewer, stays whole.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for less than one slice; when called, for keys of several D.
    """

    def __init__(self, keys: KeysCollection, slices: int = 18, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.slices = _count(slices)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key to the same slices; metadata follow."""
        result = dict(data)
        counts = sorted({result[key].shape[1] for key in self.key_iterator(result)})
        if len(counts) > 1:
            raise InputError(f"volumes of {counts[0]} and {counts[-1]} slices cannot share a window: resample them.")
        if counts and counts[0] > self.slices:
            (start,) = random_start(counts, [self.slices], self.R)
            crop = SpatialCrop(roi_slices=[slice(start, start + self.slices), slice(None), slice(None)])
            result.update({key: crop(result[key]) for key in self.key_iterator(result)})
        return result


def _with_metadata(made: Tensor, volume: Tensor) -> Tensor:
    """Give what was resized from ``volume`` its metadata, if it has any; the outer borders of the pixels stay put."""
    if not isinstance(volume, MetaTensor):
        return made
    scale = np.diag([1.0, *(n / m for n, m in zip(volume.shape[-2:], made.shape[-2:], strict=True)), 1.0])
    scale[1:3, 3] = (scale.diagonal()[1:3] - 1) / 2
    result = convert_to_dst_type(made, volume, dtype=made.dtype)[0]
    result.affine = volume.affine @ torch.from_numpy(scale).to(volume.affine)
    return result


def _count(slices: int) -> int:
    if not isinstance(slices, int) or slices < 1:
        raise InputError(f"the number of slices is {slices!r}: give a whole number of at least 1, such as 18.")
    return slices
