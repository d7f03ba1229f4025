# SPDX-License-Identifier: Apache-2.0
"""The 3D-ResU-Net written down layer by layer, as slow and plain as the published tables; names are the published ones.

It shares no code with `custom_nets`: the judge of the optimised network, and the other side of the benchmark.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """res3dblock: ReLU, conv, norm, ReLU, conv, norm, ReLU, plus the padded or cropped identity."""

    def __init__(self, before: int, after: int, groups: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, padding=1, bias=bias)
        self.gn1 = nn.GroupNorm(groups, after)
        self.conv2 = nn.Conv3d(after, after, 3, padding=1, bias=bias)
        self.gn2 = nn.GroupNorm(groups, after)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.gn1(self.conv1(F.relu(x))))
        out = F.relu(self.gn2(self.conv2(out)))
        extra = out.shape[1] - x.shape[1]
        return out + F.pad(x, (0, 0, 0, 0, 0, 0, extra, 0))  # a negative pad cuts


def up_unit(before: int, after: int, groups: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(before, after, 2, stride=2, bias=bias), nn.GroupNorm(groups, after), nn.ReLU()
    )


class ZoomResUNet(nn.Module):
    """The network; defaults as published."""

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        use_bias: bool = True,
        base_width: int = 16,
        num_groups: int = 8,
    ) -> None:
        super().__init__()
        w = [base_width * 2**level for level in range(5)]

        def block(before: int, after: int) -> Block:
            return Block(before, after, num_groups, use_bias)

        self.ec0 = block(in_channels, w[1])
        self.ec1, self.ec1_2 = block(w[1], w[2]), block(w[2], w[2])
        self.ec2, self.ec2_2 = block(w[2], w[3]), block(w[3], w[3])
        self.ec3, self.ec3_2 = block(w[3], w[4]), block(w[4], w[4])
        self.dc3, self.dc3_2 = block(w[4], w[4]), block(w[4], w[4])
        self.up3 = up_unit(w[4], w[3], num_groups, use_bias)
        self.dc2, self.dc2_2 = block(w[4], w[3]), block(w[3], w[3])
        self.up2 = up_unit(w[3], w[2], num_groups, use_bias)
        self.dc1, self.dc1_2 = block(w[3], w[2]), block(w[2], w[2])
        self.up1 = up_unit(w[2], w[1], num_groups, use_bias)
        self.dc0a = block(w[2], w[1])
        self.dc0b = nn.Sequential(nn.ConvTranspose3d(w[1], out_channels, 1, bias=use_bias))

    def forward(self, x: Tensor) -> Tensor:
        e0 = self.ec0(x)
        e1 = self.ec1_2(self.ec1(F.max_pool3d(e0, 2)))
        e2 = self.ec2_2(self.ec2(F.max_pool3d(e1, 2)))
        x = self.ec3_2(self.ec3(F.max_pool3d(e2, 2)))
        x = self.dc3_2(self.dc3(x))
        x = self.dc2_2(self.dc2(self.join(self.up3(x), e2)))
        x = self.dc1_2(self.dc1(self.join(self.up2(x), e1)))
        return self.dc0b(self.dc0a(self.join(self.up1(x), e0)))

    @staticmethod
    def join(x: Tensor, skip: Tensor) -> Tensor:
        if x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
        return torch.cat([x, skip], dim=1)
