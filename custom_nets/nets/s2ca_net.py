# SPDX-License-Identifier: Apache-2.0
"""S2CA-Net: the Shape-Scale Co-Awareness Network, and the networks of its ablation.

Paper: Zhou, Jiang, Li, Hu, Zheng, "Shape-Scale Co-Awareness Network for 3D Brain Tumor Segmentation", IEEE Transactions
on Medical Imaging 43(7), 2024, pp. 2495-2508. The defaults are the paper's configuration, number for number: 21,445,012
parameters that do something. (The authors' 21,477,799 count 32,787 more in shortcuts and slopes that never run.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.allocator import give_back
from custom_nets.blocks.attention_gate3d import AttentionGate3d
from custom_nets.blocks.context_aggregator import MultiLevelContextAggregator
from custom_nets.blocks.deformable_convolution import AttentiveDeformableConv3d
from custom_nets.blocks.frugal import is_frugal
from custom_nets.blocks.frugal_residual3d import residual_planes, suits
from custom_nets.blocks.lean_convolution import channels_last_on_cpu
from custom_nets.blocks.local_global_mixer import LocalGlobalScaleMixer
from custom_nets.blocks.multi_scale_deformable import MultiScaleAttentiveDeformableConv
from custom_nets.blocks.plane_sources import PlaneSource, doubled, of_map, weighed
from custom_nets.blocks.pointwise import mixed_channels
from custom_nets.blocks.separable3d import ResUnit

#: What stands at the bottom: MCA; MCA with max pooling; four ResUnits.
CONTEXTS = ("strided", "max_pool", "none")
#: What the skip connections carry: e_i plus MS-ADC's maps, these alone, e_1 and e_2 each through an ADC, or e_i.
DEFORMATIONS = ("added", "replacing", "per_level", "none")


class S2CANet(nn.Module):
    """A 3D U-Net of four levels whose parts see the tumour at several scales and in its own shape.

    The planes of the local-global mixers are as large as the map, so a network takes patches of one size alone.

    The ablation's networks by options (paper, Table IV): B ``local_global=False, context="none", deformable="none"``;
    B+LGSM ``context="none", deformable="none"``; B+LGSM+MCA ``deformable="none"``. Of the published code besides: MCA
    alone ``local_global=False, deformable="none"``; MS-ADC alone ``local_global=False, context="none"``; the variant
    "deform" ``context="max_pool", deformable="per_level"``. Its published checkpoints: ``embed_channels=(360, 512),
    decoder_depths=(6, 2)``; S and L: ``filters=(8, 16, 32, 64)`` and ``(32, 64, 128, 256)``.

    Args:
        in_channels: modalities; T1, T2, T1CE, FLAIR as published.
        out_channels: regions, background first, then ET, TC, WT as published.
        patch_size: voxels along each axis, or a list of three equal numbers; a multiple of 8, at least 16.
        filters: channels of the four levels.
        embed_channels: of the global branches at levels 2 and 3.
        encoder_depths: blocks of the encoder's global branches at levels 2 and 3.
        decoder_depths: of the decoder's.
        local_global: LGSM at levels 2 and 3, in place of the local branch alone.
        context: at the bottom, one of `CONTEXTS`.
        deformable: on the skip connections, one of `DEFORMATIONS`.
        swapped_axes: exchange two axes in the context aggregator, as the published code does and its weights need.
        drop_path: greatest probability with which the context aggregator leaves out an addend while training.
        deep_supervision: return all heads in train mode.

    Shape:
        N x in_channels x P x P x P -> logits N x out_channels x P x P x P. In train mode with ``deep_supervision`` a
        list of four such tensors, from the full-resolution head to the deepest (all upsampled to P).

    Raises:
        ValueError: for an option that makes no network; when called, for another number of channels or another size.
    """

    def __init__(
        self,
        *,
        in_channels: int = 4,
        out_channels: int = 4,
        patch_size: int | Sequence[int] = 128,
        filters: Sequence[int] = (16, 32, 64, 128),
        embed_channels: Sequence[int] = (256, 512),
        encoder_depths: Sequence[int] = (6, 2),
        decoder_depths: Sequence[int] = (4, 2),
        local_global: bool = True,
        context: str = "strided",
        deformable: str = "added",
        swapped_axes: bool = True,
        drop_path: float = 0.1,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"in_channels {in_channels}, out_channels {out_channels}: give at least one channel each.")
        self.patch_size = _cubic(patch_size)
        _check(context, deformable, filters, embed_channels, encoder_depths, decoder_depths)
        self.in_channels = in_channels
        self.deep_supervision = deep_supervision
        self.deformable = deformable
        w0, w1, w2, w3 = filters

        def level(number: int, channels: int, width: int, depths: Sequence[int], encoder: bool) -> nn.Module:
            stride = 2 if encoder else 1
            if not local_global:
                return ResUnit(channels, width, stride)
            size, place = self.patch_size // 2**number, number - 2
            return LocalGlobalScaleMixer(channels, width, size, embed_channels[place], depths[place], stride, encoder)

        self.encoder0 = ResUnit(in_channels, w0)
        self.encoder1 = ResUnit(w0, w1, stride=2)
        self.encoder2 = level(2, w1, w2, encoder_depths, encoder=True)
        self.encoder3 = level(3, w2, w3, encoder_depths, encoder=True)
        self.context: MultiLevelContextAggregator | None = None
        self.bottom: nn.Sequential | None = None
        if context == "none":
            self.bottom = nn.Sequential(*(ResUnit(w3, w3) for _ in range(4)))
        else:
            self.context = MultiLevelContextAggregator(filters, context, drop_path, swapped_axes)
        self.skips: MultiScaleAttentiveDeformableConv | None = None
        self.deform1: AttentiveDeformableConv3d | None = None
        self.deform2: AttentiveDeformableConv3d | None = None
        if deformable == "per_level":
            self.deform1 = AttentiveDeformableConv3d(w1, w1, squeeze=4)
            self.deform2 = AttentiveDeformableConv3d(w2, w2, squeeze=4)
        elif deformable != "none":
            self.skips = MultiScaleAttentiveDeformableConv((w0, w1, w2))
        self.decoder3 = level(3, w3, w3, decoder_depths, encoder=False)
        self.gate2 = AttentionGate3d(w3, w2)
        self.decoder2 = level(2, w3 + w2, w2, decoder_depths, encoder=False)
        self.gate1 = AttentionGate3d(w2, w1)
        self.decoder1 = ResUnit(w2 + w1, w1)
        self.gate0 = AttentionGate3d(w1, w0)
        self.decoder0 = ResUnit(w1 + w0, w0)
        self.head3, self.head2, self.head1, self.head0 = (nn.Conv3d(w, out_channels, 1) for w in (w3, w2, w1, w0))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, in train mode of all heads; see the class for shapes."""
        if not torch.jit.is_tracing():
            self._check_size(image)
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if not self.training and is_frugal(image, self.head0.weight):
                return torch.cat([self._frugal(sample[None]) for sample in image])
        e0 = self.encoder0(channels_last_on_cpu(image))
        e1 = self.encoder1(e0)
        e2 = self.encoder2(e1)
        e3 = self.encoder3(e2)
        if self.context is not None:
            m = self.context(e0, e1, e2, e3)
        else:
            assert self.bottom is not None
            m = self.bottom(e3)
        k0, k1, k2 = self._skip_features(e0, e1, e2)
        d3 = self.decoder3(m)
        d2 = self.decoder2(self.gate2(d3, k2), _doubled(d3))
        d1 = self.decoder1(self.gate1(d2, k1), _doubled(d2))
        d0 = self.decoder0(self.gate0(d1, k0), _doubled(d1))
        logits = mixed_channels(d0, self.head0.weight, self.head0.bias)
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript has one type of result
            if self.training and self.deep_supervision:
                heads = [(self.head1, d1), (self.head2, d2), (self.head3, d3)]
                deeper = [mixed_channels(x, head.weight, head.bias) for head, x in heads]
                return [logits, *(_upsampled(one, self.patch_size) for one in deeper)]  # type: ignore[return-value]
        return logits

    @torch.jit.unused
    def _frugal(self, image: Tensor) -> Tensor:
        """The logits of one patch; of the largest maps no more than two are held, and written over time and again."""
        e0 = _unit(self.encoder0, [of_map(image)], None)
        e1 = _unit(self.encoder1, [of_map(e0)], None)
        e2 = self.encoder2(e1)
        e3 = self.encoder3(e2)
        if self.context is not None:
            m = self.context(e0, e1, e2, e3)
        else:
            assert self.bottom is not None
            m = self.bottom(e3)
        give_back()
        if self.skips is not None and self.deformable == "added":
            self.skips.add_to(e0, e1, e2)
            k0, k1, k2 = e0, e1, e2
        else:
            k0, k1, k2 = self._skip_features(e0, e1, e2)
        del e0, e1, e2, e3
        give_back()
        d3 = self.decoder3(m)
        d2 = self.decoder2(self.gate2(d3, k2), _doubled(d3))
        d1 = _unit(self.decoder1, [weighed(k1, self.gate1.weights(d2, k1)), doubled(d2)], k1)
        d0 = _unit(self.decoder0, [weighed(k0, self.gate0.weights(d1, k0)), doubled(d1)], k0)
        return mixed_channels(d0, self.head0.weight, self.head0.bias)

    def _skip_features(self, e0: Tensor, e1: Tensor, e2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the gates of the three upper levels weigh, k0, k1 and k2."""
        if self.skips is not None:
            k0, k1, k2 = self.skips(e0, e1, e2)
            if self.deformable == "added":
                return e0 + k0, e1 + k1, e2 + k2
            return k0, k1, k2
        if self.deform1 is not None and self.deform2 is not None:
            return e0, self.deform1(e1), self.deform2(e2)
        return e0, e1, e2

    def _check_size(self, image: Tensor) -> None:
        channels, size = image.shape[1], list(image.shape[2:])
        if channels != self.in_channels:
            raise ValueError(f"{channels} channels: give {self.in_channels}.")
        if size != [self.patch_size] * 3:
            raise ValueError(
                f"a patch of {size} voxels: give {self.patch_size} along each axis, or build the network for it."
            )


def _unit(unit: ResUnit, sources: list[PlaneSource], into: Tensor | None) -> Tensor:
    """A unit applied plane by plane; where it is not of the kind for that, to the whole maps."""
    give_back()  # small maps of the steps before, which large ones do not fit into
    if suits(unit):
        return residual_planes(unit, sources, into)
    return unit(*(source.whole() for source in sources))


def _doubled(x: Tensor) -> Tensor:
    """Twice the size, trilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)


def _upsampled(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=[size, size, size], mode="trilinear", align_corners=False)


def _cubic(patch_size: int | Sequence[int]) -> int:
    sizes = [patch_size] * 3 if isinstance(patch_size, int) else list(patch_size)
    size = sizes[0] if sizes else 0
    if sizes != [size] * 3 or size < 16 or size % 8:
        raise ValueError(f"patch_size {patch_size}: give a cube whose edge is a multiple of 8 and at least 16.")
    return size


def _check(context: str, deformable: str, filters: Sequence[int], *pairs: Sequence[int]) -> None:
    for option, value, allowed in (("context", context, CONTEXTS), ("deformable", deformable, DEFORMATIONS)):
        if value not in allowed:
            raise ValueError(f"{option} {value!r}: choose one of {', '.join(allowed)}.")
    if len(filters) != 4 or min(filters) < 1:
        raise ValueError(f"filters {list(filters)}: give the channels of four levels.")
    for pair in pairs:
        if len(pair) != 2 or min(pair) < 1:
            raise ValueError(f"{list(pair)}: give a number for level 2 and one for level 3.")
