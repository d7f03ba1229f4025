# SPDX-License-Identifier: Apache-2.0
"""Which windows of a volume the network sees, and test-time augmentation: probabilities averaged over flips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain, combinations, product
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.volume_crops import centre_start, region

#: How logits become what is averaged over flips and windows.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: torch.softmax(logits, dim=1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


#: Takes the probabilities of the next planes of a volume: one tensor K x planes x rows x columns for each member of an
#: average; the shape of the volume that the planes are of, planes first; the map from its voxels to those of the scan.
ScoreSink = Callable[[list[Tensor], Sequence[int], Tensor], None]


class FlipTTAInferer(Inferer):
    """Wrap an inferer so that it returns probabilities, or logits, averaged over flips if wished.

    The inferer, for example MONAI's `SlidingWindowInferer`, sees a network that is already a mean of probabilities:
    each window is flipped, predicted, flipped back and averaged before the windows are blended. So one weighted mean
    of probabilities runs over flips and windows: a softmax still sums to 1 over channels, no window counts more for its
    larger logits, and the volume is held and blended once however many flips there are. A progress bar, padding of
    volumes smaller than the window, the number of windows a batch and the device of the result are the inferer's
    options.

    Time grows with the number of flips. The attention of RSANet is exactly symmetric under flips, its convolutions
    are not; that is what the average gains from.

    Args:
        inferer: any MONAI inferer; called with the image and the averaging network.
        tta: False leaves one pass without a flip.
        flips: the flips to average over, each a list of spatial axes (0 is D): ``[[], [0], [0, 2]]`` averages the
            window itself, the window flipped along D, and along D and W. ``"all"`` takes every combination: 8 in 3D.
        activation: "softmax" over the channels, "sigmoid" of each, or "none": the logits are averaged.
        spread: append a channel: how far the flips, and the members of an ensemble, are apart, as the standard
            deviation of their probabilities (with activation "none" of the logits' sigmoids), the largest of all
            channels.

    A network with ``members``, such as `Ensemble`, is averaged over them as it is over flips.

    Raises:
        InputError: if ``flips`` is empty or neither "all" nor lists of axes, or for another activation; when called,
            if an axis does not exist.
    """

    def __init__(
        self,
        inferer: Inferer,
        tta: bool = True,
        flips: str | Sequence[Sequence[int]] = "all",
        activation: str = "softmax",
        spread: bool = False,
    ) -> None:
        super().__init__()
        listed = not isinstance(flips, str) and len(flips) > 0 and all(isinstance(flip, Sequence) for flip in flips)
        if flips != "all" and not listed:
            raise InputError(f'flips is {flips!r}; choose "all" or lists of axes such as [[], [0], [1], [2]]')
        if activation not in _ACTIVATIONS:
            raise InputError(f"activation is {activation!r}; choose one of {', '.join(_ACTIVATIONS)}")
        self.inferer = inferer
        self.tta = tta
        self.flips = flips
        self.activation = activation
        self.spread = spread

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Predict probabilities, or logits.

        Args:
            inputs: N x C x D x H x W (or N x C x H x W), any floating type; blended in float32.
            network: takes a window to logits N x classes x D x H x W; a network must be in eval mode.
            args: passed to the network by way of the inferer.
            kwargs: passed to the network by way of the inferer.

        Returns:
            N x classes x D x H x W, float32, metadata kept.
        """
        activate = _ACTIVATIONS[self.activation]
        flips = self._flips(inputs.ndim - 2)

        members = members_of(network)

        def averaged(windows: Tensor, *more: Any, **named: Any) -> Tensor:
            total: Tensor | None = None
            spread = _Spread() if self.spread else None
            for member, axes in product(members, flips):
                logits = member(torch.flip(windows, axes) if axes else windows, *more, **named)
                one = activate(logits.float())
                one = torch.flip(one, axes) if axes else one
                if spread is not None:
                    spread.add(one.sigmoid() if self.activation == "none" else one)
                if total is None:  # the network's own tensor is not added to
                    total = one.clone() if one is logits and count > 1 else one
                else:
                    total.add_(one)
            assert total is not None
            mean = total.div_(count) if count > 1 else total
            return mean if spread is None else torch.cat([mean, spread.largest()], dim=1)

        count = len(members) * len(flips)
        return self.inferer(inputs.float(), averaged, *args, **kwargs)

    def _flips(self, dimensions: int) -> list[list[int]]:
        """The flips to run, as axes of a tensor N x C x spatial."""
        if not self.tta:
            return [[]]
        axes = range(dimensions)
        if isinstance(self.flips, str):
            wanted: list[Sequence[int]] = list(
                chain.from_iterable(combinations(axes, n) for n in range(dimensions + 1))
            )
        else:
            wanted = list(self.flips)
        for axis in chain.from_iterable(wanted):
            if axis not in axes:
                raise InputError(f"flips names axis {axis}; an image of {dimensions} dimensions has {list(axes)}")
        return [[axis + 2 for axis in flip] for flip in wanted]


class Ensemble(nn.Module):
    """Networks of one bundle whose probabilities are averaged by the inferers of this package."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)


def members_of(network: Any) -> list[Any]:
    """The networks of an `Ensemble`, or the network itself."""
    return list(getattr(network, "members", None) or [network])


class _Spread:
    """Standard deviation over what is added, one after the other (Welford)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        self._count += 1
        apart = values - self._mean
        self._mean = self._mean + apart / self._count
        self._squares = self._squares + apart * (values - self._mean)

    def largest(self) -> Tensor:
        """N x 1 x spatial, the largest of all channels."""
        return (self._squares / self._count).clamp_(min=0).amax(dim=1, keepdim=True).sqrt()


class CentreCropInferer(Inferer):
    """One pass over the centred crop of a volume; outside of it is background.

    A volume thinner than the crop is padded with zeros and cut back. The crop begins at floor((N - s) / 2), as in
    zoom-in&out's published inference.

    Args:
        roi_size: of the crop; None takes the whole volume, padded to at least ``least`` voxels an axis.
        least: smallest size that the network takes.
        spread: the last channel is no class but the spread of `FlipTTAInferer`.
    """

    def __init__(self, roi_size: Sequence[int] | None, least: int = 8, spread: bool = False) -> None:
        super().__init__()
        self.spread = spread
        self.roi_size = roi_size
        self.least = least

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Predict probabilities.

        Args:
            inputs: N x C x D x H x W.
            network: takes the crop to probabilities; one channel (of the foreground), or background first.
            args: passed to the network.
            kwargs: passed to the network.

        Returns:
            Probabilities of the size of ``inputs``, metadata kept; outside of the crop 0, or 1 for the first of several
            channels.
        """
        shape = inputs.shape[2:]
        size = self.roi_size or [max(length, self.least) for length in shape]
        below = [max(-start, 0) for start in centre_start(shape, size)]
        above = [max(s - n - b, 0) for s, n, b in zip(size, shape, below, strict=True)]
        sides = [side for pair in zip(reversed(below), reversed(above), strict=True) for side in pair]
        padded = F.pad(inputs, sides) if any(sides) else inputs
        inside = region(centre_start(padded.shape[2:], size), size)
        seen = network(padded[inside], *args, **kwargs)
        if padded.shape[2:] == seen.shape[2:]:
            whole = seen
        else:
            whole = seen.new_zeros((*seen.shape[:2], *padded.shape[2:]))
            whole[:, : int(seen.shape[1] - self.spread > 1)] = 1
            whole[inside] = seen
        return convert_to_dst_type(whole[region(below, shape)], inputs, dtype=whole.dtype)[0]


class VolumeInferer(Inferer):
    """The ways to see a volume through windows.

    Args:
        windows: "centre", one centred crop, see `CentreCropInferer`; "sliding", windows over the volume, blended by a
            Gaussian (MONAI's `SlidingWindowInferer`); "whole", the volume in one pass. A network with group norm
            judges a voxel by the whole window, so the three differ, also where they see the same voxels.
        roi_size: of a window.
        sw_batch_size: sliding windows a batch.
        overlap: of sliding windows, a share of ``roi_size``.
        progress: show a bar over the sliding windows.

    Raises:
        InputError: for another value of ``windows``.
    """

    def __init__(
        self,
        windows: str,
        roi_size: Sequence[int],
        sw_batch_size: int = 1,
        overlap: float = 0.5,
        progress: bool = False,
    ) -> None:
        super().__init__()
        if windows == "sliding":
            self.inferer: Inferer = SlidingWindowInferer(
                roi_size, sw_batch_size, overlap, mode="gaussian", progress=progress
            )
        elif windows in ("centre", "whole"):
            self.inferer = CentreCropInferer(roi_size if windows == "centre" else None)
        else:
            raise InputError(f"windows is {windows!r}; choose centre, sliding or whole")

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Predict; see the inferer chosen."""
        return self.inferer(inputs, network, *args, **kwargs)


class ForegroundInferer(Inferer):
    """Show another inferer the box around the body alone; outside of it the logits are given.

    Foreground is what differs from the volume's first voxel in any channel, so that a scan whose background is not one
    value is seen whole. As far as the volume reaches, the box is widened to a whole number of steps from one window to
    the next: as many windows as it takes see more of what is around the body, as those of a whole volume do, in place
    of nearly the same twice. It begins at a multiple of a quarter of the window where it can, as windows of overlap
    0.75 do, so that strided convolutions see the voxels in the same phase.

    Args:
        inferer: any MONAI inferer.
        roi_size: of a window; the volume is not smaller.
        outside: the logit of each class outside the box.
        overlap: of neighbouring windows, a share of ``roi_size``, as the inferer has it.
        enabled: False shows the inferer the whole volume.
    """

    def __init__(
        self,
        inferer: Inferer,
        roi_size: Sequence[int],
        outside: Sequence[float],
        overlap: float = 0.5,
        enabled: bool = True,
    ) -> None:
        super().__init__()
        self.inferer = inferer
        self.roi_size = roi_size
        self.overlap = overlap
        self.outside = outside
        self.enabled = enabled

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Predict logits.

        Args:
            inputs: N x C x D x H x W.
            network: passed to the inferer.
            args: passed to the inferer.
            kwargs: passed to the inferer.

        Returns:
            Logits N x classes x D x H x W, metadata kept.
        """
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)
        plain = convert_to_tensor(inputs, track_meta=False)
        box = self._box(plain)
        seen = self.inferer(plain[box], network, *args, **kwargs)
        # a channel of spread, see FlipTTAInferer, is 0 where no network looked
        given = [*self.outside, *[0.0] * (seen.shape[1] - len(self.outside))]
        outside = seen.new_tensor(given).view(1, -1, 1, 1, 1)
        whole = outside.expand(len(plain), -1, *plain.shape[2:]).clone()
        whole[box] = seen
        return convert_to_dst_type(whole, inputs, dtype=whole.dtype)[0]

    def _box(self, image: Tensor) -> tuple[Any, ...]:
        """Index of a box of whole steps that holds the foreground of all samples, in its middle where it can be."""
        foreground = (image != image[:, :, :1, :1, :1]).any(dim=1).any(dim=0)
        slices = []
        for axis, (length, window) in enumerate(zip(image.shape[2:], self.roi_size, strict=True)):
            others = [other for other in range(3) if other != axis]
            places = foreground.any(dim=others[1]).any(dim=others[0]).nonzero()
            first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 1)
            step = max(int(window * (1 - self.overlap)), 1)
            size = min(window + step * math.ceil(max(last - first - window, 0) / step), length)
            wanted = min(max((first + last - size) // 2, 0), length - size)
            aligned = range(0, length - size + 1, max(window // 4, 1))
            holding = [place for place in aligned if place <= first and place + size >= last]
            start = min(holding, key=lambda place: abs(place - wanted), default=wanted)
            slices.append(slice(start, start + size))
        return (..., *slices)
