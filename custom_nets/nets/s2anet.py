# SPDX-License-Identifier: Apache-2.0
"""S2aNet: the Scale- and Slice-aware Net, and the networks that its paper compares it with.

Paper: Yan et al., "Scale- and Slice-aware Net (S2aNet) for 3D segmentation of organs and musculoskeletal structures in
pelvic MRI", Magnetic Resonance in Medicine 2022;87(1):431-445, doi 10.1002/mrm.28939. The defaults are the published
configuration, number for number: 24,724,471 parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.allocator import give_back
from custom_nets.blocks.convolution2d import DoubleConvolution2d
from custom_nets.blocks.decoder2d import DecoderLevel2d
from custom_nets.blocks.frugal import is_wanted
from custom_nets.blocks.lean_convolution import channels_last_on_cpu
from custom_nets.blocks.lean_convolution2d import is_lean, split
from custom_nets.blocks.scale_aware import ScaleAwareModule

#: Where the scale-aware module stands: at the bottom of the U; nowhere; on level 1's way to the decoder alone; or
#: behind level 2, on both of its ways. As published: S2aNet, U-Net, and what the code has of P1UNet and P2UNet.
SCALE_AWARE_PLACES = ("bottom", "none", "skip1", "level2")


class S2aNet(nn.Module):
    """A 2.5D U-Net: each slice of a window is encoded on its own, the maps are fused, the middle slice is labelled.

    The paper's other networks by options: n-slice networks ``num_slices=n`` (n1PUNet: 1); FPUNet_I
    ``share_encoder=False, skip="centre"``; UNet ``num_slices=1, poolings=4, scale_aware="none"``, with three slices as
    channels ``in_channels=3`` besides; mUNet ``poolings=4, scale_aware="none", skip="centre"``; AUNet
    ``num_slices=1, scale_aware="skip1"``; A2UNet ``num_slices=1, scale_aware="level2"``.

    Args:
        in_channels: of each slice; 1 in the paper.
        out_channels: classes, background included; 55 in the paper.
        num_slices: S, of a window; odd.
        feature_scale: the levels have int(64 / s), int(128 / s), int(256 / s) and int(512 / s) channels.
        share_encoder: one encoder for all slices; else one for each position in the window.
        skip: "all" slices reach the decoder, or the "centre" one alone.
        slice_order: of concatenation and of the norms' running statistics: "ascending" (previous, centre, next), or
            "centre_first", as in files before 2023-12-10.
        up: "transposed" or "bilinear" upsampling.
        norm: "batch", or "none" in encoder and slice-aware module; the scale-aware module always has batch norm.
        poolings: 3, or 4 with a further level of int(1024 / s) channels.
        scale_aware: where the scale-aware module stands, one of `SCALE_AWARE_PLACES`.
        dropout: of the scale-aware module.

    Shape:
        N x (S · in_channels) x H x W, slices in ascending order whatever ``slice_order`` -> logits N x out_channels x
        H x W. H and W are multiples of 8, with four poolings of 16.

    Raises:
        ValueError: for an option that makes no network; when called, for another number of channels or another size.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 55,
        num_slices: int = 3,
        feature_scale: float = 1,
        share_encoder: bool = True,
        skip: str = "all",
        slice_order: str = "ascending",
        up: str = "transposed",
        norm: str = "batch",
        poolings: int = 3,
        scale_aware: str = "bottom",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        _check(num_slices, skip, slice_order, poolings, scale_aware)
        w1, w2, w3, w4, w5 = (_scaled(width, feature_scale) for width in (64, 128, 256, 512, 1024))
        if min(in_channels, out_channels, w1) < 1:
            raise ValueError(
                f"in_channels {in_channels}, out_channels {out_channels}, feature_scale {feature_scale}: give at least "
                "one channel, and a feature_scale above 0 and up to 64."
            )
        self.in_channels = in_channels
        self.num_slices = num_slices
        self.multiple = 2**poolings
        self.encodes_once = share_encoder  # whether windows can share the maps of their slices
        middle = num_slices // 2
        self.order = list(range(num_slices))
        if slice_order == "centre_first":
            self.order = [middle, *(position for position in self.order if position != middle)]
        self.skipping = list(range(num_slices)) if skip == "all" else [self.order.index(middle)]
        skips = len(self.skipping)

        def scale_aware_module(place: str, channels: int) -> nn.Module:
            return ScaleAwareModule(channels, dropout=dropout) if scale_aware == place else _AsItIs()

        self.encoders = nn.ModuleList(
            SliceEncoder(in_channels, (w1, w2, w3), norm, scale_aware_module("level2", w2))
            for _ in range(1 if share_encoder else num_slices)
        )
        self.slice_aware = DoubleConvolution2d(num_slices * w3, w4, norm)
        self.deepest = DoubleConvolution2d(w4, w5, norm) if poolings == 4 else None
        self.scale_aware = scale_aware_module("bottom", w5 if poolings == 4 else w4)
        self.scale_aware_skip = scale_aware_module("skip1", w1)
        self.decoder4 = DecoderLevel2d(w5, w4, 1, up) if poolings == 4 else None
        self.decoder3 = DecoderLevel2d(w4, w3, skips, up)
        self.decoder2 = DecoderLevel2d(w3, w2, skips, up)
        self.decoder1 = DecoderLevel2d(w2, w1, skips, up)
        self.head = nn.Conv2d(w1, out_channels, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the windows' middle slices; see the class for shapes."""
        if not torch.jit.is_tracing():
            self._check_size(image)
        slices = image.chunk(self.num_slices, dim=1)
        maps = self.encode(torch.cat([slices[position] for position in self.order]), self.num_slices)
        if not torch.jit.is_scripting():  # noqa: SIM102
            if is_lean(maps[0], self.head.weight):
                return self.decode([split(level, self.num_slices) for level in maps])
        return self.decode([_positions(level, self.num_slices) for level in maps])

    def encode(self, slices: Tensor, positions: int = 1) -> list[Tensor]:
        """Encode slices by themselves, which every window that they are part of then shares.

        Args:
            slices: M x in_channels x H x W, any slices; with ``positions`` > 1, those of each position in turn, which
                in train mode keeps the norms' statistics of each position apart, and which picks the encoder where
                each position has its own.

        Returns:
            What :meth:`decode` takes of each slice: the skips of levels 1 to 3 and the map behind the third pooling.
        """
        slices = channels_last_on_cpu(slices)
        parts = _positions(slices, len(self.encoders))
        levels: list[list[Tensor]] = [[], [], [], []]
        for number, encoder in enumerate(self.encoders):
            for level, one in enumerate(encoder(parts[number], positions if len(parts) == 1 else 1)):
                levels[level].append(one)
        e1, e2, e3, pooled = [maps[0] if len(maps) == 1 else torch.cat(maps) for maps in levels]
        return [self.scale_aware_skip(e1, positions), e2, e3, pooled]

    def decode(self, maps: list[list[Tensor]]) -> Tensor:
        """Label the middle slices of N windows.

        Args:
            maps: for each of the four maps of :meth:`encode` the windows' slices, in the network's ``order``: tensors
                N x C x h x w.

        Returns:
            Logits N x out_channels x H x W.
        """
        e1, e2, e3, pooled = maps
        x = self.slice_aware(torch.cat(pooled, dim=1))
        if self.deepest is not None and self.decoder4 is not None:
            x = self.decoder4(self.scale_aware(self.deepest(F.max_pool2d(x, 2))), [x])
        else:
            x = self.scale_aware(x)
        x = self.decoder3(x, [e3[position] for position in self.skipping])
        x = self.decoder2(x, [e2[position] for position in self.skipping])
        if not torch.jit.is_scripting():  # noqa: SIM102
            if is_wanted(self.head.weight):
                give_back()  # small maps of the steps before, which large ones do not fit into
        x = self.decoder1(x, [e1[position] for position in self.skipping])
        # a matrix product along the channels, which lie side by side on a CPU
        weight = self.head.weight.flatten(1)
        return F.linear(x.permute(0, 2, 3, 1), weight, self.head.bias).permute(0, 3, 1, 2)

    def _check_size(self, image: Tensor) -> None:
        channels, height, width = image.shape[1], image.shape[2], image.shape[3]
        if channels != self.num_slices * self.in_channels:
            raise ValueError(f"{channels} channels: give {self.num_slices} slices of {self.in_channels} channels each.")
        if height % self.multiple or width % self.multiple or min(height, width) < 1:
            raise ValueError(f"slices of {height} x {width} voxels: give multiples of {self.multiple}.")


class SliceEncoder(nn.Module):
    """The three levels that every slice goes through on its own.

    Args:
        in_channels: of a slice.
        widths: channels of the three levels.
        norm: "batch" or "none".
        behind_level2: takes that level's map on its way down and to the decoder.

    Shape:
        M x C x H x W -> the three levels' maps, at 1, 1/2 and 1/4 of H and W, and the last one's maxima at 1/8.
    """

    def __init__(self, in_channels: int, widths: tuple[int, int, int], norm: str, behind_level2: nn.Module) -> None:
        super().__init__()
        w1, w2, w3 = widths
        self.level1 = DoubleConvolution2d(in_channels, w1, norm)
        self.level2 = DoubleConvolution2d(w1, w2, norm)
        self.scale_aware = behind_level2
        self.scales = not isinstance(behind_level2, _AsItIs)
        self.level3 = DoubleConvolution2d(w2, w3, norm)

    def forward(self, x: Tensor, positions: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode slices; ``positions`` as in `S2aNet.encode`."""
        e1, x = self.level1.with_pooled(x, positions)
        e2, x = self.level2.with_pooled(x, positions)
        if self.scales:
            e2 = self.scale_aware(e2, positions)
            x = F.max_pool2d(e2, 2)
        e3, x = self.level3.with_pooled(x, positions)
        return e1, e2, e3, x


class _AsItIs(nn.Module):
    """Stands where the scale-aware module might."""

    def forward(self, x: Tensor, positions: int = 1) -> Tensor:
        return x


def _positions(slices: Tensor, number: int) -> list[Tensor]:
    """The slices of each position in turn; unlike `chunk`, also where `torch.export` leaves their number open."""
    if number == 1:
        return [slices]
    return list(slices.unflatten(0, [number, -1]).unbind(0))


def _check(num_slices: int, skip: str, slice_order: str, poolings: int, scale_aware: str) -> None:
    if num_slices < 1 or num_slices % 2 == 0:
        raise ValueError(f"num_slices {num_slices}: give an odd number, the labelled slice in the middle.")
    choices = (
        ("skip", skip, ("all", "centre")),
        ("slice_order", slice_order, ("ascending", "centre_first")),
        ("poolings", poolings, (3, 4)),
        ("scale_aware", scale_aware, SCALE_AWARE_PLACES),
    )
    for option, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{option} {value!r}: choose one of {', '.join(map(str, allowed))}.")


def _scaled(width: int, feature_scale: float) -> int:
    return int(width / feature_scale) if feature_scale > 0 else 0


def _initialise(module: nn.Module) -> None:
    """Kaiming normal by fan-in (of a transposed convolution as PyTorch counts it); norms around 1; biases stay."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
