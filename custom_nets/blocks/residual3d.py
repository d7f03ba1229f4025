# SPDX-License-Identifier: Apache-2.0
"""The parts of the 3D-ResU-Net: res3dblock, its form that joins two maps, and the upsampling unit."""

from __future__ import annotations

from torch import Tensor, nn

from custom_nets.blocks.lean_convolution import (
    channels_last_on_cpu,
    convolution_onto,
    norm_relu,
    norm_relu_convolution,
    norm_relu_sum,
    relu_convolution,
)


class Res3dBlock(nn.Module):
    """res3dblock: r = ReLU, conv, norm, ReLU, conv, norm, ReLU; then the identity is added, and nothing follows.

    The identity has no parameters. Where channels grow from C to C', it is added onto the last C of them; where they
    shrink, its last C' channels are added: y_c = r_c + x_(c + C - C').

    Args:
        in_channels: C.
        out_channels: C', a multiple of ``num_groups``.
        num_groups: of the group norms.
        use_bias: of the convolutions.

    Shape:
        N x C x D x H x W -> N x C' x D x H x W.
    """

    def __init__(self, in_channels: int, out_channels: int, num_groups: int = 8, use_bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=use_bias)
        self.gn1 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=use_bias)
        self.gn2 = nn.GroupNorm(num_groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out = channels_last_on_cpu(relu_convolution(x, self.conv1.weight, self.conv1.bias))
        return self.finish(out, x[:, max(x.shape[1] - out.shape[1], 0) :])

    def finish(self, x: Tensor, identity: Tensor) -> Tensor:
        """All that follows the first convolution; ``identity`` has no more channels than the block's output."""
        groups = self.gn1.num_groups
        x = norm_relu_convolution(x, self.gn1.weight, self.gn1.bias, groups, self.conv2.weight, self.conv2.bias)
        return norm_relu_sum(x, self.gn2.weight, self.gn2.bias, groups, identity)


class JoiningBlock(Res3dBlock):
    """The res3dblock of (upsampled, skip), C' channels each, that never holds the two side by side.

    The first convolution takes them apart: conv(cat(u, s)) = conv_u(u) + conv_s(s). Of the 2C' channels of the identity
    the last C' are left, which is the skip itself.

    Args:
        channels: C'.
        num_groups: of the group norms.
        use_bias: of the convolutions.

    Shape:
        upsampled and skip, both N x C' x D x H x W -> N x C' x D x H x W.
    """

    def __init__(self, channels: int, num_groups: int = 8, use_bias: bool = True) -> None:
        super().__init__(2 * channels, channels, num_groups, use_bias)

    def forward(self, upsampled: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        """Join both; ``upsampled`` comes out of a ReLU, so that the block's first one would not change it."""
        weight_upsampled, weight_skip = self.conv1.weight.chunk(2, dim=1)
        # no name for what is between, so that it is freed: a whole volume's map takes a gigabyte
        return self.finish(
            convolution_onto(upsampled, weight_upsampled, relu_convolution(skip, weight_skip, self.conv1.bias)), skip
        )


class UpsamplingUnit(nn.Sequential):
    """Transposed convolution (kernel 2, stride 2), group norm, ReLU: twice the size.

    Shape:
        N x C x D x H x W -> N x C' x 2D x 2H x 2W.
    """

    def __init__(self, in_channels: int, out_channels: int, num_groups: int = 8, use_bias: bool = True) -> None:
        super().__init__(
            nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2, bias=use_bias),
            nn.GroupNorm(num_groups, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit; the norm and the ReLU together."""
        x = self[0](x)
        return norm_relu(x, self[1].weight, self[1].bias, self[1].num_groups)  # type: ignore[arg-type]
