# SPDX-License-Identifier: Apache-2.0
"""One decoder level of a U-Net: upsample, fit to the skip, concatenate, convolve."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.convolution import ConvolutionNormActivation, VGGBlock, convolution_block, upsampling


def fit_low_end(x: Tensor, size: list[int]) -> Tensor:
    """Bring D, H, W of ``x`` to ``size`` by cutting voxels off, or adding zeros at, the low-index end of each axis.

    So did RSANet's authors: after a stride-2 convolution of an odd length the upsampled map is one voxel longer, and
    its first voxel goes. A cut at the high end or an interpolation to the skip's size is another function.
    """
    depth, height, width = size[0] - x.shape[2], size[1] - x.shape[3], size[2] - x.shape[4]
    return F.pad(x, [width, 0, height, 0, depth, 0])


def doubled_kernel(weight: Tensor) -> Tensor:
    """Kernel 4 of the transposed convolution (stride 2, padding 1) that equals nearest x2 and then ``weight``.

    A coarse voxel reaches the four fine voxels around it, along each axis through the taps w2, w1 + w2, w0 + w1, w0.

    Args:
        weight: C' x C x 3 x 3 x 3.

    Returns:
        C x C' x 4 x 4 x 4.
    """
    for axis in (2, 3, 4):
        first, second, third = weight.unbind(axis)
        weight = torch.stack([third, second + third, first + second, first], dim=axis)
    return weight.transpose(0, 1)


#: From this number of coarse voxels on, 8 in place of 27 taps pay for the making of the kernel (measured on a CPU).
_VOXELS_THAT_PAY = 512


class DecoderLevel(nn.Module):
    """Upsample x2, fit to the skip at the low end, concatenate (skip first), convolution block.

    In eval mode without gradients, with nearest upsampling, the "vgg" block and even sizes, the first convolution
    takes the skip and the coarse map apart: nothing is concatenated, and the coarse half, as a transposed
    convolution, costs 8 taps a voxel in place of 27. The same function.

    Args:
        in_channels: channels of the coarse map.
        out_channels: channels of the skip and of the output.
        norm: see `custom_nets.blocks.convolution.normalisation`.
        conv_block: "vgg", "resV1" or "resV2".
        up: "nearest", "trilinear" or "transposed".

    Shape:
        coarse N x C x d x h x w, skip N x C' x D x H x W -> N x C' x D x H x W.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, conv_block: str = "vgg", up: str = "nearest"):
        super().__init__()
        self.up = upsampling(up, in_channels, out_channels)
        self.block = convolution_block(conv_block, 2 * out_channels, out_channels, norm)
        self.splittable = up == "nearest" and isinstance(self.block, VGGBlock)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the coarse map ``x`` and the ``skip``; see the class."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if self._split_pays(x, skip):
                return self._forward_split(x, skip)
        x = self.up(x)
        if torch.jit.is_tracing() or x.shape[2:] != skip.shape[2:]:
            x = fit_low_end(x, list(skip.shape[2:]))
        return self.block(torch.cat([skip, x], dim=1))

    def _split_pays(self, x: Tensor, skip: Tensor) -> bool:
        if not self.splittable or self.training or torch.is_grad_enabled() or torch.jit.is_tracing():
            return False
        even = all(fine == 2 * coarse for fine, coarse in zip(skip.shape[2:], x.shape[2:], strict=True))
        return even and x[0, 0].numel() >= _VOXELS_THAT_PAY

    def _forward_split(self, x: Tensor, skip: Tensor) -> Tensor:
        assert isinstance(self.block, VGGBlock) and isinstance(self.up, nn.Sequential)
        first, *others = self.block
        assert isinstance(first, ConvolutionNormActivation)
        weight_skip, weight_up = first.conv.weight.chunk(2, dim=1)
        x = F.conv_transpose3d(self.up[0](x), doubled_kernel(weight_up), stride=2, padding=1)
        x = first.activation(first.norm(F.conv3d(skip, weight_skip, padding=1) + x))
        for unit in others:
            x = unit(x)
        return x
