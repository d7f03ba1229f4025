# SPDX-License-Identifier: Apache-2.0
"""One decoder level of a 2D U-Net that takes one skip or several: upsample, join, convolve twice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.lean_convolution2d import convolution, on_cpu, pays


def upsampling2d(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """Build a layer that doubles H and W.

    Args:
        name: "transposed", a convolution of kernel 2 and stride 2; "bilinear" (align_corners) with a 1x1 convolution,
            which as published comes behind it, here before it: the same function on a quarter of the voxels.
        in_channels: C.
        out_channels: C'.

    Raises:
        ValueError: for another name.
    """
    if name == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    if name != "bilinear":
        raise ValueError(f"up '{name}' is unknown: choose 'transposed' or 'bilinear'.")
    double = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1), double)


class DecoderLevel2d(nn.Module):
    """Upsample x2, join with the skips (upsampled map first), two 3x3 convolutions with ReLU and without norm.

    The first convolution takes the upsampled map and each skip with its own part of the weights and adds the results:
    the convolution of their concatenation without the concatenation, which would be the network's largest tensor.

    Args:
        in_channels: channels of the coarse map.
        out_channels: channels of the upsampled map, of each skip and of the result.
        skips: number of skips.
        up: "transposed" or "bilinear".

    Shape:
        coarse N x C x h x w, skips of N x C' x 2h x 2w -> N x C' x 2h x 2w.
    """

    def __init__(self, in_channels: int, out_channels: int, skips: int, up: str = "transposed") -> None:
        super().__init__()
        self.up = upsampling2d(up, in_channels, out_channels)
        self.conv1 = nn.Conv2d((1 + skips) * out_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Join the coarse map ``x`` and the ``skips``; see the class."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if on_cpu(x, self.conv1.weight) and pays(skips[0], self.conv1.weight):
                x = convolution([self.up(x), *skips], self.conv1.weight, self.conv1.bias, rectify=True)
                return convolution([x], self.conv2.weight, self.conv2.bias, rectify=True)
        weights = self.conv1.weight.chunk(1 + len(skips), dim=1)
        x = F.conv2d(self.up(x), weights[0], self.conv1.bias, padding=1)
        for number, skip in enumerate(skips):
            x = x.add_(F.conv2d(skip, weights[1 + number], padding=1))
        return F.relu_(self.conv2(F.relu_(x)))
