# SPDX-License-Identifier: Apache-2.0
"""RSANet: a 3D U-Net with recurrent slice-wise attention.

Paper: Zhang et al., "RSANet: Recurrent Slice-wise Attention Network for Multiple Sclerosis Lesion Segmentation",
MICCAI 2019, doi 10.1007/978-3-030-32248-9_46, arXiv 2002.12470. The defaults are the published code's network, number
for number: 24,554,339 parameters, 23,766,368 without attention (the paper's 3D U-Net, "NCL-000").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom_nets.blocks.convolution import convolution, convolution_block, downsampling
from custom_nets.blocks.decoder import DecoderLevel
from custom_nets.blocks.head import LinearHead
from custom_nets.blocks.non_local import NonLocalBlock
from custom_nets.blocks.slice_attention import RSABlock


class RSANet(nn.Module):
    """3D U-Net of five levels with recurrent slice-wise attention at the bottleneck.

    Args:
        in_channels: number of MR sequences.
        out_channels: number of classes, background included.
        filters: channels of the five levels.
        norm: "GN_k" group norm with k groups, "GN" (2 groups), "BN", "IN" or "LN".
        conv_block: "vgg" (two convolutions), "resV1" or "resV2".
        down: "conv", "maxpool", "resV1" or "resV2".
        up: "nearest", "trilinear" or "transposed".
        dropout: share of the stem's channels that are dropped in train mode.
        block: "rsa", "non-local" or "none".
        attention_at: one digit a place, 1 = the block is there: encoder level 4 output, bottleneck, decoder level 4
            output. The paper names its variants by three such digits; that they mean these places is our reading, the
            published code has the bottleneck's block only.
        directions: order of the slice-wise attention, out of "coronal" (dim 3), "sagittal" (dim 4), "axial" (dim 2).
        scaled_attention: scores over √K, see `RSABlock`; not as published.
        recompute_attention: recompute each direction in the backward pass to save memory.

    Shape:
        N x in_channels x D x H x W -> logits N x out_channels x D x H x W. Any size of at least 1 voxel (norm "IN", or
        as many groups as channels: more than 16 along one axis); multiples of 16 avoid the cut of an odd level's first
        voxel (`fit_low_end`). `torch.export` and ONNX fix the size, or leave open multiples of 16 from 32 on; for any
        size trace or script.

    Raises:
        ValueError: for an unknown or unfit option, naming what would fit.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 2,
        filters: Sequence[int] = (32, 64, 128, 256, 512),
        norm: str = "GN_8",
        conv_block: str = "vgg",
        down: str = "conv",
        up: str = "nearest",
        dropout: float = 0.2,
        block: str = "rsa",
        attention_at: str = "010",
        directions: Sequence[str] = ("coronal", "sagittal", "axial"),
        scaled_attention: bool = False,
        recompute_attention: bool = False,
    ) -> None:
        super().__init__()
        if len(filters) != 5:
            raise ValueError(f"filters {list(filters)}: give the channels of the five levels.")
        if len(attention_at) != 3 or not set(attention_at) <= {"0", "1"}:
            raise ValueError(f"attention_at '{attention_at}': give three digits 0 or 1, as '010'.")
        f1, f2, f3, f4, f5 = filters

        def attention(place: int, channels: int) -> nn.Module:
            if block not in ("rsa", "non-local", "none"):
                raise ValueError(f"block '{block}' is unknown: choose 'rsa', 'non-local' or 'none'.")
            if attention_at[place] == "0" or block == "none":
                return nn.Identity()
            if block == "non-local":
                return NonLocalBlock(channels)
            return RSABlock(channels, tuple(directions), scaled_attention, recompute_attention)

        self.stem = nn.Sequential(convolution(in_channels, f1), nn.Dropout3d(dropout))
        self.encoder1 = convolution_block(conv_block, f1, f1, norm)
        self.down1 = downsampling(down, f1, norm)
        self.encoder2 = convolution_block(conv_block, f1, f2, norm)
        self.down2 = downsampling(down, f2, norm)
        self.encoder3 = convolution_block(conv_block, f2, f3, norm)
        self.down3 = downsampling(down, f3, norm)
        self.encoder4 = convolution_block(conv_block, f3, f4, norm)
        self.attention_encoder4 = attention(0, f4)
        self.down4 = downsampling(down, f4, norm)
        self.bottleneck = convolution_block(conv_block, f4, f5, norm)
        self.attention = attention(1, f5)
        self.decoder4 = DecoderLevel(f5, f4, norm, conv_block, up)
        self.attention_decoder4 = attention(2, f4)
        self.decoder3 = DecoderLevel(f4, f3, norm, conv_block, up)
        self.decoder2 = DecoderLevel(f3, f2, norm, conv_block, up)
        self.decoder1 = DecoderLevel(f2, f1, norm, conv_block, up)
        self.head = LinearHead(f1, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of ``image``; see the class for shapes."""
        skip1 = self.encoder1(self.stem(image))
        skip2 = self.encoder2(self.down1(skip1))
        skip3 = self.encoder3(self.down2(skip2))
        skip4 = self.attention_encoder4(self.encoder4(self.down3(skip3)))
        x = self.attention(self.bottleneck(self.down4(skip4)))
        x = self.attention_decoder4(self.decoder4(x, skip4))
        x = self.decoder3(x, skip3)
        x = self.decoder2(x, skip2)
        x = self.decoder1(x, skip1)
        return self.head(x)

    @torch.jit.unused
    def attention_maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return the attention of every RSA block for ``image``: {"place.direction": N x L x L}, rows sum to 1.

        Row i tells from which slices of the block's input slice i gathers.
        """
        maps: dict[str, Tensor] = {}

        def collect(place: str, block: RSABlock, inputs: tuple[Tensor]) -> None:
            maps.update({f"{place}.{name}": attention for name, attention in block.attention_maps(inputs[0]).items()})

        blocks = [(place, block) for place, block in self.named_children() if isinstance(block, RSABlock)]
        hooks = [
            block.register_forward_pre_hook(lambda module, inputs, place=place: collect(place, module, inputs))
            for place, block in blocks
        ]
        try:
            self(image)
        finally:
            for hook in hooks:
                hook.remove()
        return maps
