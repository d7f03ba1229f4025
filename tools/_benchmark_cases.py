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
from custom_nets.nets.zoom_resunet import ZoomResUNet
from tests.recipe import filled
from tests.reference import rsanet as plain_rsanet
from tests.reference import zoom_resunet as plain_zoom_resunet

Pair = tuple[nn.Module, nn.Module]


#: What a case can measure.
MEASURED = ("inference time", "inference memory", "training-step time", "training memory")


@dataclass(frozen=True)
class Case:
    """One comparison of ours with the plain transcription.

    Attributes:
        subject: what is compared, for the table.
        build: makes both modules with the same weights, in eval mode.
        shape: of the input, N x C x D x H x W, at least 8 voxels an axis.
        goal: largest ratio ours / plain that is aimed at.
        measured: one of `MEASURED`; memory is the peak of the call's own, a training step is forward and backward with
            gradients by all parameters.
        inner: the input is a feature map, which in training needs a gradient too; an image needs none.
    """

    subject: str
    build: Callable[[], Pair]
    shape: tuple[int, ...]
    goal: float
    measured: str = "inference time"
    inner: bool = False

    def __post_init__(self) -> None:
        if self.measured not in MEASURED:
            raise ValueError(f"measured is {self.measured!r}: choose one of {', '.join(MEASURED)}")

    @property
    def training(self) -> bool:
        """Whether gradients are computed."""
        return self.measured.startswith("training")

    @property
    def memory(self) -> bool:
        """Whether memory is measured and not time."""
        return self.measured.endswith("memory")

    @property
    def title(self) -> str:
        """First column of the table."""
        return f"{self.subject}, {'x'.join(map(str, self.shape))}, {self.measured}"


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
        Case("RSA block", lambda: _rsanet_block(128), (1, 128, 32, 32, 32), 0.7, "training memory", inner=True),
    ]


def _zoom_resunet_network(checkpointed: bool = False) -> Pair:
    plain = filled(plain_zoom_resunet.ZoomResUNet())
    ours = ZoomResUNet(checkpoint_full_resolution=checkpointed)
    ours.load_state_dict(from_official("zoom_resunet", plain.state_dict()))
    return ours.eval(), plain


def _zoom_resunet() -> list[Case]:
    def network(side: int, goal: float, measured: str) -> Case:
        return Case("network", _zoom_resunet_network, (1, 1, side, side, side), goal, measured)

    return [
        network(64, 1.0, "inference time"),
        network(96, 1.0, "inference time"),
        network(96, 1.0, "inference memory"),
        Case("whole ATLAS volume", _zoom_resunet_network, (1, 1, 197, 233, 189), 1.0, "inference memory"),
        network(64, 0.9, "training-step time"),
        network(96, 0.75, "training memory"),
        Case(
            "network, checkpoint_full_resolution",
            lambda: _zoom_resunet_network(checkpointed=True),
            (1, 1, 96, 96, 96),
            0.5,
            "training memory",
        ),
    ]


#: Bundle -> its cases.
CASES: dict[str, Callable[[], list[Case]]] = {"rsanet": _rsanet, "zoom_resunet": _zoom_resunet}
