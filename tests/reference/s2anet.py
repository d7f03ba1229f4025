# SPDX-License-Identifier: Apache-2.0
"""S2aNet written down layer by layer, as slow and plain as the published tables; names are the published ones.

It shares no code with `custom_nets`: the judge of the optimised network, and the other side of the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolutions(before: int, after: int, norm: bool) -> nn.Module:
    """Two 3x3 convolutions, each with batch norm (or none) and ReLU."""
    block = nn.Module()
    for name, channels in (("conv1", before), ("conv2", after)):
        layers: list[nn.Module] = [nn.Conv2d(channels, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after)] if norm else []
        setattr(block, name, nn.Sequential(*layers, nn.ReLU()))
    return block


def apply(block: Any, x: Tensor) -> Tensor:
    return block.conv2(block.conv1(x))


class ScaleAware(nn.Module):
    """Five dilated convolutions side by side, concatenated, projected."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        for number, rate in enumerate((1, 2, 3, 5, 8)):
            branch = nn.Module()
            branch.block = nn.Sequential(
                nn.Conv2d(before, after, 3, padding=rate, dilation=rate, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            setattr(self, f"b{number}", branch)
        self.project = nn.Sequential(
            nn.Conv2d(5 * after, before, 1, bias=False), nn.BatchNorm2d(before), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([getattr(self, f"b{number}").block(x) for number in range(5)], dim=1))


class S2aNet(nn.Module):
    """The network for any odd number of slices; defaults as published."""

    def __init__(self, n_classes: int = 55, feature_scale: int = 1, nslices: int = 3, is_batchnorm: bool = True):
        super().__init__()
        w1, w2, w3, w4 = (int(width / feature_scale) for width in (64, 128, 256, 512))
        self.nslices = nslices
        self.conv1 = convolutions(1, w1, is_batchnorm)
        self.conv2 = convolutions(w1, w2, is_batchnorm)
        self.conv3 = convolutions(w2, w3, is_batchnorm)
        self.conv4 = convolutions(nslices * w3, w4, is_batchnorm)
        self.SCaM = ScaleAware(w4, w4)
        for level, (before, after) in {3: (w4, w3), 2: (w3, w2), 1: (w2, w1)}.items():
            decoder = nn.Module()
            decoder.up = nn.ConvTranspose2d(before, after, 2, stride=2)
            decoder.conv = convolutions((1 + nslices) * after, after, False)
            setattr(self, f"up_concat{level}", decoder)
        self.final = nn.Conv2d(w1, n_classes, 1)

    def encode(self, image: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Return every level's maps of all slices, and all slices' maps behind the last pooling."""
        skips: list[list[Tensor]] = [[], [], []]
        deepest = []
        for x in image.split(1, dim=1):
            for level, block in enumerate((self.conv1, self.conv2, self.conv3)):
                x = apply(block, x)
                skips[level].append(x)
                x = F.max_pool2d(x, 2)
            deepest.append(x)
        return skips, deepest

    def forward(self, image: Tensor) -> Tensor:
        skips, deepest = self.encode(image)
        x = self.SCaM(apply(self.conv4, torch.cat(deepest, dim=1)))
        for level in (3, 2, 1):
            decoder = getattr(self, f"up_concat{level}")
            x = apply(decoder.conv, torch.cat([decoder.up(x), *skips[level - 1]], dim=1))
        return self.final(x)


def volume_logits(network: Callable[[Tensor], Tensor], slices: Tensor, nslices: int = 3) -> Tensor:
    """Whole-volume inference window by window: D x H x W prepared slices to D x K x H x W, end slices replicated."""
    half = nslices // 2
    padded = torch.cat([slices[:1]] * half + [slices] + [slices[-1:]] * half)
    return torch.cat([network(padded[None, i : i + nslices]) for i in range(len(slices))])
