# SPDX-License-Identifier: Apache-2.0
"""GCSN: the first stage of SpineParseNet, a 3D network that reasons over the graph of its labels.

Paper: Pang, Pang, Zhao et al., "SpineParseNet: Spine Parsing for Volumetric MR Image by a Two-Stage Segmentation
Framework With Semantic Image Representation", IEEE Transactions on Medical Imaging 40(1), 2021, pp. 262-273. The
defaults are the published network, number for number: 4,231,044 parameters, 4,129,796 without the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.blocks.global_reasoning import GlobalReasoning
from custom_nets.blocks.graph_transfer import GraphTransfer
from custom_nets.blocks.pointwise import mixed_channels
from custom_nets.blocks.pyramid_pooling3d import AtrousPyramidPooling
from custom_nets.blocks.resize_in_plane import resized_like
from custom_nets.blocks.semantic_graph import SemanticGraph
from custom_nets.blocks.separable_norm3d import ConvolutionNorm, SeparableConvolutionNorm
from custom_nets.blocks.xception3d import XceptionEncoder, scaled
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.label_graphs.reading import any_label_graph

#: What stands between the decoder's halves: the paper's graph, the ablation's two others, nothing for pre-training.
GRAPH_MODES = ("semantic", "global_reasoning", "transfer", "none")


class GCSN(nn.Module):
    """Graph convolutional segmentation network: Xception, pyramid pooling, semantic graph, two-step decoder.

    Any size works; slices are never strided over. Only four parameters depend on the labels, so that all others can be
    taken over from a network of another label set.

    Args:
        in_channels: modalities.
        graph: labels and which of them touch: a `LabelGraph`, its description (see
            :func:`~custom_nets.label_graphs.graph.graph_from`), its name or JSON file; None is MRSpineSeg's, the
            published one.
        graph_mode: "semantic", the paper's; "none", the network for pre-training, whose parameters all occur in the
            first one's too; of the ablation "global_reasoning" (GloRe) and "transfer" (Graphonomy's, which as published
            adds the same at every voxel).
        width: 1 as published; 0.5 halves all channels, for small machines.

    Shape:
        N x in_channels x D x H x W -> logits N x K x D x H x W. In train mode, with a graph that has them, a list of
        the logits and the assignment of voxels to nodes, N x K x D x ceil(H / 4) x ceil(W / 4).

    Raises:
        InputError: for a graph that does not hold together.
        ValueError: for another mode, a width of 0 or less; when called, for another number of channels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        graph: LabelGraph | Mapping[str, Any] | str | None = None,
        graph_mode: str = "semantic",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if graph_mode not in GRAPH_MODES:
            raise ValueError(f"graph_mode is {graph_mode!r}: choose one of {', '.join(GRAPH_MODES)}.")
        if not width > 0 or in_channels < 1:
            raise ValueError(f"width {width}, in_channels {in_channels}: give a width above 0 and a channel at least.")
        self.label_graph = any_label_graph(graph)
        self.in_channels = in_channels
        labels = len(self.label_graph)
        c24, c32, c64, c128, c256, c1024 = scaled((24, 32, 64, 128, 256, 1024), width)
        self.encoder = XceptionEncoder(in_channels, width)
        self.pyramid = AtrousPyramidPooling(c1024, c128)
        self.low4 = ConvolutionNorm(c128, c24)
        self.decoder1a = SeparableConvolutionNorm(c128 + c24, c128, activated=True)
        self.decoder1b = SeparableConvolutionNorm(c128, c128, activated=True)
        self.reasoning: nn.Module | None = None  # "graph" is taken in modules that torch.export makes
        if graph_mode == "semantic":
            self.reasoning = SemanticGraph(c128, self.label_graph, c128)
        elif graph_mode == "transfer":
            self.reasoning = GraphTransfer(c128, self.label_graph, c128)
        elif graph_mode == "global_reasoning":
            self.reasoning = GlobalReasoning(c128)
        self.low2 = ConvolutionNorm(c32, c64)
        self.decoder2a = SeparableConvolutionNorm(c128 + c64, c256, activated=True)
        self.decoder2b = SeparableConvolutionNorm(c256, c256, activated=True)
        self.classify = nn.Conv3d(c256, labels, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, in train mode of a network with a graph the assignment logits too; see the class."""
        logits, assignment = self.with_assignment(image)
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript has one type of result
            if self.training and assignment is not None:
                return [logits, assignment]  # type: ignore[return-value]
        return logits

    def with_assignment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits and the assignment logits of the graph, None where it has none."""
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"GCSN of {self.in_channels} channels got an input of {list(image.shape)}: give N x C x D x H x W."
            )
        features, low4, low2 = self.encoder(image)
        x = resized_like(self.pyramid(features), low4)
        x = self.decoder1b(self.decoder1a(x, self.low4(low4)))
        assignment: Tensor | None = None
        if self.reasoning is not None:
            x, assignment = self.reasoning(x)
        x = resized_like(x, low2)
        x = self.decoder2b(self.decoder2a(x, self.low2(low2)))
        x = mixed_channels(x, self.classify.weight, self.classify.bias)
        return resized_like(x, image), assignment
