# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks, down- and upsampling of 3D U-Nets, by the names that RSANet's authors gave their options.

Unless said otherwise a convolution has kernel 3, padding 1, no bias. Every builder raises `ValueError` for an unknown
name, when the network is built.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from custom_nets.blocks.pointwise import PointwiseConvolution


def normalisation(name: str, channels: int) -> nn.Module:
    """Build a normalisation layer with learnt scale and shift, eps 1e-5.

    Args:
        name: "GN" (2 groups), "GN_k" (k groups), "BN" batch norm, "IN" instance norm, "LN" (one group of all channels).
        channels: C.

    Raises:
        ValueError: for an unknown name, or channels that the groups do not divide.
    """
    if name == "BN":
        return nn.BatchNorm3d(channels)
    if name == "IN":
        return nn.InstanceNorm3d(channels, affine=True)
    groups = {"GN": "2", "LN": "1"}.get(name, name.removeprefix("GN_"))
    if not groups.isdecimal() or int(groups) < 1:
        raise ValueError(f"norm '{name}' is unknown: choose 'GN', 'GN_k' with k groups, 'BN', 'IN' or 'LN'.")
    if channels % int(groups):
        raise ValueError(f"norm '{name}': {channels} channels do not divide into {groups} groups.")
    return nn.GroupNorm(int(groups), channels)


def convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    """3x3x3 convolution, padding 1, no bias: a length n becomes ceil(n / stride)."""
    return nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class ConvolutionNormActivation(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv = convolution(in_channels, out_channels)
        self.norm = normalisation(norm, out_channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x D x H x W -> N x C' x D x H x W."""
        return self.activation(self.norm(self.conv(x)))


class ConvolutionNorm(nn.Module):
    """Convolution, norm."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.conv = convolution(in_channels, out_channels, stride)
        self.norm = normalisation(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x D x H x W -> N x C' x ceil(D/stride) x ..."""
        return self.norm(self.conv(x))


class NormActivationConvolution(nn.Module):
    """Norm, ReLU, convolution."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.norm = normalisation(norm, in_channels)
        self.activation = nn.ReLU(inplace=True)
        self.conv = convolution(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x D x H x W -> N x C' x ceil(D/stride) x ..."""
        return self.conv(self.activation(self.norm(x)))


class VGGBlock(nn.Sequential):
    """The "vgg" block: ``repeats`` x [convolution, norm, ReLU]."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, repeats: int = 2) -> None:
        channels = pairwise([in_channels, *[out_channels] * repeats])
        super().__init__(*[ConvolutionNormActivation(before, after, norm) for before, after in channels])


class ResidualV1Block(nn.Module):
    """The "resV1" block: convolution, norm, ReLU, convolution, norm, plus the shortcut.

    As published there is no ReLU after the sum. The shortcut is the identity, or a 1x1x1 convolution and a norm where
    channels or stride change.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride > 1:
            resize = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(resize, normalisation(norm, out_channels))
        self.layer1 = ConvolutionNorm(in_channels, out_channels, norm, stride)
        self.activation = nn.ReLU(inplace=True)
        self.layer2 = ConvolutionNorm(out_channels, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x D x H x W -> N x C' x ceil(D/stride) x ..."""
        return self.layer2(self.activation(self.layer1(x))) + self.shortcut(x)


class ResidualV2Block(nn.Module):
    """The "resV2" block, pre-activation: norm, ReLU, convolution, norm, ReLU, convolution, plus the shortcut.

    The shortcut is the identity, or a norm and a 1x1x1 convolution where channels or stride change.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride > 1:
            resize = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(normalisation(norm, in_channels), resize)
        self.layer1 = NormActivationConvolution(in_channels, out_channels, norm, stride)
        self.layer2 = NormActivationConvolution(out_channels, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x D x H x W -> N x C' x ceil(D/stride) x ..."""
        return self.layer2(self.layer1(x)) + self.shortcut(x)


_BLOCKS = {"vgg": VGGBlock, "resV1": ResidualV1Block, "resV2": ResidualV2Block}


def convolution_block(name: str, in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Build a block at stride 1: "vgg" (two convolutions), "resV1" or "resV2"."""
    if name not in _BLOCKS:
        raise ValueError(f"conv_block '{name}' is unknown: choose one of {sorted(_BLOCKS)}.")
    return _BLOCKS[name](in_channels, out_channels, norm)


def downsampling(name: str, channels: int, norm: str) -> nn.Module:
    """Build a layer that halves D, H, W and keeps the channels.

    Args:
        name: "conv" (stride 2), "resV1", "resV2" (the block at stride 2), or "maxpool" (kernel 2, stride 2 and, as
            published, padding 1: n becomes floor(n / 2) + 1 where the others give ceil(n / 2)).
        channels: C.
        norm: see :func:`normalisation`.
    """
    if name == "conv":
        return convolution(channels, channels, stride=2)
    if name == "maxpool":
        return nn.MaxPool3d(2, stride=2, padding=1)
    if name not in ("resV1", "resV2"):
        raise ValueError(f"down '{name}' is unknown: choose 'conv', 'maxpool', 'resV1' or 'resV2'.")
    block = ResidualV1Block if name == "resV1" else ResidualV2Block
    return block(channels, channels, norm, stride=2)


def upsampling(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """Build a layer that doubles D, H, W: "nearest" and "trilinear" (align_corners) behind a 1x1x1 convolution, or
    "transposed", a transposed convolution of kernel 2 and stride 2 (the published one cannot run).
    """
    if name == "transposed":
        return nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
    reduce = PointwiseConvolution(in_channels, out_channels, bias=False)
    if name == "nearest":
        return nn.Sequential(reduce, nn.Upsample(scale_factor=2.0, mode="nearest"))
    if name == "trilinear":
        return nn.Sequential(reduce, nn.Upsample(scale_factor=2.0, mode="trilinear", align_corners=True))
    raise ValueError(f"up '{name}' is unknown: choose 'nearest', 'trilinear' or 'transposed'.")
