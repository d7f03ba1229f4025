# SPDX-License-Identifier: Apache-2.0
"""Graphonomy's way from voxels to a graph and back, of SpineParseNet's ablation.

Source: Gong et al., "Graphonomy: Universal Human Parsing via Graph Transfer Learning", CVPR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.pointwise import mixed_channels
from custom_nets.blocks.semantic_graph import GraphConvolution
from custom_nets.label_graphs.graph import LabelGraph


class GraphTransfer(nn.Module):
    """Voxels to one node a label by a softmax over the voxels, three graph convolutions, and back by scores.

    A voxel's share of node k is softmax_k(x·a + z_k·b). The voxel's own term is the same for all nodes and cancels, so
    that every voxel is given the same: as published this module adds a bias of the whole volume. It is computed so.

    Args:
        channels: C of the map.
        graph: labels and which of them touch.
        hidden_channels: h of the nodes.

    Shape:
        N x C x D x H x W -> the same, and None in place of the assignment that other graphs have.
    """

    if TYPE_CHECKING:  # at run time TorchScript would read it, and does not know the name
        adjacency: Tensor

    def __init__(self, channels: int, graph: LabelGraph, hidden_channels: int = 128) -> None:
        super().__init__()
        self.assign = nn.Parameter(torch.empty(channels, len(graph)))
        self.embed = nn.Parameter(torch.empty(channels, hidden_channels))
        self.convolutions = nn.ModuleList(GraphConvolution(hidden_channels, hidden_channels) for _ in range(3))
        self.voxel_score = nn.Parameter(torch.empty(channels, 1))
        self.node_score = nn.Parameter(torch.empty(hidden_channels, 1))
        self.unpool = nn.Parameter(torch.empty(hidden_channels, channels))
        for matrix in (self.assign, self.embed, self.voxel_score, self.node_score, self.unpool):
            nn.init.xavier_uniform_(matrix)
        self.skip = nn.Conv3d(channels, channels, kernel_size=1)
        self.register_buffer("adjacency", torch.from_numpy(graph.adjacency()).float(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the module."""
        rows = x.flatten(2).transpose(1, 2)
        weights = torch.softmax(rows @ self.assign, dim=1)
        nodes = F.relu((weights.transpose(1, 2) @ rows) @ self.embed)
        for convolution in self.convolutions:
            nodes = convolution(nodes, self.adjacency)
        shares = torch.softmax(nodes @ self.node_score, dim=1)  # N x K x 1
        given = F.relu(shares.transpose(1, 2) @ (nodes @ self.unpool)).transpose(1, 2)[..., None, None]
        # the score of the voxels is a parameter of the published files that no result depends on
        given = given + 0.0 * self.voxel_score.sum()
        return F.relu(mixed_channels(x, self.skip.weight, self.skip.bias)) + given, None
