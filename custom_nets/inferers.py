# SPDX-License-Identifier: Apache-2.0
"""Inference with test-time augmentation: probabilities averaged over flips of every window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from custom_nets.errors import InputError


class FlipTTAInferer(Inferer):
    """Wrap an inferer so that it returns softmax probabilities, averaged over flips if wished.

    The inferer, for example MONAI's `SlidingWindowInferer`, sees a network that is already a mean of probabilities:
    each window is flipped, predicted, flipped back and averaged before the windows are blended. So one weighted mean
    of probabilities runs over flips and windows: it sums to 1 over channels, no window counts more for its larger
    logits, and the volume is held and blended once however many flips there are. A progress bar, padding of volumes
    smaller than the window, the number of windows a batch and the device of the result are the inferer's options.

    Time grows with the number of flips. The attention of RSANet is exactly symmetric under flips, its convolutions
    are not; that is what the average gains from.

    Args:
        inferer: any MONAI inferer; called with the image and the averaging network.
        tta: False leaves one pass without a flip.
        flips: the flips to average over, each a list of spatial axes (0 is D): ``[[], [0], [0, 2]]`` averages the
            window itself, the window flipped along D, and along D and W. ``"all"`` takes every combination: 8 in 3D.

    Raises:
        InputError: if ``flips`` is empty or neither "all" nor lists of axes; when called, if an axis does not exist.
    """

    def __init__(self, inferer: Inferer, tta: bool = True, flips: str | Sequence[Sequence[int]] = "all") -> None:
        super().__init__()
        listed = not isinstance(flips, str) and len(flips) > 0 and all(isinstance(flip, Sequence) for flip in flips)
        if flips != "all" and not listed:
            raise InputError(f'flips is {flips!r}; choose "all" or lists of axes such as [[], [0], [1], [2]]')
        self.inferer = inferer
        self.tta = tta
        self.flips = flips

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Predict probabilities.

        Args:
            inputs: N x C x D x H x W (or N x C x H x W), any floating type; blended in float32.
            network: takes a window to logits N x classes x D x H x W; a network must be in eval mode.
            args: passed to the network by way of the inferer.
            kwargs: passed to the network by way of the inferer.

        Returns:
            Probabilities N x classes x D x H x W, float32, metadata kept.
        """
        flips = self._flips(inputs.ndim - 2)

        def probabilities(windows: Tensor, *more: Any, **named: Any) -> Tensor:
            total: Tensor | None = None
            for axes in flips:
                logits = network(torch.flip(windows, axes) if axes else windows, *more, **named)
                one = torch.softmax(logits.float(), dim=1)
                one = torch.flip(one, axes) if axes else one
                total = one if total is None else total.add_(one)
            assert total is not None
            return total.div_(len(flips)) if len(flips) > 1 else total

        return self.inferer(inputs.float(), probabilities, *args, **kwargs)

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
