# SPDX-License-Identifier: Apache-2.0
"""ResUNet: the second stage of SpineParseNet, a 2D residual U-Net over image slices and the first stage's logits.

Paper: see `custom_nets.nets.gcsn`. The defaults are the published network, number for number: 11,784,852 parameters,
11,779,092 without the coarse logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.convolution2d import ConvolutionNormReLU2d
from custom_nets.blocks.lean_convolution import channels_last_on_cpu


class ResidualUnit2d(nn.Module):
    """Three 3x3 convolutions with batch norm and ReLU; the first one's result is added before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvolutionNormReLU2d(in_channels, out_channels, bias=False, lean=False)
        self.conv2 = ConvolutionNormReLU2d(out_channels, out_channels, bias=False, lean=False)
        self.conv3 = ConvolutionNormReLU2d(out_channels, out_channels, bias=False, lean=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C' x H x W."""
        x = self.conv1(x)
        return self.conv3.and_added(self.conv2(x), x)


class AddingDecoder2d(nn.Module):
    """Transposed convolution x2, the skip connection added, a residual unit."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        self.unit = ResidualUnit2d(out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """N x C x h x w and N x C' x 2h x 2w -> N x C' x 2h x 2w."""
        return self.unit(self.upsample(x) + skip)


class ResUNet2d(nn.Module):
    """U-Net of residual units whose skip connections are added, and whose input may hold coarse logits.

    Args:
        in_channels: of the image.
        coarse_channels: labels of the first stage, whose raw logits are resized to the image's size (bilinear,
            align_corners) and joined; 0 for the ablation that sees the image alone.
        out_channels: labels, background included.
        filters: channels of the levels.

    Shape:
        image N x in_channels x H x W and coarse logits N x coarse_channels x h x w of any size -> logits N x
        out_channels x H x W; H and W multiples of 2^(levels - 1), 16 as published. Image and resized logits may also
        come as one tensor.

    Raises:
        ValueError: for options that make no network; when called, for numbers of channels or a size that do not fit.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        coarse_channels: int = 20,
        out_channels: int = 20,
        filters: Sequence[int] = (32, 64, 128, 256, 512),
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, *filters) < 1 or coarse_channels < 0 or len(filters) < 2:
            raise ValueError(
                f"in_channels {in_channels}, coarse_channels {coarse_channels}, out_channels {out_channels}, filters "
                f"{list(filters)}: give whole numbers of at least 1 (coarse_channels 0), and two levels at least."
            )
        self.in_channels = in_channels
        self.coarse_channels = coarse_channels
        self.multiple = 2 ** (len(filters) - 1)
        self.encoders = nn.ModuleList()
        channels = in_channels + coarse_channels
        for width in filters:
            self.encoders.append(ResidualUnit2d(channels, width))
            channels = width
        self.decoders = nn.ModuleList()
        for width in reversed(list(filters)[:-1]):
            self.decoders.append(AddingDecoder2d(channels, width))
            channels = width
        self.classify = nn.Conv2d(channels, out_channels, kernel_size=1)

    def forward(self, image: Tensor, coarse_logits: Tensor | None = None) -> Tensor:
        """Return the logits; see the class for shapes."""
        x = self._joined(image, coarse_logits)
        skips: list[Tensor] = []
        for number, encoder in enumerate(self.encoders):
            x = encoder(x if number == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for number, decoder in enumerate(self.decoders):
            x = decoder(x, skips[-2 - number])
        return self.classify(x)

    def _joined(self, image: Tensor, coarse_logits: Tensor | None) -> Tensor:
        if coarse_logits is not None and self.coarse_channels > 0:
            size = [image.shape[2], image.shape[3]]
            resized = F.interpolate(coarse_logits, size=size, mode="bilinear", align_corners=True)
            image = torch.cat([image, resized], dim=1)
        channels = self.in_channels + self.coarse_channels
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(
                f"ResUNet2d of {self.in_channels} image and {self.coarse_channels} coarse channels got "
                f"{list(image.shape)} in all: give the image and the coarse logits, N x C x H x W each."
            )
        if image.shape[2] % self.multiple or image.shape[3] % self.multiple:
            raise ValueError(
                f"ResUNet2d got slices of {image.shape[2]} x {image.shape[3]}: give multiples of {self.multiple}."
            )
        return image if self.training else channels_last_on_cpu(image)
