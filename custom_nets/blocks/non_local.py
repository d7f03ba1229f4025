# SPDX-License-Identifier: Apache-2.0
"""Non-local block: Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv 1711.07971, embedded Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_nets.blocks.pointwise import PointwiseConvolution


class NonLocalBlock(nn.Module):
    """z = x + W_z y, y_i = Σ_j softmax_j(<θ_i, φ_j>) g_j over all voxels, in C/2 channels.

    W_z starts at 0 and has no norm behind it (the paper's batch norm does not suit batches of one or two volumes), so
    the block is the identity when it is put into a network. Scores and softmax are float32 under autocast. Memory: one
    value a pair of voxels, 15 GiB a sample at 40^3; see `RSABlock` for that.

    Args:
        channels: C of the feature map, at least 2.
        sub_sample: take the maximum of φ and g over 2 x 2 x 2 voxels: 8 times fewer keys (odd sizes round up).

    Shape:
        N x C x D x H x W -> the same, any D, H, W of at least 1.

    Raises:
        ValueError: for fewer than 2 channels.
    """

    def __init__(self, channels: int, sub_sample: bool = False) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels {channels}: the block works in channels // 2, give at least 2.")
        self.theta = PointwiseConvolution(channels, channels // 2)
        self.phi = PointwiseConvolution(channels, channels // 2)
        self.g = PointwiseConvolution(channels, channels // 2)
        self.out = PointwiseConvolution(channels // 2, channels)
        self.pool = nn.MaxPool3d(2, ceil_mode=True) if sub_sample else nn.Identity()
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Let every voxel gather from every other; see the class."""
        query = self.theta(x)
        attention = self._attention(query, self.pool(self.phi(x)))
        value = self.pool(self.g(x)).flatten(2)
        gathered = torch.bmm(value, attention.to(value.dtype).transpose(1, 2))
        return x + self.out(gathered.view(query.shape)).to(x.dtype)

    def _attention(self, query: Tensor, key: Tensor) -> Tensor:
        """N x queries x keys, every row sums to 1."""
        dtype = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            scores = torch.bmm(query.flatten(2).transpose(1, 2).to(dtype), key.flatten(2).to(dtype))
            return torch.softmax(scores, dim=-1)
