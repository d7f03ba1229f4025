# SPDX-License-Identifier: Apache-2.0
"""The Xception encoder of SpineParseNet's 3D network, which never strides along the slices."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.separable_norm3d import ConvolutionNorm, SeparableConvolutionNorm


class XceptionBlock(nn.Module):
    """Three separable convolutions with ReLUs before them, beside a strided 1x1x1 shortcut; the two are added.

    The ReLU at the block's beginning also acts on the shortcut (spec: the published blocks rectify in place).

    Args:
        in_channels: C.
        middle_channels: of the first convolution's result.
        out_channels: C'.
        stride: in plane, of the last convolution and the shortcut.
        rectified: the input has gone through a ReLU already.

    Shape:
        N x C x D x H x W -> N x C' x D x ceil(H / stride) x ceil(W / stride), and the input of the last ReLU.
    """

    def __init__(
        self, in_channels: int, middle_channels: int, out_channels: int, stride: int = 2, rectified: bool = False
    ) -> None:
        super().__init__()
        self.rectified = rectified
        self.convolution1 = SeparableConvolutionNorm(in_channels, middle_channels)
        self.convolution2 = SeparableConvolutionNorm(middle_channels, out_channels)
        self.convolution3 = SeparableConvolutionNorm(out_channels, out_channels, stride)
        self.shortcut = ConvolutionNorm(in_channels, out_channels, stride=stride, activated=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's result, and that of its second convolution, which no ReLU has touched."""
        x = x if self.rectified else F.relu(x)
        middle = self.convolution2(self.convolution1.then_relu(x))
        return self.convolution3(F.relu(middle)) + self.shortcut(x), middle


class XceptionEncoder(nn.Module):
    """Xception without its middle flow, section "GCSN backbone": the features of three resolutions.

    Args:
        in_channels: modalities.
        width: 1 as published; 0.5 halves all channels, for small machines.

    Shape:
        N x in_channels x D x H x W -> 1024 channels at 1/16 in plane; low4, 128 channels at 1/4; low2, 32 channels at
        1/2. The number of slices stays.
    """

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        super().__init__()
        c16, c32, c64, c128, c364, c512, c768, c1024 = scaled((16, 32, 64, 128, 364, 512, 768, 1024), width)
        self.stem1 = ConvolutionNorm(in_channels, c16, kernel=3, stride=2)
        self.stem2 = ConvolutionNorm(c16, c32, kernel=3)
        self.block1 = XceptionBlock(c32, c64, c64, rectified=True)
        self.block2 = XceptionBlock(c64, c128, c128)
        self.block3 = XceptionBlock(c128, c364, c364)
        self.block4 = XceptionBlock(c364, c364, c512, stride=1)
        self.dilated1 = SeparableConvolutionNorm(c512, c768, dilation=2, activated=True)
        self.dilated2 = SeparableConvolutionNorm(c768, c768, dilation=2, activated=True)
        self.dilated3 = SeparableConvolutionNorm(c768, c1024, dilation=2, activated=True)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at 1/16, 1/4 and 1/2."""
        low2 = self.stem2(self.stem1(image))
        x, _ = self.block1(low2)
        x, low4 = self.block2(x)
        x, _ = self.block3(x)
        x, _ = self.block4(x)
        return self.dilated3(self.dilated2(self.dilated1(x))), low4, low2


def scaled(channels: tuple[int, ...], width: float) -> list[int]:
    """Multiply numbers of channels, rounded to whole numbers of at least 1."""
    return [max(1, round(number * width)) for number in channels]
