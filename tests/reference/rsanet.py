# SPDX-License-Identifier: Apache-2.0
"""RSANet written down as its paper and its figures say it, without any optimisation.

Zhang et al., "RSANet: Recurrent Slice-wise Attention Network for Multiple Sclerosis Lesion Segmentation", MICCAI 2019.
The yardstick for the product's network: the state-dict keys are those of the published network, nothing is shared with
`custom_nets`. Methods are small so that `tests.reference.mutants` can get one thing wrong at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 128, 256, 512)
DEPTH, HEIGHT, WIDTH = 2, 3, 4  # axes of N C D H W
AXES = {"coronal": HEIGHT, "sagittal": WIDTH, "axial": DEPTH}


class SliceAttention(nn.Module):
    """Attention among the L slices along one axis; no parameters.

    S = theta phi^T (L x L, unscaled), A = softmax of each row, o = A g, where a row of theta, phi and g is one
    flattened slice.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def as_rows(self, x: Tensor) -> Tensor:
        """N C D H W -> N L K: one row per slice along the axis."""
        rows = x.transpose(1, self.axis).contiguous()
        return rows.view(rows.shape[0], rows.shape[1], -1)

    def scores(self, theta: Tensor, phi: Tensor) -> Tensor:
        """N L K, N L K -> N L L."""
        return torch.bmm(theta, phi.transpose(1, 2))

    def attention(self, theta: Tensor, phi: Tensor) -> Tensor:
        """N C D H W, N C D H W -> N L L; each row, i.e. each receiving slice, sums to 1."""
        return F.softmax(self.scores(self.as_rows(theta), self.as_rows(phi)), dim=-1)

    def forward(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """Three tensors N C D H W -> N C D H W."""
        out = torch.bmm(self.attention(theta, phi), self.as_rows(g))
        return out.view(g.transpose(1, self.axis).shape).transpose(1, self.axis)


class RSABlock(nn.Module):
    """Three slice attentions one after another, each with a residual connection scaled by its own beta."""

    directions: tuple[str, ...] = ("coronal", "sagittal", "axial")
    beta_order: tuple[int, ...] = (0, 1, 2)
    attention_class: type[SliceAttention] = SliceAttention

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta_conv = nn.Conv3d(channels, channels, kernel_size=1)
        self.phi_conv = nn.Conv3d(channels, channels, kernel_size=1)
        self.g_conv = nn.Conv3d(channels, channels, kernel_size=1)
        self.betas = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(3)])
        self.attentions = nn.ModuleList([self.attention_class(AXES[name]) for name in self.directions])

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N C D H W -> theta, phi, g of the same shape."""
        return self.theta_conv(x), self.phi_conv(x), self.g_conv(x)

    def add(self, x: Tensor, beta: Tensor, out: Tensor) -> Tensor:
        """The residual connection of one pass."""
        return x + beta * out

    def stages(self, x: Tensor) -> list[Tensor]:
        """N C D H W -> the tensor after each of the three passes."""
        stages = []
        for index, attention in zip(self.beta_order, self.attentions, strict=True):
            out = attention(*self.project(x))  # projections of the current x: this is what recurs
            x = self.add(x, self.betas[index], out)
            stages.append(x)
        return stages

    def forward(self, x: Tensor) -> Tensor:
        """N C D H W -> N C D H W."""
        return self.stages(x)[-1]


class ConvNormAct(nn.Module):
    """Convolution of kernel 3, normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(out_channels) if groups is None else nn.GroupNorm(groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """N C D H W -> N C' D H W."""
        return F.relu(self.norm(self.conv(x)))


class ConvBlock(nn.Sequential):
    """Several ConvNormAct in a row; keys `layer.layer.{i}.{conv,norm}`."""

    unit: type[ConvNormAct] = ConvNormAct

    def __init__(self, in_channels: int, out_channels: int, groups: int | None, number: int = 2) -> None:
        channels = [in_channels, *[out_channels] * number]
        units = [self.unit(c_in, c_out, groups) for c_in, c_out in pairwise(channels)]
        super().__init__(OrderedDict(layer=nn.Sequential(OrderedDict(layer=nn.Sequential(*units)))))


class Down(nn.Sequential):
    """Convolution of kernel 3 and stride 2; a length n becomes ceil(n / 2)."""

    def __init__(self, channels: int) -> None:
        conv = nn.Conv3d(channels, channels, kernel_size=3, stride=2, padding=1, bias=False)
        super().__init__(OrderedDict(down=conv))


class UpConcat(nn.Module):
    """Halve the channels, upsample by 2, fit to the skip at the low-index side, concatenate behind it, convolve."""

    conv_block: type[ConvBlock] = ConvBlock

    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__()
        halve = nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False)
        self.up = nn.Sequential(OrderedDict(up=nn.Sequential(halve, self.upsampling())))
        self.conv = self.conv_block(2 * out_channels, out_channels, groups)

    def upsampling(self) -> nn.Module:
        """The parameter-free part of the upsampling."""
        return nn.Upsample(scale_factor=2, mode="nearest")

    def fit(self, up: Tensor, skip: Tensor) -> Tensor:
        """Crop (or pad with zeros) the low-index end of each spatial axis of `up` to the lengths of `skip`."""
        missing = [wanted - got for wanted, got in zip(skip.shape[2:], up.shape[2:], strict=True)]
        return F.pad(up, [missing[2], 0, missing[1], 0, missing[0], 0])

    def concatenate(self, skip: Tensor, up: Tensor) -> Tensor:
        """Skip first, upsampled second, on the channel axis."""
        return torch.cat([skip, self.fit(up, skip)], dim=1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Skip N C D H W and coarse N 2C D/2 H/2 W/2 -> N C D H W."""
        return self.conv(self.concatenate(skip, self.up(coarse)))


class RSANet(nn.Module):
    """The published network: 3D U-Net with the RSA block at the bottleneck.

    Args:
        in_channels: number of input channels.
        out_channels: number of classes.
        groups: groups of each GroupNorm; None for BatchNorm3d.
        rsa: False leaves the block out (the plain 3D U-Net).
    """

    conv_block: type[ConvBlock] = ConvBlock
    up_concat: type[UpConcat] = UpConcat
    block: type[RSABlock] = RSABlock

    def __init__(self, in_channels: int = 3, out_channels: int = 2, groups: int | None = 8, rsa: bool = True) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = WIDTHS
        self.init_conv = nn.Conv3d(in_channels, w1, kernel_size=3, padding=1, bias=False)
        self.dropout = nn.Dropout3d(0.2)
        self.conv1 = self.conv_block(w1, w1, groups)
        self.down1 = Down(w1)
        self.conv2 = self.conv_block(w1, w2, groups)
        self.down2 = Down(w2)
        self.conv3 = self.conv_block(w2, w3, groups)
        self.down3 = Down(w3)
        self.conv4 = self.conv_block(w3, w4, groups)
        self.down4 = Down(w4)
        self.center = self.conv_block(w4, w5, groups)
        self.up_concat4 = self.up_concat(w5, w4, groups)
        self.up_concat3 = self.up_concat(w4, w3, groups)
        self.up_concat2 = self.up_concat(w3, w2, groups)
        self.up_concat1 = self.up_concat(w2, w1, groups)
        self.final = nn.Sequential(
            nn.Conv3d(w1, w1, kernel_size=3, padding=1, bias=False),
            nn.Conv3d(w1, out_channels, kernel_size=1, bias=False),
        )
        self.rsa_block = self.block(w5) if rsa else None

    def encode(self, x: Tensor) -> list[Tensor]:
        """N C D H W -> the four skips and, last, the bottleneck before the RSA block."""
        skip1 = self.conv1(self.dropout(self.init_conv(x)))
        skip2 = self.conv2(self.down1(skip1))
        skip3 = self.conv3(self.down2(skip2))
        skip4 = self.conv4(self.down3(skip3))
        return [skip1, skip2, skip3, skip4, self.center(self.down4(skip4))]

    def attend(self, center: Tensor) -> Tensor:
        """The RSA block, if there is one."""
        return center if self.rsa_block is None else self.rsa_block(center)

    def decode(self, skips: list[Tensor], x: Tensor) -> Tensor:
        """Four skips and the attended bottleneck -> logits N classes D H W."""
        skip1, skip2, skip3, skip4 = skips
        x = self.up_concat4(skip4, x)
        x = self.up_concat3(skip3, x)
        x = self.up_concat2(skip2, x)
        x = self.up_concat1(skip1, x)
        return self.final(x)

    def forward(self, x: Tensor) -> Tensor:
        """N C D H W -> logits N classes D H W; any size from one voxel upwards."""
        *skips, center = self.encode(x)
        return self.decode(skips, self.attend(center))
