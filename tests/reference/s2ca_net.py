# SPDX-License-Identifier: Apache-2.0
"""S2CA-Net and its ablation written down formula by formula, slow and plain; names are the published ones.

Every function takes the entries of a published state dict that belong to it, by the names that follow its own part's.
It shares no code with `custom_nets`: the judge of the optimised network, and the other side of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Entries = Mapping[str, Tensor]
CONVOLUTIONS = {4: F.conv2d, 5: F.conv3d}


def part(p: Entries, name: str) -> dict[str, Tensor]:
    """The entries below a name."""
    return {key[len(name) + 1 :]: value for key, value in p.items() if key.startswith(name + ".")}


def convolution(p: Entries, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    """Convolution in 2D or 3D, as the weight is."""
    weight = p[f"{name}.weight"]
    return CONVOLUTIONS[weight.ndim](x, weight, p.get(f"{name}.bias"), stride, padding, 1, groups)


def group_norm(p: Entries, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 1, p[f"{name}.weight"], p[f"{name}.bias"])


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


# Elementary blocks


def sep_unit(p: Entries, x: Tensor, stride: int = 1) -> Tensor:
    x = convolution(p, "dwconv", x, stride, padding=1, groups=x.shape[1])
    return F.prelu(F.instance_norm(convolution(p, "pwconv", x)), p["act.weight"])


def res_unit(p: Entries, x: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Middle and result."""
    middle = sep_unit(part(p, "conv1"), x, stride)
    out = sep_unit(part(p, "conv2"), middle)
    if stride != 1 or x.shape[1] != out.shape[1]:
        x = F.instance_norm(convolution(p, "identity_mapping.conv", x, stride))
    return middle, F.prelu(out + x, p["act.weight"])


def two_layers(p: Entries, channels: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(channels, p["fc.0.weight"])), p["fc.2.weight"])


def squeeze_excitation(p: Entries, x: Tensor) -> Tensor:
    return x * torch.sigmoid(two_layers(p, x.mean((2, 3, 4))))[:, :, None, None, None]


def spatial_gate(p: Entries, x: Tensor) -> Tensor:
    """Of planes or volumes; the map itself."""
    both = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
    return torch.sigmoid(convolution(p, "conv", both, padding=p["conv.weight"].shape[-1] // 2))


def cbam(p: Entries, x: Tensor) -> Tensor:
    mlp = part(p, "channel_attention")
    channels = torch.sigmoid(two_layers(mlp, x.amax((2, 3))) + two_layers(mlp, x.mean((2, 3))))
    x = x * channels[:, :, None, None]
    return x * spatial_gate(part(p, "spacial_attention"), x)


def mlp(p: Entries, x: Tensor) -> Tensor:
    return convolution(p, "mlp.fc2", F.gelu(convolution(p, "mlp.fc1", x)))


# Local-global scale mixer


def former_block(p: Entries, x: Tensor) -> Tensor:
    mixed = convolution(p, "token_mixer.conv", cbam(part(p, "token_mixer.att"), group_norm(p, "norm1", x)))
    x = x + p["layer_scale_1"][:, None, None] * mixed
    return x + p["layer_scale_2"][:, None, None] * mlp(p, group_norm(p, "norm2", x))


def former(p: Entries, x: Tensor) -> Tensor:
    x = convolution(p, "patch_embed.proj", x)
    number = 0
    while block := part(p, f"network.0.{number}"):
        x = former_block(block, x)
        number += 1
    return convolution(p, "conv1x1", group_norm(p, "norm", x))


def global_branch(p: Entries, x: Tensor) -> Tensor:
    views = []
    for axis in (2, 3, 4):
        planes = x.movedim(axis, 2).flatten(1, 2)
        planes = former(part(p, "poolformer"), convolution(p, "conv1x1_down", planes))
        view = convolution(p, "conv1x1_up", planes).unflatten(1, (x.shape[1], x.shape[axis]))
        views.append(view.movedim(2, axis))
    return convolution(p, "fuse_conv", torch.cat(views, dim=1))


# Multi-level context aggregator


def shift(x: Tensor, axis: int, reverse: bool = False) -> Tensor:
    """Five groups of channels, displaced by -2 ... 2."""
    out = torch.zeros_like(x)
    size, length = -(-x.shape[1] // 5), x.shape[axis]
    for number, first in enumerate(range(0, x.shape[1], size)):
        distance = 2 - number if reverse else number - 2
        left = max(length - abs(distance), 0)
        group = slice(first, first + size)
        source = x[:, group].narrow(axis, max(-distance, 0) if left else 0, left)
        out[:, group].narrow(axis, max(distance, 0) if left else 0, left).copy_(source)
    return out


def axial_shift(p: Entries, x: Tensor) -> Tensor:
    u = F.gelu(group_norm(p, "norm1", convolution(p, "conv1", x)))
    left = shift(u, 3)
    top = shift(u, 2)
    out = F.gelu(convolution(p, "conv2_1", left)) + F.gelu(convolution(p, "conv2_1", shift(left, 2)))
    out = out + F.gelu(convolution(p, "conv2_2", top))
    out = out + F.gelu(convolution(p, "conv2_2", shift(top, 3, reverse=True)))
    return convolution(p, "conv3", group_norm(p, "norm2", out))


def eas_mlp(p: Entries, x: Tensor) -> Tensor:
    """Without the random depth of a training step."""
    x = group_norm(p, "patch_embed.norm", convolution(p, "patch_embed.proj", x))
    number = 0
    while block := part(p, f"layers.0.blocks.{number}"):
        x = x + axial_shift(part(block, "axial_shift"), group_norm(block, "norm1", x))
        x = x + mlp(block, group_norm(block, "norm2", x))
        number += 1
    return convolution(p, "conv1x1", x)


def vas_mlp(p: Entries, x: Tensor, swapped: bool = True) -> Tensor:
    views = []
    for axis in (2, 3, 4):
        slices = x.movedim(axis, 1).flatten(0, 1)
        view = eas_mlp(part(p, "aspmlp"), slices).unflatten(0, (x.shape[0], x.shape[axis]))
        views.append(view.movedim(1, axis))
    if swapped:  # as published
        views[1] = views[1].transpose(2, 3)
    return convolution(p, "fuse_conv", torch.cat(views, dim=1))


def context(p: Entries, levels: list[Tensor], swapped: bool = True) -> Tensor:
    """The bottom's map, with or without the aggregator."""
    x = levels[3]
    if "sa.conv.weight" in p:
        down = []
        for x, kernel in zip(levels, (8, 4, 2), strict=False):
            strided = f"down{kernel}Pooling.weight" in p
            down.append(convolution(p, f"down{kernel}Pooling", x, kernel) if strided else F.max_pool3d(x, kernel))
        x = z = squeeze_excitation(part(p, "ca"), torch.cat([*down, levels[3]], dim=1))
    number = 0
    while unit := part(p, f"conv_bottom.{number}"):
        x = res_unit(unit, x)[1]
        number += 1
    if "sa.conv.weight" not in p:
        return x
    return levels[3] + spatial_gate(part(p, "sa"), x) * vas_mlp(part(p, "BottomAspmlp_l4"), z, swapped)


# Deformable convolution


def sampled(x: Tensor, offsets: Tensor, stride: int = 1) -> Tensor:
    """What the 27 taps read, N x C x 27 x D' x H' x W': eight corners each, in a frame one voxel wider."""
    moved = offsets[:, :, ::stride, ::stride, ::stride].unflatten(1, (3, 27))
    taps = torch.cartesian_prod(*[torch.arange(-1, 2, device=x.device)] * 3).t().to(x.dtype)
    strides, low, fraction = [x.shape[3] + 2, x.shape[4] + 2, 1], [], []
    strides[0] *= strides[1]
    for axis in range(3):
        shape = [1, 1, 1, 1]
        shape[axis + 1] = moved.shape[axis + 3]
        voxels = stride * torch.arange(moved.shape[axis + 3], device=x.device, dtype=x.dtype).view(shape)
        place = voxels + taps[axis].view(27, 1, 1, 1) + moved[:, axis]
        last = x.shape[axis + 2] - 1
        place = torch.where((place < 0) | (place > last), place.floor(), place).clamp(-1, last + 1)
        low.append(place.detach().floor())
        fraction.append(place - low[-1])
    frame = F.pad(x, [1] * 6).flatten(2)
    out = x.new_zeros(())
    for corner in range(8):
        index, share = torch.zeros_like(low[0], dtype=torch.long), torch.ones_like(low[0])
        for axis in range(3):
            above = corner >> axis & 1
            voxel = (low[axis] + 1 + above).clamp(max=x.shape[axis + 2] + 1)
            index = index + strides[axis] * voxel.long()
            share = share * (fraction[axis] if above else 1 - fraction[axis])
        read = frame.gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1)).unflatten(2, index.shape[1:])
        out = out + share[:, None] * read
    return out


def deformable(p: Entries, x: Tensor, stride: int = 1) -> Tensor:
    """Attentive deformable convolution."""
    x = convolution(p, "conv_se", x)
    offsets = convolution(p, "offset_conv_kernel", x, padding=1)
    offsets = offsets * spatial_gate(part(p, "att"), offsets)
    return convolution(p, "conv_kernel", sampled(x, offsets, stride).flatten(1, 2))


def skips(p: Entries, levels: list[Tensor], added: bool = True) -> list[Tensor]:
    """What the gates weigh at levels 0, 1 and 2."""
    e0, e1, e2 = levels[:3]
    if "skip_1.conv_se.weight" in p:
        return [e0, deformable(part(p, "skip_1"), e1), deformable(part(p, "skip_2"), e2)]
    if "skip_msadc.conv_se.weight" not in p:
        return [e0, e1, e2]
    s = [convolution(p, "in_down01", e0, 2, 1), e1, F.conv_transpose3d(e2, p["in_up21.weight"], p["in_up21.bias"], 2)]
    v = deformable(part(p, "skip_msadc"), squeeze_excitation(part(p, "skip_ca"), torch.cat(s, dim=1)))
    k0 = F.conv_transpose3d(v, p["out_up10.weight"], p["out_up10.bias"], 2)
    k1, k2 = convolution(p, "out_1", v), convolution(p, "out_down12", v, 2)
    return [e0 + k0, e1 + k1, e2 + k2] if added else [k0, k1, k2]


# The network


def batch_norm(p: Entries, x: Tensor, training: bool) -> Tensor:
    return F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"], training)


def gate(p: Entries, g: Tensor, x: Tensor, training: bool = False) -> Tensor:
    both = batch_norm(part(p, "W_g.norm"), convolution(p, "W_g.conv", g), training)
    both = both + batch_norm(part(p, "W_x.norm"), convolution(p, "W_x.conv", x, 2), training)
    score = convolution(p, "psi.0.conv", F.relu(both))
    return x * up(torch.sigmoid(batch_norm(part(p, "psi.0.norm"), score, training)))


def encoder(p: Entries, x: Tensor) -> list[Tensor]:
    levels = []
    for level in range(4):
        middle, x = res_unit(part(p, f"conv{level}_0"), x, 1 if level == 0 else 2)
        if former_ := part(p, f"former{level}_0"):
            x = x + global_branch(former_, middle)
        levels.append(x)
    return levels


def decoder_unit(p: Entries, level: int, x: Tensor) -> Tensor:
    out = res_unit(part(p, f"conv{level}_1"), x)[1]
    former_ = part(p, f"former{level}_1")
    return out + global_branch(former_, x) if former_ else out


def heads(p: Entries, image: Tensor, training: bool = False, added: bool = True, swapped: bool = True) -> list[Tensor]:
    """The logits of all four heads, full resolution first.

    Args:
        p: a whole published state dict; in training its running statistics are updated.
        image: N x 4 x P x P x P.
        training: batch statistics in the gates.
        added: MS-ADC's maps are added to the encoder's, not put in their place.
        swapped: the exchange of two axes in the published VAS-MLP.
    """
    levels = encoder(part(p, "backbone"), image)
    carried = skips(p, levels, added)
    x = decoder_unit(p, 3, context(p, levels, swapped))
    logits = [convolution(p, "convds3", x)]
    for level in (2, 1, 0):
        gated = gate(part(p, f"gate{level + 1}_{level}"), x, carried[level], training)
        x = decoder_unit(p, level, torch.cat([gated, up(x)], dim=1))
        logits.insert(0, convolution(p, f"convds{level}", x))
    return [F.interpolate(one, size=image.shape[2:], mode="trilinear", align_corners=False) for one in logits]


class S2CANet(nn.Module):
    """Holds a published state dict under its own names; all heads in train mode, else that of full resolution."""

    def __init__(self, state: Entries, added: bool = True, swapped: bool = True) -> None:
        super().__init__()
        self.options = {"added": added, "swapped": swapped}
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

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        p = dict(self.named_parameters()) | dict(self.named_buffers())
        logits = heads(p, image, self.training, **self.options)
        return logits if self.training else logits[0]
