# SPDX-License-Identifier: Apache-2.0
"""What `tools.benchmark` compares: for each bundle, our modules and the plain transcription of its paper.

A new bundle adds a function that lists its cases, and an entry in `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from custom_nets.blocks.slice_attention import RSABlock
from custom_nets.checkpoints import from_official
from custom_nets.nets.rsanet import RSANet
from tests.recipe import filled
from tests.reference import rsanet as plain_rsanet

Pair = tuple[nn.Module, nn.Module]


@dataclass(frozen=True)
class Case:
    """One comparison of ours with the plain transcription.

    Attributes:
        subject: what is compared, for the table.
        build: makes both modules with the same weights, in eval mode.
        shape: of the input, N x C x D x H x W.
        goal: largest ratio ours / plain that is aimed at.
        training: False compares the time of inference, True the peak memory of forward and backward.
    """

    subject: str
    build: Callable[[], Pair]
    shape: tuple[int, ...]
    goal: float
    training: bool = False

    @property
    def title(self) -> str:
        """First column of the table."""
        measured = "peak memory of forward + backward" if self.training else "inference time"
        return f"{self.subject}, {'x'.join(map(str, self.shape))}, {measured}"


def _rsanet_network() -> Pair:
    plain = filled(plain_rsanet.RSANet(), "soft")
    ours = RSANet()
    ours.load_state_dict(from_official("rsanet", plain.state_dict()))
    return ours.eval(), plain


def _rsanet_block(channels: int) -> Pair:
    plain = filled(plain_rsanet.RSABlock(channels), "soft")
    ours = RSABlock(channels)
    ours.load_state_dict(plain.state_dict())
    return ours.eval(), plain


def _rsanet() -> list[Case]:
    """The block at the places of a 160³ patch: the bottleneck and 1/4 resolution."""
    return [
        Case("network", _rsanet_network, (1, 3, 64, 64, 64), 0.92),
        Case("network", _rsanet_network, (1, 3, 96, 96, 96), 0.92),
        Case("RSA block", lambda: _rsanet_block(512), (1, 512, 10, 10, 10), 0.6),
        Case("RSA block", lambda: _rsanet_block(128), (1, 128, 40, 40, 40), 0.6),
        Case("RSA block", lambda: _rsanet_block(128), (1, 128, 32, 32, 32), 0.7, training=True),
    ]


#: Bundle -> its cases.
CASES: dict[str, Callable[[], list[Case]]] = {"rsanet": _rsanet}
