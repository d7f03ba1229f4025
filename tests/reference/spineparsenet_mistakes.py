# SPDX-License-Identifier: Apache-2.0
"""One mistake each in the plain SpineParseNet: misreadings of the paper that the golden numbers must tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import spineparsenet as reference
from tests.reference.spineparsenet import Entries

Mistake = Callable[[pytest.MonkeyPatch], Any]


def instead(name: str) -> Callable[[Callable[..., Any]], Mistake]:
    """Put a function in the place of one of the transcription's, which it gets first."""

    def decorate(function: Callable[..., Any]) -> Mistake:
        def mistake(patch: pytest.MonkeyPatch) -> None:
            patch.setattr(reference, name, partial(function, getattr(reference, name)))

        mistake.__name__ = function.__name__
        return mistake

    return decorate


# Backbone and pyramid


@instead("shortcut")
def shortcut_without_relu(_: Any, p: Entries, x: Tensor, stride: int) -> Tensor:
    return p.norm("skipbn", p.convolution("skip", x, (1, stride, stride)))


@instead("block")
def relu_behind_the_addition(right: Any, p: Entries, x: Tensor, stride: int = 2) -> tuple[Tensor, Tensor]:
    out, middle = right(p, x, stride)
    return F.relu(out), middle


@instead("block")
def low_features_behind_the_relu(right: Any, p: Entries, x: Tensor, stride: int = 2) -> tuple[Tensor, Tensor]:
    out, middle = right(p, x, stride)
    return out, F.relu(middle)


@instead("separable")
def relu_in_the_separable_convolution(_: Any, p: Entries, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    x = p.norm("depthwise_bn", p.convolution("depthwise", x, (1, stride, stride), dilation, dilation, x.shape[1]))
    return p.norm("pointwise_bn", p.convolution("pointwise", F.relu(x)))


@instead("separable")
def strided_over_the_slices(_: Any, p: Entries, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    x = p.norm("depthwise_bn", p.convolution("depthwise", x, 1, dilation, dilation, x.shape[1]))
    x = x[:, :, ::stride, ::stride, ::stride]
    wide = F.interpolate(x, scale_factor=(float(stride), 1.0, 1.0))  # to let it go on
    return p.norm("pointwise_bn", p.convolution("pointwise", wide))


@instead("separable_activated")
def no_relu_between(_: Any, p: Entries, x: Tensor, dilation: int = 1) -> Tensor:
    x = p.norm("depthwise_bn", p.convolution("depthwise", x, 1, dilation, dilation, x.shape[1]))
    return F.relu(p.norm("pointwise_bn", p.convolution("pointwise", x)))


@instead("separable_activated")
def no_relu_at_the_end(_: Any, p: Entries, x: Tensor, dilation: int = 1) -> Tensor:
    x = F.relu(p.norm("depthwise_bn", p.convolution("depthwise", x, 1, dilation, dilation, x.shape[1])))
    return p.norm("pointwise_bn", p.convolution("pointwise", x))


@instead("pyramid")
def wrong_rate(right: Any, p: Entries, x: Tensor) -> Tensor:
    return right(p, x, (6, 11, 18))


@instead("pyramid")
def pyramid_slice_by_slice(right: Any, p: Entries, x: Tensor) -> Tensor:
    slices = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # each slice a volume of one
    return right(p, slices).squeeze(2).unflatten(0, (len(x), -1)).transpose(1, 2)


@instead("resized")
def half_pixels(_: Any, x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=False)


# Graph


@instead("adjacency")
def single_self_loop(right: Any, labels: int, edges: Any) -> Tensor:
    return right(labels, edges, self_loop=1.0)


@instead("adjacency")
def identity(_: Any, labels: int, edges: Any) -> Tensor:
    return torch.eye(labels, dtype=torch.float64)


@instead("adjacency")
def neighbouring_vertebrae_joined(right: Any, labels: int, edges: Any) -> Tensor:
    return right(labels, (*edges, *((vertebra, vertebra + 1) for vertebra in range(1, 10))))


@instead("adjacency")
def rows_normalised(right: Any, labels: int, edges: Any) -> Tensor:
    weights = (right(labels, edges) > 0).double() + torch.eye(labels, dtype=torch.float64)
    return weights / weights.sum(dim=1, keepdim=True)


@instead("probabilities")
def softmax_over_voxels(_: Any, logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=1)


@instead("pooling_weights")
def pooled_by_a_softmax_over_voxels(_: Any, logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=1)


@instead("pooling_weights")
def pooled_without_division(_: Any, logits: Tensor) -> Tensor:
    return reference.probabilities(logits)


@instead("nodes_of")
def nodes_not_rectified(_: Any, p: Entries, rows: Tensor, weights: Tensor) -> Tensor:
    return weights.transpose(1, 2) @ (rows @ p["featuremap_2_graph.weight"])


@instead("graph_convolution")
def no_relu_in_the_graph(_: Any, nodes: Tensor, matrix: Tensor, weight: Tensor) -> Tensor:
    return matrix @ nodes @ weight


@instead("reasoned")
def two_graph_convolutions(right: Any, p: Entries, nodes: Tensor, edges: Any) -> list[Tensor]:
    return right(p, nodes, edges)[:2]


@instead("unpooled")
def unpooled_without_relu(_: Any, p: Entries, nodes: Tensor, logits: Tensor, size: Sequence[int]) -> Tensor:
    y = (reference.probabilities(logits) @ nodes).transpose(1, 2).unflatten(2, tuple(size))
    return p.norm("graph_2_fea.bn", p.convolution("graph_2_fea.conv", y))


@instead("summed")
def skip_without_relu(_: Any, p: Entries, x: Tensor, y: Tensor) -> Tensor:
    return p.convolution("skip_conv.0", x) + y


@instead("summed")
def relu_of_the_sum(_: Any, p: Entries, x: Tensor, y: Tensor) -> Tensor:
    return F.relu(p.convolution("skip_conv.0", x) + y)


@instead("summed")
def no_graph(_: Any, p: Entries, x: Tensor, y: Tensor) -> Tensor:
    return F.relu(p.convolution("skip_conv.0", x))


# Second stage


@instead("residual_block")
def added_behind_the_relu(_: Any, p: Entries, x: Tensor) -> Tensor:
    r = F.relu(p.norm("conv1.batchnorm", p.convolution("conv1.conv", x, 1, 1)))
    t = F.relu(p.norm("conv2.batchnorm", p.convolution("conv2.conv", r, 1, 1)))
    return F.relu(p.norm("conv3.batchnorm", p.convolution("conv3.conv", t, 1, 1))) + r


@instead("residual_block")
def no_residual(_: Any, p: Entries, x: Tensor) -> Tensor:
    for name in ("conv1", "conv2", "conv3"):
        x = F.relu(p.norm(f"{name}.batchnorm", p.convolution(f"{name}.conv", x, 1, 1)))
    return x


@instead("residual_block")
def residual_of_the_second_convolution(_: Any, p: Entries, x: Tensor) -> Tensor:
    for name in ("conv1", "conv2"):
        x = F.relu(p.norm(f"{name}.batchnorm", p.convolution(f"{name}.conv", x, 1, 1)))
    return F.relu(p.norm("conv3.batchnorm", p.convolution("conv3.conv", x, 1, 1)) + x)


@instead("joined")
def softmax_of_the_coarse_logits(right: Any, image: Tensor, unary: Tensor) -> Tensor:
    return right(image, unary.softmax(dim=1))


@instead("joined")
def coarse_logits_first(right: Any, image: Tensor, unary: Tensor) -> Tensor:
    return right(image, unary).roll(-1, dims=1)


@instead("pooled")
def mean_of_the_pixels(_: Any, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)
