# SPDX-License-Identifier: Apache-2.0
"""The global reasoning unit, a graph of free nodes whose adjacency is learned, of SpineParseNet's ablation.

Source: Chen et al., "Graph-Based Global Reasoning Networks", CVPR 2019.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.pointwise import mixed_channels


class GlobalReasoning(nn.Module):
    """Project voxels onto nodes, convolve over the graph of the nodes, project back; added to ReLU of a 1x1x1 skip.

    Args:
        channels: C; the nodes have as many features.
        nodes: number of nodes; None takes half of C, 64 of 128 as published.

    Shape:
        N x C x D x H x W -> the same, and None in place of the assignment that other graphs have.
    """

    def __init__(self, channels: int, nodes: int | None = None) -> None:
        super().__init__()
        nodes = max(1, channels // 2) if nodes is None else nodes
        self.state = nn.Conv3d(channels, channels, kernel_size=1)
        self.assign = nn.Conv3d(channels, nodes, kernel_size=1)
        self.across_nodes = nn.Conv1d(nodes, nodes, kernel_size=1)
        self.across_features = nn.Conv1d(channels, channels, kernel_size=1, bias=False)
        self.extend = nn.Conv3d(channels, channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm3d(channels, eps=1e-4)
        self.skip = nn.Conv3d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the unit."""
        state = mixed_channels(x, self.state.weight, self.state.bias).flatten(2)
        assignment = mixed_channels(x, self.assign.weight, self.assign.bias).flatten(2)
        nodes = state @ assignment.transpose(1, 2)  # N x C x K, sums over the voxels
        mixed = F.relu(nodes + self.across_nodes(nodes.transpose(1, 2)).transpose(1, 2))
        y = (self.across_features(mixed) @ assignment).reshape(x.shape)
        y = x + self.norm(mixed_channels(y, self.extend.weight, None))
        return F.relu(mixed_channels(x, self.skip.weight, self.skip.bias)) + y, None
