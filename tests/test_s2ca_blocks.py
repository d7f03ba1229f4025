# SPDX-License-Identifier: Apache-2.0
"""Every block of S2CANet against the golden numbers of its published counterpart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from custom_nets.blocks.attention_gate3d import AttentionGate3d
from custom_nets.blocks.axial_shift import AxialShift, AxialShiftBlock, shifted
from custom_nets.blocks.channel_gates import ChannelSpatialAttention2d, SpatialGate3d, SqueezeExcitation
from custom_nets.blocks.context_aggregator import VolumetricAxialShiftedMLP
from custom_nets.blocks.deformable_convolution import AttentiveDeformableConv3d, DeformConv3d
from custom_nets.blocks.deformable_sampling import deformable_convolution, deformable_samples
from custom_nets.blocks.former2d import FormerBlock
from custom_nets.blocks.local_global_mixer import GlobalBranch
from custom_nets.blocks.separable3d import ResUnit, SepUnit
from tests.golden import draw, weight
from tests.recipe import arrays, document

ARRAYS = {name.removeprefix("block."): value for name, value in arrays("s2ca_net").items() if name.startswith("block.")}
GOLDENS: dict[str, dict[str, Any]] = document("s2ca_net")["blocks"]


@dataclass(frozen=True)
class Block:
    """Ours, what its parts are called in the files, and what the files hold in vain."""

    make: Callable[[], nn.Module]
    parts: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


AXIAL_SHIFT = {"conv1": "enter", "conv2_1": "columns", "conv2_2": "rows", "conv3": "leave"}
MLP = {"mlp.fc1": "widen", "mlp.fc2": "narrow"}
SHIFT_BLOCK = MLP | {f"axial_shift.{old}": f"axial_shift.{new}" for old, new in AXIAL_SHIFT.items()}
SHIFT_MLP = {
    "aspmlp.patch_embed.proj": "mlp.embed",
    "aspmlp.patch_embed.norm": "mlp.norm",
    "aspmlp.layers.0.blocks": "mlp.blocks",
    "aspmlp.conv1x1": "mlp.project",
    "fuse_conv": "fuse",
} | SHIFT_BLOCK
SQUEEZE = {"fc.0": "squeeze", "fc.2": "excite"}
CBAM = {"channel_attention.fc.0": "squeeze", "channel_attention.fc.2": "excite", "spacial_attention.conv": "places"}
FORMER = (
    MLP
    | {f"token_mixer.att.{old}": f"attention.{new}" for old, new in CBAM.items()}
    | {"token_mixer.conv": "mixer", "layer_scale_1": "scale1", "layer_scale_2": "scale2"}
)
GLOBAL = {
    "conv1x1_down": "reduce",
    "conv1x1_up": "expand",
    "fuse_conv": "fuse",
    "poolformer.patch_embed.proj": "former.embed",
    "poolformer.network.0": "former.blocks",
    "poolformer.norm": "former.norm",
    "poolformer.conv1x1": "former.project",
} | FORMER
SEPARABLE = {"dwconv": "depthwise", "pwconv": "pointwise", "act": "prelu"}
RESIDUAL = {"conv1": "unit1", "conv2": "unit2", "identity_mapping.conv": "shortcut", "conv": "convolution"} | SEPARABLE
GATE = {
    "W_g.conv": "from_below",
    "W_g.norm": "norm_below",
    "W_x.conv": "from_skip",
    "W_x.norm": "norm_skip",
    "psi.0.conv": "score",
    "psi.0.norm": "norm_score",
}
SLOPES = ("W_g.act.weight", "W_x.act.weight", "psi.0.act.weight")
DEFORMABLE = {
    "conv_kernel": "kernel",
    "offset_conv_kernel": "offsets",
    "conv_se": "squeeze",
    "att.conv": "attention.convolution",
}
SHORTCUT_SLOPE = ("identity_mapping.act.weight",)


class WithMiddle(ResUnit):
    """A unit that returns its first half's result too."""

    def forward(self, x: Tensor) -> Any:
        return self.with_middle(x)


RES = partial(ResUnit, 6, 10)
DEFORM = Block(lambda: DeformConv3d(4, 6), DEFORMABLE)
DEFORM_2 = Block(lambda: DeformConv3d(4, 6, stride=2), DEFORMABLE)
ATTENTIVE = Block(lambda: AttentiveDeformableConv3d(12, 6, squeeze=3), DEFORMABLE)
MIDDLE = Block(lambda: WithMiddle(6, 10, stride=2), RESIDUAL, SHORTCUT_SLOPE)
BLOCKS = {
    "axial_shift": Block(lambda: AxialShift(20), AXIAL_SHIFT),
    "axial_shift_dim128": Block(lambda: AxialShift(128), AXIAL_SHIFT),
    "eas_mlp_block": Block(lambda: AxialShiftBlock(20), SHIFT_BLOCK),
    "vas_mlp": Block(lambda: VolumetricAxialShiftedMLP(12, 8, embed_channels=20, depth=2), SHIFT_MLP),
    "se3d": Block(lambda: SqueezeExcitation(32), SQUEEZE),
    "spatial_att_k7": Block(lambda: SpatialGate3d(7), {"conv": "convolution"}),
    "spatial_att_k1": Block(lambda: SpatialGate3d(1), {"conv": "convolution"}),
    "cbam": Block(lambda: ChannelSpatialAttention2d(32), CBAM),
    "former_block": Block(lambda: FormerBlock(32), FORMER),
    "lgsm_global": Block(lambda: GlobalBranch(8, 5, size=6, embed_channels=32, depth=2), GLOBAL),
    "dwconvnorm_s1": Block(lambda: SepUnit(6, 10), SEPARABLE),
    "dwconvnorm_s2": Block(lambda: SepUnit(6, 10, stride=2), SEPARABLE),
    "resblock_map": Block(RES, RESIDUAL, SHORTCUT_SLOPE),
    "resblock_nomap": Block(lambda: ResUnit(6, 6), RESIDUAL, (*SHORTCUT_SLOPE, "identity_mapping.conv.weight")),
    "resblock_std": Block(lambda: RES(separable=False), RESIDUAL, (*SHORTCUT_SLOPE, "conv2.act.weight")),
    "resformerblock_s2.0": MIDDLE,
    "resformerblock_s2.1": MIDDLE,
    "gate": Block(lambda: AttentionGate3d(12, 8), GATE, SLOPES),
    "gate_train": Block(lambda: AttentionGate3d(12, 8).train(), GATE, SLOPES),
    "deformconv_s1_x1.0": DEFORM,
    "deformconv_s2_x1.0": DEFORM_2,
    "att_deformconv_x1.0": ATTENTIVE,
    "deformconv_s1_x4.0": DEFORM,
    "deformconv_s2_x4.0": DEFORM_2,
    "att_deformconv_x4.0": ATTENTIVE,
    "att_deformconv_regular": Block(lambda: AttentiveDeformableConv3d(12, 6, squeeze=3, regular=True), DEFORMABLE),
}
SAMPLES = [name for name in GOLDENS if re.match("deform_sample_k3", name)]
SHIFTS = [name for name in GOLDENS if name.startswith("shift")]


def test_every_golden_block_is_tested() -> None:
    gradients = {"deform_sample_grad_x", "deform_sample_grad_offset"}
    assert {*BLOCKS, *SAMPLES, *SHIFTS} | gradients == ARRAYS.keys()


def with_weights(module: nn.Module, block: Block, keys: list[tuple[str, list[int]]]) -> None:
    """Load the recipe's weights strictly, by the files' names."""
    expected = module.state_dict()
    state = {}
    for key, shape in keys:
        if key in block.unused:
            continue
        name = key
        for old, new in block.parts.items():
            name = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", name)
        value = torch.from_numpy(np.asarray(weight(key, tuple(shape))))
        state[name] = value.reshape(expected[name].shape) if name == "kernel.weight" else value
    module.load_state_dict(state, strict=True)


def double(name: str, shape: list[int], scale: float = 1.0) -> Tensor:
    return torch.from_numpy(scale * draw(name, tuple(shape)))


@pytest.mark.parametrize("name", BLOCKS)
def test_golden_block(name: str) -> None:
    golden, block = GOLDENS[name], BLOCKS[name]
    module = block.make()
    if not name.endswith("train"):
        module.eval()
    listed = golden.get("keys") or GOLDENS["att_deformconv_x1.0"]["keys"]
    with_weights(module, block, listed)
    shapes = golden["input_shape"]
    shapes = shapes if isinstance(shapes[0], list) else [shapes]
    scale = golden.get("input_scale", 1.0)
    inputs = [double(draw_, shape, scale).float() for draw_, shape in zip(("input", "input2"), shapes, strict=False)]
    with torch.no_grad():
        out = module(*inputs)
    if isinstance(out, tuple):
        out = out[int(name[-1])]
    tolerance = 5e-5 if name in ("vas_mlp", "lgsm_global") or name.endswith("x4.0") else 1e-5
    torch.testing.assert_close(out, torch.from_numpy(ARRAYS[name]), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", SHIFTS)
def test_golden_shift(name: str) -> None:
    golden = GOLDENS[name]
    step = -1 if golden["op"].startswith("reverse") else 1
    rows, columns = (step, 0) if golden["dim"] == 2 else (0, step)
    x = double("input", golden["input_shape"]).float()
    assert torch.equal(shifted(x, rows, columns), torch.from_numpy(ARRAYS[name]))


def by_convolution(x: Tensor, offsets: Tensor) -> Tensor:
    """The samples as channels, by a convolution whose kernels pick one each."""
    taps = 27 * x.shape[1]
    picking = torch.eye(taps, dtype=x.dtype).view(taps, x.shape[1], 3, 3, 3)
    return deformable_convolution(x, offsets, picking)


def as_channels(x: Tensor, offsets: Tensor) -> Tensor:
    return deformable_samples(x, offsets).flatten(1, 2)


both_ways = pytest.mark.parametrize("sample", [as_channels, by_convolution])


@both_ways
@pytest.mark.parametrize("name", SAMPLES)
def test_golden_samples(name: str, sample: Callable[[Tensor, Tensor], Tensor]) -> None:
    golden = GOLDENS[name]
    shape = golden["input_shape"]
    offsets = double("offset", [shape[0], 81, *shape[2:]], golden["offset_scale"])
    found = sample(double("input", shape).float(), offsets.float())
    torch.testing.assert_close(found, torch.from_numpy(ARRAYS[name]), atol=1e-5, rtol=0)


@both_ways
def test_golden_gradients_of_samples(sample: Callable[[Tensor, Tensor], Tensor]) -> None:
    shape = GOLDENS["deform_sample_grad_x"]["input_shape"]
    x = double("input", shape).requires_grad_()
    offsets = double("offset", [1, 81, *shape[2:]], 0.7).requires_grad_()
    samples = sample(x, offsets)
    gradients = torch.autograd.grad(samples, (x, offsets), double("cotangent", list(samples.shape)))
    for found, name in zip(gradients, ("deform_sample_grad_x", "deform_sample_grad_offset"), strict=True):
        torch.testing.assert_close(found.float(), torch.from_numpy(ARRAYS[name]), atol=1e-5, rtol=0)
