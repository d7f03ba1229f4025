# SPDX-License-Identifier: Apache-2.0
"""What `tools.benchmark` compares: for each bundle, our modules and the plain transcription of its paper.

A new bundle adds a function that lists its cases, and an entry in `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from custom_nets.blocks.deformable_convolution import AttentiveDeformableConv3d
from custom_nets.blocks.slice_attention import RSABlock
from custom_nets.checkpoints import from_official
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from custom_nets.nets.rsanet import RSANet
from custom_nets.nets.s2anet import S2aNet
from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.nets.zoom_resunet import ZoomResUNet
from custom_nets.slices.stack import stack_logits
from tests.recipe import filled
from tests.reference import rsanet as plain_rsanet
from tests.reference import s2anet as plain_s2anet
from tests.reference import s2ca_net as plain_s2ca_net
from tests.reference import spineparsenet as plain_spineparsenet
from tests.reference import zoom_resunet as plain_zoom_resunet
from tests.s2ca_net_files import official as s2ca_net_file
from tests.spineparsenet_files import official as spineparsenet_file

Pair = tuple[nn.Module, nn.Module]


#: What a case can measure.
MEASURED = ("inference time", "inference memory", "training-step time", "training memory")


@dataclass(frozen=True)
class Case:
    """One comparison of ours with the plain transcription.

    Attributes:
        subject: what is compared, for the table.
        build: makes both modules with the same weights, in eval mode.
        shape: of the input, N x C x (D x) H x W, at least 16 voxels an axis.
        goal: largest ratio ours / plain that is aimed at.
        measured: one of `MEASURED`; memory is the peak of the call's own, a training step is forward and backward with
            gradients by all parameters.
        inner: the input is a feature map, which in training needs a gradient too; an image needs none.
        small: makes both for inputs of 16 voxels an axis, where a network is built for one size.
    """

    subject: str
    build: Callable[[], Pair]
    shape: tuple[int, ...]
    goal: float
    measured: str = "inference time"
    inner: bool = False
    small: Callable[[], Pair] | None = None

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


class _Stack(nn.Module):
    """Logits of a whole stack of slices, N x 1 x H x W, slice by slice as `SliceStackInferer` gets them."""

    def __init__(self, network: S2aNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor:
        logits = stack_logits(
            self.network, lambda low, high: slices[low:high], len(slices), self.network.num_slices, batch_size=1
        )
        return torch.cat(list(logits))


class _PlainStack(nn.Module):
    """The same window by window, each slice encoded in every window."""

    def __init__(self, network: plain_s2anet.S2aNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor:
        return plain_s2anet.volume_logits(self.network, slices[:, 0], self.network.nslices)


def _s2anet_network(slices: int = 3) -> tuple[S2aNet, plain_s2anet.S2aNet]:
    plain = plain_s2anet.S2aNet(nslices=slices)
    filled(plain)
    ours = S2aNet(num_slices=slices, dropout=0.0)
    told = {"slice_order": "ascending"} if slices == 3 else {}
    ours.load_state_dict(from_official("s2anet", plain.state_dict(), **told))
    return ours.eval(), plain


def _s2anet_stack(slices: int) -> Pair:
    ours, plain = _s2anet_network(slices)
    return _Stack(ours), _PlainStack(plain)


def _s2anet_training() -> Pair:
    """Both in train mode, each slice position with its own statistics; dropout off, which tells two runs apart."""
    ours, plain = _s2anet_network()
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return ours.train(), plain.train()


def _s2anet() -> list[Case]:
    """A scan of 24 slices; a training step of the published batch of 3 at half its size, and of one window."""
    return [
        Case("whole volume of 24 slices, S = 3", lambda: _s2anet_stack(3), (24, 1, 192, 192), 0.7),
        Case("whole volume of 24 slices, S = 5", lambda: _s2anet_stack(5), (24, 1, 192, 192), 0.62),
        Case("network", _s2anet_training, (3, 3, 256, 256), 0.9, "training-step time"),
        Case("network", _s2anet_training, (1, 3, 192, 192), 0.9, "training-step time"),
        Case("network", _s2anet_training, (3, 3, 256, 256), 0.9, "training memory"),
        Case("whole volume of 24 slices, S = 3", lambda: _s2anet_stack(3), (24, 1, 192, 192), 1.0, "inference memory"),
    ]


class _PlainDeformable(nn.Module):
    """The attentive deformable convolution by its formula, eight corners gathered for each of the 27 taps."""

    def __init__(self, entries: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(entries)
        self.values = nn.ParameterList(entries.values())

    def forward(self, x: Tensor) -> Tensor:
        return plain_s2ca_net.deformable(dict(zip(self.names, self.values, strict=True)), x)


def _s2ca_net_deformable() -> Pair:
    ours = AttentiveDeformableConv3d(96, 96)
    squeeze, offsets, attention, kernel = ours.squeeze, ours.offsets, ours.attention.convolution, ours.kernel
    entries = {
        "conv_se.weight": squeeze.weight,
        "offset_conv_kernel.weight": offsets.weight,
        "att.conv.weight": attention.weight,
        "conv_kernel.weight": kernel.weight.flatten(1)[..., None, None, None],
    }
    return ours.eval(), _PlainDeformable({name: value.detach().clone() for name, value in entries.items()})


def _s2ca_net_network(side: int) -> Pair:
    state = s2ca_net_file(side)
    ours = S2CANet(patch_size=side)
    ours.load_state_dict(from_official("s2ca_net", state))
    return ours.eval(), plain_s2ca_net.S2CANet(state).eval()


def _s2ca_net() -> list[Case]:
    """The block where it stands in a 128³ patch; the network at half of that, the plain one being large."""

    def network(measured: str, goal: float) -> Case:
        small = partial(_s2ca_net_network, 16)
        return Case("network", partial(_s2ca_net_network, 64), (1, 4, 64, 64, 64), goal, measured, small=small)

    def block(measured: str) -> Case:
        return Case("deformable block", _s2ca_net_deformable, (1, 96, 64, 64, 64), 0.35, measured, inner=True)

    return [
        block("training-step time"),
        block("training memory"),
        network("inference time", 0.75),
        network("training-step time", 0.6),
        network("inference memory", 1.0),
        network("training memory", 0.6),
    ]


class _Graph(nn.Module):
    """The map that a graph module returns, without the assignment."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, x: Tensor) -> Tensor:
        return self.graph(x)[0]


class _PlainGraph(plain_spineparsenet.Plain):
    """The graph part by its formulas, the adjacency matrix built at every call."""

    def forward(self, x: Tensor) -> Tensor:
        return plain_spineparsenet.graph(self.entries(), x, plain_spineparsenet.EDGES)[0]


class _Refinement(nn.Module):
    """All slices through the second stage, some at a time; what stands for coarse logits follows from the image."""

    def __init__(self, network: nn.Module, slices_at_once: int) -> None:
        super().__init__()
        self.network = network
        self.slices_at_once = slices_at_once

    def forward(self, image: Tensor) -> Tensor:
        batches = zip(image.split(self.slices_at_once), _halves(image).split(self.slices_at_once), strict=True)
        return torch.cat([self.network(*batch) for batch in batches])


def _halves(image: Tensor) -> Tensor:
    """N x 1 x H x W -> N x 20 x H/2 x W/2."""
    return nn.functional.avg_pool2d(image, 2) * torch.linspace(-1, 1, 20)[:, None, None]


def _spineparsenet_coarse() -> tuple[GCSN, plain_spineparsenet.GCSN]:
    state = spineparsenet_file("gcsn")
    ours = GCSN()
    ours.load_state_dict(from_official("spineparsenet.coarse", state))
    return ours.eval(), plain_spineparsenet.GCSN(state).eval()


def _spineparsenet_graph() -> Pair:
    ours, plain = _spineparsenet_coarse()
    entries = {name: value for name, value in plain.state_dict().items() if name.startswith(_GRAPH)}
    assert ours.reasoning is not None
    return _Graph(ours.reasoning).eval(), _PlainGraph(entries).eval()


def _spineparsenet_refinement(slices_at_once: int = 4) -> Pair:
    state = spineparsenet_file("resunet2d")
    ours = ResUNet2d()
    ours.load_state_dict(from_official("spineparsenet.fine", state))
    return _Refinement(ours, slices_at_once).eval(), _Refinement(plain_spineparsenet.ResUNet(state), 1).eval()


def _spineparsenet() -> list[Case]:
    """Both stages at the published sizes, the second one with 18 slices, four at a time against one."""
    return [
        Case("GCSN", _spineparsenet_coarse, (1, 1, 18, 128, 256), 0.85),
        Case("graph", _spineparsenet_graph, (1, 128, 18, 32, 64), 0.4, inner=True),
        Case("refinement", _spineparsenet_refinement, (18, 1, 256, 512), 0.9),
        Case("GCSN", _spineparsenet_coarse, (1, 1, 18, 128, 256), 1.0, "inference memory"),
        Case("refinement", _spineparsenet_refinement, (18, 1, 256, 512), 1.5, "inference memory"),
        Case("GCSN", _spineparsenet_coarse, (1, 1, 18, 64, 128), 1.0, "training-step time"),
    ]


#: Entries of the graph part in published files.
_GRAPH = ("featuremap_2_graph.", "graph_conv", "graph_2_fea.", "skip_conv.")

#: Bundle -> its cases.
CASES: dict[str, Callable[[], list[Case]]] = {
    "rsanet": _rsanet,
    "s2anet": _s2anet,
    "s2ca_net": _s2ca_net,
    "spineparsenet": _spineparsenet,
    "zoom_resunet": _zoom_resunet,
}
