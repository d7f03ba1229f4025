# SPDX-License-Identifier: Apache-2.0
"""RSANet with one mistake each: every class is a misreading of the paper that the golden numbers must tell apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference.rsanet import ConvBlock, ConvNormAct, RSABlock, RSANet, SliceAttention, UpConcat


class FigureOrder(RSABlock):
    """The directions in the order of the paper's figures; the betas stay in place."""

    directions = ("sagittal", "coronal", "axial")


class FigureOrderWithBetas(FigureOrder):
    """The order of the figures, each beta moving along with its direction."""

    beta_order = (1, 0, 2)


class BetaOrder(RSABlock):
    """The right directions, but the betas in reverse."""

    beta_order = (2, 1, 0)


class _ColumnSoftmaxAttention(SliceAttention):
    def attention(self, theta: Tensor, phi: Tensor) -> Tensor:
        return F.softmax(self.scores(self.as_rows(theta), self.as_rows(phi)), dim=-2)


class ColumnSoftmax(RSABlock):
    """Softmax over the receiving instead of the sending slices."""

    attention_class = _ColumnSoftmaxAttention


class _ScaledAttention(SliceAttention):
    def scores(self, theta: Tensor, phi: Tensor) -> Tensor:
        return super().scores(theta, phi) / theta.shape[-1] ** 0.5


class ScaledScores(RSABlock):
    """Scores divided by the square root of K, as in a transformer."""

    attention_class = _ScaledAttention


class ThetaPhiExchanged(RSABlock):
    """Queries and keys exchanged."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta, phi, g = super().project(x)
        return phi, theta, g


class NoResidual(RSABlock):
    """Each pass replaces its input instead of adding to it."""

    def add(self, x: Tensor, beta: Tensor, out: Tensor) -> Tensor:
        return beta * out


class ProjectedOnce(RSABlock):
    """Projections of the block's input for all three passes: nothing recurs."""

    def stages(self, x: Tensor) -> list[Tensor]:
        projections = self.project(x)
        stages = []
        for beta, attention in zip(self.betas, self.attentions, strict=True):
            x = self.add(x, beta, attention(*projections))
            stages.append(x)
        return stages


class HighSideCrop(UpConcat):
    """The upsampled map is cropped (or padded) at the high-index end."""

    def fit(self, up: Tensor, skip: Tensor) -> Tensor:
        missing = [wanted - got for wanted, got in zip(skip.shape[2:], up.shape[2:], strict=True)]
        return F.pad(up, [0, missing[2], 0, missing[1], 0, missing[0]])


class InterpolatedToSkip(UpConcat):
    """The upsampled map is resampled to the size of the skip."""

    def fit(self, up: Tensor, skip: Tensor) -> Tensor:
        return F.interpolate(up, size=skip.shape[2:], mode="nearest")


class UpsampledFirst(UpConcat):
    """Concatenation with the upsampled map in front."""

    def concatenate(self, skip: Tensor, up: Tensor) -> Tensor:
        return torch.cat([self.fit(up, skip), skip], dim=1)


class Trilinear(UpConcat):
    """Trilinear instead of nearest upsampling."""

    def upsampling(self) -> nn.Module:
        return nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)


class _LeakyUnit(ConvNormAct):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


class _ActBeforeNormUnit(ConvNormAct):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class _LargeEpsUnit(ConvNormAct):
    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__(in_channels, out_channels, groups)
        self.norm.eps = 1e-3


class LeakyBlock(ConvBlock):
    """Leaky ReLU with a slope of 0.01."""

    unit = _LeakyUnit


class ActBeforeNormBlock(ConvBlock):
    """Activation in front of the normalisation."""

    unit = _ActBeforeNormUnit


class LargeEpsBlock(ConvBlock):
    """eps 1e-3 in the normalisation."""

    unit = _LargeEpsUnit


def network_with(up_concat: type[UpConcat] = UpConcat, conv_block: type[ConvBlock] = ConvBlock) -> RSANet:
    """RSANet with default options, built of one wrong part."""
    up = type(up_concat.__name__, (up_concat,), {"conv_block": conv_block})
    return type("Mutant", (RSANet,), {"up_concat": up, "conv_block": conv_block})()
