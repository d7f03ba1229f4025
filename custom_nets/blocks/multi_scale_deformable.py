# SPDX-License-Identifier: Apache-2.0
"""MS-ADC: the three upper encoder levels fused at the middle one, deformed to the tumour's shape, and given back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom_nets.blocks.channel_gates import SqueezeExcitation
from custom_nets.blocks.deformable_convolution import AttentiveDeformableConv3d
from custom_nets.blocks.lean_convolution import channels_last_on_cpu
from custom_nets.blocks.pointwise import doubled_by, mixed_channels, present

#: Numbers of the largest map's planes that are made at a time where it is added to in place: 8 MB.
_SLAB = 2**21


class MultiScaleAttentiveDeformableConv(nn.Module):
    """MS-ADC: v = ADC(SE([down(e0), e1, up(e2)])), of which each level gets what fits it.

    Args:
        filters: channels C0, C1, C2 of the three levels.
        squeeze: of the deformable convolution.

    Shape:
        e0, e1, e2: N x C_i x S_i x S_i x S_i, S_i = S_0 / 2^i -> three maps of these shapes, for the skip connections.
    """

    def __init__(self, filters: Sequence[int], squeeze: int = 12) -> None:
        super().__init__()
        w0, w1, w2 = filters
        self.from0 = nn.Conv3d(w0, w1, kernel_size=3, stride=2, padding=1)
        self.from2 = nn.ConvTranspose3d(w2, w1, kernel_size=2, stride=2)
        self.weigh = SqueezeExcitation(3 * w1)
        self.deform = AttentiveDeformableConv3d(3 * w1, 3 * w1, squeeze)
        self.to0 = nn.ConvTranspose3d(3 * w1, w0, kernel_size=2, stride=2)
        self.to1 = nn.Conv3d(3 * w1, w1, kernel_size=1)
        self.to2 = nn.Conv3d(3 * w1, w2, kernel_size=2, stride=2)

    def forward(self, e0: Tensor, e1: Tensor, e2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the skip connections of the three levels get."""
        from2 = doubled_by(e2, self.from2.weight, present(self.from2.bias))
        v = channels_last_on_cpu(self.deform(self.weigh(torch.cat([self.from0(e0), e1, from2], dim=1))))
        to0 = doubled_by(v, self.to0.weight, present(self.to0.bias))
        return to0, mixed_channels(v, self.to1.weight, self.to1.bias), self.to2(v)

    @torch.jit.unused
    def add_to(self, e0: Tensor, e1: Tensor, e2: Tensor) -> None:
        """Add to each level, in place, what its skip connection gets; on a CPU, without gradients.

        Of what is made on the way no more is held than the next step needs.
        """
        from2 = doubled_by(e2, self.from2.weight, present(self.from2.bias))
        joined = torch.cat([self.from0(e0), e1, from2], dim=1)
        del from2
        squeezed = self.deform.squeezed(joined.mul_(self.weigh.weights(joined)))
        del joined
        v = channels_last_on_cpu(self.deform.convolve(squeezed))
        del squeezed
        e1.add_(mixed_channels(v, self.to1.weight, self.to1.bias))
        e2.add_(self.to2(v))
        planes = max(_SLAB // (8 * e0.shape[1] * v[0, 0, 0].numel()), 1)
        for part, added in zip(v.split(planes, dim=2), e0.split(2 * planes, dim=2), strict=True):
            added.add_(doubled_by(part, self.to0.weight, present(self.to0.bias)))
