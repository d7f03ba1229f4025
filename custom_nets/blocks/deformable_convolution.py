# SPDX-License-Identifier: Apache-2.0
"""Deformable convolutions in 3D that stand alone: in place of a 3x3x3 convolution in any network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_nets.blocks.channel_gates import SpatialGate3d
from custom_nets.blocks.deformable_sampling import deformable_convolution
from custom_nets.blocks.pointwise import mixed_channels


class DeformConv3d(nn.Module):
    """A 3x3x3 convolution whose taps are moved by offsets that a second convolution finds.

    The offsets start like any convolution's result, not at 0. They and the places read stay in single precision under
    autocast, in which a half would know a place to 1/16 voxel.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: 1 or more; the offsets are found at full size and those of every stride-th voxel used.
        regular: leave the taps where they are: an ordinary convolution with the same weights.

    Shape:
        N x C x D x H x W -> N x C' x ceil(D / stride) x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, regular: bool = False) -> None:
        super().__init__()
        self.regular = regular
        self.stride = stride
        self.offsets = nn.Conv3d(in_channels, 81, kernel_size=3, padding=1, bias=False)
        self.kernel = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.kernel(x) if self.regular else self.deformed(x)

    def deformed(self, x: Tensor) -> Tensor:
        """Convolve with moved taps."""
        if not torch.jit.is_scripting():  # TorchScript's autocast wants a device that it knows beforehand
            with torch.autocast(x.device.type, enabled=False):
                return self._moved(x)
        return self._moved(x)

    def _moved(self, x: Tensor) -> Tensor:
        kernel = self.kernel.weight
        offsets = self.offsets(x.to(kernel.dtype))
        return deformable_convolution(x, offsets, kernel, self.modulation(offsets), self.stride)

    def modulation(self, offsets: Tensor) -> Tensor | None:
        """What the offsets are multiplied by, N x 1 x D x H x W; nothing here."""
        return None


class AttentiveDeformableConv3d(DeformConv3d):
    """ADC: squeeze the channels, find offsets, weigh them by a spatial gate of their own, convolve.

    Only the offsets are weighed, not what is read.

    Args:
        in_channels: C.
        out_channels: C'.
        squeeze: q; the convolution sees C // q channels.
        stride: as of `DeformConv3d`.
        regular: as of `DeformConv3d`.

    Shape:
        as `DeformConv3d`.

    Raises:
        ValueError: for less than q channels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, squeeze: int = 12, stride: int = 1, regular: bool = False
    ) -> None:
        if in_channels < squeeze:
            raise ValueError(f"{in_channels} channels to squeeze {squeeze} times: give at least {squeeze}.")
        super().__init__(in_channels // squeeze, out_channels, stride, regular)
        self.squeeze = nn.Conv3d(in_channels, in_channels // squeeze, kernel_size=1, bias=False)
        self.attention = SpatialGate3d(kernel_size=7)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.convolve(self.squeezed(x))

    def squeezed(self, x: Tensor) -> Tensor:
        """The map of C // q channels."""
        return mixed_channels(x, self.squeeze.weight, None)

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve what `squeezed` gave."""
        return self.kernel(x) if self.regular else self.deformed(x)

    def modulation(self, offsets: Tensor) -> Tensor | None:
        """The gate, from the offsets."""
        return self.attention(offsets)
