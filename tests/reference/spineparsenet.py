# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet written down formula by formula, slow and plain; names are the published ones.

Maps are joined before they are convolved, the adjacency matrix is built at every call, slices are refined one at a
time, volumes are resized by scikit-image. It shares no code with `custom_nets`: the judge of the optimised networks,
and the other side of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.transform import resize
from torch import Tensor, nn

CONVOLUTIONS: dict[int, Any] = {4: F.conv2d, 5: F.conv3d}


@dataclass(frozen=True)
class Entries:
    """A published state dict, or the part of it below a name; in training the norms take the batch's statistics."""

    values: Mapping[str, Tensor]
    training: bool = False
    prefix: str = ""

    def part(self, name: str) -> Entries:
        return Entries(self.values, self.training, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.values[self.prefix + name]

    def get(self, name: str) -> Tensor | None:
        return self.values.get(self.prefix + name)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.values

    def convolution(
        self, name: str, x: Tensor, stride: Any = 1, padding: int = 0, dilation: int = 1, groups: int = 1
    ) -> Tensor:
        """In 2D or 3D, as the weight is."""
        weight = self[f"{name}.weight"]
        return CONVOLUTIONS[weight.ndim](x, weight, self.get(f"{name}.bias"), stride, padding, dilation, groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        p = self.part(name)
        return F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"], self.training)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear or trilinear, corners aligned."""
    return F.interpolate(x, size=tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=True)


# First stage: backbone


def separable(p: Entries, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """SepS; never strided along the slices."""
    x = p.convolution("depthwise", x, (1, stride, stride), dilation, dilation, groups=x.shape[1])
    return p.norm("pointwise_bn", p.convolution("pointwise", p.norm("depthwise_bn", x)))


def separable_activated(p: Entries, x: Tensor, dilation: int = 1) -> Tensor:
    """SepA."""
    x = p.convolution("depthwise", x, 1, dilation, dilation, groups=x.shape[1])
    x = F.relu(p.norm("depthwise_bn", x))
    return F.relu(p.norm("pointwise_bn", p.convolution("pointwise", x)))


def shortcut(p: Entries, x: Tensor, stride: int) -> Tensor:
    """Of a block, over its rectified input."""
    return p.norm("skipbn", p.convolution("skip", F.relu(x), (1, stride, stride)))


def block(p: Entries, x: Tensor, stride: int = 2) -> tuple[Tensor, Tensor]:
    """The result, and that of the second convolution."""
    names = [name for name in ("rep.0", "rep.1", "rep.2", "rep.3", "rep.4", "rep.5") if f"{name}.depthwise.weight" in p]
    names += [] if len(names) == 3 else ["block2_lastconv.1"]
    middle = separable(p.part(names[1]), F.relu(separable(p.part(names[0]), F.relu(x))))
    return separable(p.part(names[2]), F.relu(middle), stride) + shortcut(p, x, stride), middle


def backbone(p: Entries, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features at 1/16, low4, low2."""
    x = F.relu(p.norm("bn1", p.convolution("conv1", image, (1, 2, 2), 1)))
    low2 = F.relu(p.norm("bn2", p.convolution("conv2", x, 1, 1)))
    x, _ = block(p.part("block1"), low2)
    x, low4 = block(p.part("block2"), x)
    x, _ = block(p.part("block3"), x)
    x, _ = block(p.part("block20"), x, stride=1)
    for name in ("conv3", "conv4", "conv5"):
        x = separable_activated(p.part(name), x, dilation=2)
    return x, low4, low2


def pyramid(p: Entries, x: Tensor, rates: Sequence[int] = (6, 12, 18)) -> Tensor:
    branches = [F.relu(p.norm("aspp1.bn", p.convolution("aspp1.atrous_convolution", x)))]
    for number, rate in enumerate(rates, start=2):
        branches.append(separable_activated(p.part(f"aspp{number}.atrous_convolution"), x, rate))
    pooled = p.norm("global_avg_pool.2", p.convolution("global_avg_pool.1", x.mean((2, 3, 4), keepdim=True)))
    branches.append(resized(F.relu(pooled), x.shape[2:]))
    return rectified_norm(p, "concat_projection", "1", torch.cat(branches, dim=1))


def rectified_norm(p: Entries, name: str, number: str, x: Tensor) -> Tensor:
    return F.relu(p.norm(f"{name}_bn{number}", p.convolution(f"{name}_conv{number}", x)))


# First stage: graph

#: Discs 11 to 19 of MRSpineSeg lie between vertebrae 1 and 2, 2 and 3 ...
EDGES = tuple((vertebra, 10 + disc) for disc in range(1, 10) for vertebra in (disc, disc + 1))


def adjacency(labels: int, edges: Sequence[tuple[int, int]], self_loop: float = 2.0) -> Tensor:
    """D^-1/2 (A + loops) D^-1/2; the published code adds the loops twice."""
    weights = self_loop * torch.eye(labels, dtype=torch.float64)
    for one, other in edges:
        weights[one, other] = weights[other, one] = 1.0
    scale = weights.sum(dim=1).rsqrt()
    return scale[:, None] * weights * scale


def assignment(p: Entries, rows: Tensor) -> Tensor:
    """Logits of voxels, N x V x K."""
    return rows @ p["featuremap_2_graph.pre_fea"]


def probabilities(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=2)


def pooling_weights(logits: Tensor) -> Tensor:
    """Each label's weights of the voxels, which sum to one."""
    p = probabilities(logits)
    return p / p.sum(dim=1, keepdim=True)


def nodes_of(p: Entries, rows: Tensor, weights: Tensor) -> Tensor:
    return F.relu(weights.transpose(1, 2) @ (rows @ p["featuremap_2_graph.weight"]))


def graph_convolution(nodes: Tensor, matrix: Tensor, weight: Tensor) -> Tensor:
    return F.relu(matrix @ nodes @ weight)


def reasoned(p: Entries, nodes: Tensor, edges: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The nodes behind each of the three convolutions."""
    matrix = adjacency(nodes.shape[1], edges).to(nodes)
    found = []
    for number in (1, 2, 3):
        nodes = graph_convolution(nodes, matrix, p[f"graph_conv{number}.weight"])
        found.append(nodes)
    return found


def unpooled(p: Entries, nodes: Tensor, logits: Tensor, size: Sequence[int]) -> Tensor:
    y = (probabilities(logits) @ nodes).transpose(1, 2).unflatten(2, tuple(size))
    return F.relu(p.norm("graph_2_fea.bn", p.convolution("graph_2_fea.conv", y)))


def transferred(p: Entries, nodes: Tensor, rows: Tensor, size: Sequence[int]) -> Tensor:
    """Graphonomy's unpooling."""
    scores = rows @ p["graph_2_fea.node_fea_for_res"] + (nodes @ p["graph_2_fea.node_fea_for_hidden"]).transpose(1, 2)
    y = F.relu(torch.softmax(scores, dim=2) @ (nodes @ p["graph_2_fea.weight"]))
    return y.transpose(1, 2).unflatten(2, tuple(size))


def summed(p: Entries, x: Tensor, y: Tensor) -> Tensor:
    return F.relu(p.convolution("skip_conv.0", x)) + y


def graph(p: Entries, x: Tensor, edges: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor | None]:
    """The map with the graph's context, and the assignment logits N x K x D x H x W, which Graphonomy's has not."""
    rows = x.flatten(2).transpose(1, 2)
    logits = assignment(p, rows)
    if "graph_2_fea.weight" in p:
        nodes = reasoned(p, nodes_of(p, rows, torch.softmax(logits, dim=1)), edges)[-1]
        return summed(p, x, transferred(p, nodes, rows, x.shape[2:])), None
    nodes = reasoned(p, nodes_of(p, rows, pooling_weights(logits)), edges)[-1]
    out = summed(p, x, unpooled(p, nodes, logits, x.shape[2:]))
    return out, logits.transpose(1, 2).unflatten(2, x.shape[2:])


def coarse(p: Entries, image: Tensor, edges: Sequence[tuple[int, int]] = EDGES) -> tuple[Tensor, Tensor | None]:
    """Logits, and assignment logits where there is a graph."""
    x, low4, low2 = backbone(p.part("xception_features"), image)
    x = torch.cat([resized(pyramid(p, x), low4.shape[2:]), rectified_norm(p, "feature_projection", "1", low4)], dim=1)
    for number in (0, 1):
        x = separable_activated(p.part(f"decoder1.{number}.atrous_convolution"), x)
    logits = None
    if "skip_conv.0.weight" in p:
        x, logits = graph(p, x, edges)
    x = torch.cat([resized(x, low2.shape[2:]), rectified_norm(p, "feature_projection", "2", low2)], dim=1)
    for number in (0, 1):
        x = separable_activated(p.part(f"decoder2.{number}.atrous_convolution"), x)
    return resized(p.convolution("semantic", x), image.shape[2:]), logits


# Second stage


def residual_block(p: Entries, x: Tensor) -> Tensor:
    r = F.relu(p.norm("conv1.batchnorm", p.convolution("conv1.conv", x, 1, 1)))
    t = F.relu(p.norm("conv2.batchnorm", p.convolution("conv2.conv", r, 1, 1)))
    return F.relu(p.norm("conv3.batchnorm", p.convolution("conv3.conv", t, 1, 1)) + r)


def pooled(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


def joined(image: Tensor, unary: Tensor | None) -> Tensor:
    """The coarse logits as they are, no softmax."""
    return image if unary is None else torch.cat([image, resized(unary, image.shape[2:])], dim=1)


def fine(p: Entries, image: Tensor, unary: Tensor | None = None) -> Tensor:
    skips = [residual_block(p.part("encoders.0.basic_module"), joined(image, unary))]
    for level in range(1, 5):
        skips.append(residual_block(p.part(f"encoders.{level}.basic_module"), pooled(skips[-1])))
    x = skips.pop()
    for number in range(4):
        q = p.part(f"decoders.{number}")
        x = F.conv_transpose2d(x, q["upsample.weight"], q["upsample.bias"], 2, 1, 1)
        x = residual_block(q.part("basic_module"), x + skips.pop())
    return p.convolution("final_conv", x)


# Both


class Plain(nn.Module):
    """Holds a published state dict under its own names."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for key, value in state.items():
            *path, name = key.split(".")
            owner: nn.Module = self
            for step in path:
                if step not in owner._modules:
                    owner.add_module(step, nn.Module())
                owner = owner._modules[step]  # type: ignore[assignment]
            if name.startswith(("running", "num")):
                owner.register_buffer(name, value.clone())
            else:
                owner.register_parameter(name, nn.Parameter(value.clone()))

    def entries(self) -> Entries:
        return Entries(dict(self.named_parameters()) | dict(self.named_buffers()), self.training)


class GCSN(Plain):
    """The first stage; logits, in train mode the assignment logits too where there are any."""

    def __init__(self, state: Mapping[str, Tensor], edges: Sequence[tuple[int, int]] = EDGES) -> None:
        super().__init__(state)
        self.edges = edges

    def forward(self, image: Tensor) -> Any:
        logits, aux = coarse(self.entries(), image, self.edges)
        return [logits, aux] if self.training and aux is not None else logits


class ResUNet(Plain):
    """The second stage."""

    def forward(self, image: Tensor, unary: Tensor | None = None) -> Tensor:
        return fine(self.entries(), image, unary)


def spline(volume: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Cubic resize in plane."""
    return resize(volume.astype(np.float64), (len(volume), *size), order=3, mode="constant", preserve_range=True)


def parsed(
    first: GCSN,
    second: ResUNet,
    volume: NDArray[Any],
    coarse_size: Sequence[int] = (18, 128, 256),
    fine_size: Sequence[int] = (256, 512),
) -> tuple[Tensor, Tensor]:
    """Scores 1 x K x D x H x W and coarse logits 1 x K x D x h x w of a volume D x H x W of raw intensities."""
    depth, height, width = volume.shape
    rows = slice(int(height / 4), height - int(height / 4))
    missing = max(coarse_size[0] - depth, 0)
    before = -(-missing // 2)
    shrunken = np.pad(spline(volume[:, rows], coarse_size[1:]), ((before, missing - before), (0, 0), (0, 0)))
    slices = torch.from_numpy((spline(volume[:, rows], fine_size) - 466) / 379).float()
    logits = first(torch.from_numpy((shrunken - 466) / 379).float()[None, None])[:, :, before : before + depth]
    found = [second(slices[None, None, n], logits[:, :, n]).softmax(dim=1) for n in range(depth)]
    inside = resized(torch.stack(found, dim=2), (depth, height - 2 * rows.start, width))
    scores = torch.zeros(1, inside.shape[1], depth, height, width)
    scores[:, :, :, rows] = inside
    return scores, logits
