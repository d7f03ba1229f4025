# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet's semantic graph: voxels to one node a label, three graph convolutions, and back to the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.lean_separable_norm3d import folds, scale_and_shift
from custom_nets.blocks.pointwise import mixed_channels
from custom_nets.label_graphs.graph import LabelGraph

#: Voxels that are worked on at a time behind the pooling: their maps of 128 channels fit into a processor's cache.
_PIECE = 1024


class GraphConvolution(nn.Module):
    """ReLU(A Z W) for the nodes' features Z and the normalised adjacency matrix A; N x K x h -> N x K x h'."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """Mix the features of each node with those of its neighbours."""
        return F.relu(adjacency @ (nodes @ self.weight))


class SemanticGraph(nn.Module):
    """Region pooling, graph convolutions and region unpooling of Pang et al. 2021, section "Graph module".

    A voxel's features x give its assignment s = x Θa to the K labels, and p = softmax(s). The node of a label is
    ReLU(Σ_v r_v x_v Θb), r = p / Σ_v p over the volume; here r = softmax_v(log p), the same without a division of 0 by
    0 where a label has no mass. Graph convolutions follow, and each voxel takes p Z back, through a 1x1x1 convolution
    and a norm. Products are taken in the order in which they are small: (Rᵀ X) Θb and P (Z Uᵀ).

    Args:
        channels: C of the map.
        graph: labels and which of them touch; nothing else of it but the adjacency matrix is used.
        hidden_channels: h of the nodes.
        convolutions: number of graph convolutions.

    Shape:
        N x C x D x H x W -> N x C x D x H x W, and the assignment N x K x D x H x W.
    """

    if TYPE_CHECKING:  # at run time TorchScript would read it, and does not know the name
        adjacency: Tensor

    def __init__(self, channels: int, graph: LabelGraph, hidden_channels: int = 128, convolutions: int = 3) -> None:
        super().__init__()
        self.assign = nn.Parameter(torch.empty(channels, len(graph)))
        self.embed = nn.Parameter(torch.empty(channels, hidden_channels))
        nn.init.xavier_uniform_(self.assign)
        nn.init.xavier_uniform_(self.embed)
        self.convolutions = nn.ModuleList(
            GraphConvolution(hidden_channels, hidden_channels) for _ in range(convolutions)
        )
        self.unpool = nn.Conv3d(hidden_channels, channels, kernel_size=1, bias=False)
        self.unpool_norm = nn.BatchNorm3d(channels)
        self.skip = nn.Conv3d(channels, channels, kernel_size=1)
        self.register_buffer("adjacency", torch.from_numpy(graph.adjacency()).float(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map with the labels' context added, and the assignment logits."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if folds(x, self.unpool_norm):
                return self._folded(x)
        logits = mixed_channels(x, self.assign.t()[:, :, None, None, None], None)
        nodes, probability = self.pool(x, logits)
        for convolution in self.convolutions:
            nodes = convolution(nodes, self.adjacency)
        rectified = F.relu(mixed_channels(x, self.skip.weight, self.skip.bias))
        return rectified + self._unpooled(nodes, probability, x), logits

    def pool(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Region pooling: the nodes N x K x h, and each voxel's probabilities N x V x K."""
        log_probability = torch.log_softmax(logits.flatten(2).transpose(1, 2), dim=2)
        weights = torch.softmax(log_probability, dim=1)  # of a label, over the voxels
        nodes = weights.transpose(1, 2) @ x.flatten(2).transpose(1, 2)
        return F.relu(nodes @ self.embed), log_probability.exp()

    def _unpooled(self, nodes: Tensor, probability: Tensor, x: Tensor) -> Tensor:
        """Region unpooling: ReLU(norm(P Z Uᵀ)), N x C x D x H x W."""
        y = probability @ (nodes @ self.unpool.weight.flatten(1).t())
        return F.relu(self.unpool_norm(y.transpose(1, 2).reshape(x.shape)))

    @torch.jit.unused
    def _folded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The norm folded into the nodes; behind the pooling piece by piece, so that little leaves the cache."""
        size = x.shape[2:]
        rows = x.flatten(2).transpose(1, 2)  # a view, however the channels lie
        logits = rows @ self.assign
        log_probability = torch.log_softmax(logits, dim=2)
        nodes = F.relu(torch.softmax(log_probability.transpose(1, 2).contiguous(), dim=2) @ rows @ self.embed)
        for convolution in self.convolutions:
            nodes = convolution(nodes, self.adjacency)
        scale, shift = scale_and_shift(self.unpool_norm)
        nodes = nodes @ (self.unpool.weight.flatten(1) * scale[:, None]).t()
        skip = self.skip.weight.flatten(1).t()
        assert self.skip.bias is not None
        out = rows.new_empty(rows.shape)
        for of_sample, *maps in zip(nodes, rows, log_probability.exp_(), out, strict=True):
            for piece, probability, into in zip(*(map_.split(_PIECE) for map_ in maps), strict=True):
                torch.addmm(self.skip.bias, piece, skip, out=into).relu_()
                into.add_(torch.addmm(shift, probability, of_sample).relu_())
        return out.unflatten(1, size).permute(0, 4, 1, 2, 3), logits.unflatten(1, size).permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        """Show what shapes do not tell."""
        return f"labels={len(self.adjacency)}, edges={int((self.adjacency.triu(1) != 0).sum())}"
