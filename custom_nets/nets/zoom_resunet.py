# SPDX-License-Identifier: Apache-2.0
"""ZoomResUNet: the 3D-ResU-Net that zoom-in&out training was published with.

Paper: Tomita, Jiang, Maeder, Hassanpour, "Automatic Post-Stroke Lesion Segmentation on MR Images using 3D Residual
Convolutional Neural Network", NeuroImage: Clinical 2020, 102276, doi 10.1016/j.nicl.2020.102276, arXiv 1911.11209. The
defaults are the published configuration, number for number: 18,438,561 parameters, names as published.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from custom_nets.blocks.pointwise import TransposedPointwise
from custom_nets.blocks.residual3d import JoiningBlock, Res3dBlock, UpsamplingUnit


class ZoomResUNet(nn.Module):
    """Residual 3D U-Net of four levels with pre-activation blocks and group norm.

    The group norms take their statistics over the whole input, so the same voxel is judged differently in crops of
    different sizes: that is what zoom-out, training on larger crops at the end, adapts to.

    Args:
        in_channels: number of MR sequences; 1 in the paper, T1.
        out_channels: number of logits; 1 in the paper, lesion or not by a sigmoid.
        use_bias: of all convolutions.
        base_width: the four levels have 2, 4, 8 and 16 times as many channels; 16 in the paper.
        num_groups: of every group norm; has to divide 2 * base_width.
        checkpoint_full_resolution: keep no inner tensor of the two full-resolution blocks, the largest by far, and
            compute these again in the backward pass: about a third more time, and less than half of the plain form's
            memory.

    Shape:
        N x in_channels x D x H x W -> logits N x out_channels x D x H x W. Any size of at least 8 voxels an axis;
        multiples of 8 avoid the interpolation of an upsampled map to its skip's size. `torch.export` and ONNX leave
        sizes of 16 voxels and more open.

    Raises:
        ValueError: for an option that makes no network; when called, for a volume smaller than 8 voxels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        use_bias: bool = True,
        base_width: int = 16,
        num_groups: int = 8,
        checkpoint_full_resolution: bool = False,
    ) -> None:
        super().__init__()
        w1, w2, w3, w4 = (base_width * 2**level for level in (1, 2, 3, 4))
        if min(in_channels, out_channels, base_width, num_groups) < 1 or w1 % num_groups:
            raise ValueError(
                f"in_channels {in_channels}, out_channels {out_channels}, base_width {base_width}, num_groups "
                f"{num_groups}: give whole numbers of at least 1, num_groups a divisor of 2 * base_width = {w1}."
            )
        if in_channels > w1:
            raise ValueError(
                f"in_channels {in_channels}: more than the first level has, {w1}; take a larger base_width."
            )
        self.checkpoint_full_resolution = checkpoint_full_resolution
        self.ec0 = Res3dBlock(in_channels, w1, num_groups, use_bias)
        self.ec1 = Res3dBlock(w1, w2, num_groups, use_bias)
        self.ec1_2 = Res3dBlock(w2, w2, num_groups, use_bias)
        self.ec2 = Res3dBlock(w2, w3, num_groups, use_bias)
        self.ec2_2 = Res3dBlock(w3, w3, num_groups, use_bias)
        self.ec3 = Res3dBlock(w3, w4, num_groups, use_bias)
        self.ec3_2 = Res3dBlock(w4, w4, num_groups, use_bias)
        self.dc3 = Res3dBlock(w4, w4, num_groups, use_bias)
        self.dc3_2 = Res3dBlock(w4, w4, num_groups, use_bias)
        self.up3 = UpsamplingUnit(w4, w3, num_groups, use_bias)
        self.dc2 = JoiningBlock(w3, num_groups, use_bias)
        self.dc2_2 = Res3dBlock(w3, w3, num_groups, use_bias)
        self.up2 = UpsamplingUnit(w3, w2, num_groups, use_bias)
        self.dc1 = JoiningBlock(w2, num_groups, use_bias)
        self.dc1_2 = Res3dBlock(w2, w2, num_groups, use_bias)
        self.up1 = UpsamplingUnit(w2, w1, num_groups, use_bias)
        self.dc0a = JoiningBlock(w1, num_groups, use_bias)
        self.dc0b = nn.Sequential(TransposedPointwise(w1, out_channels, use_bias))
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of ``image``; see the class for shapes."""
        if not torch.jit.is_tracing() and min(image.shape[2:]) < 8:
            raise ValueError(f"a volume of {list(image.shape[2:])} voxels: give at least 8 voxels an axis.")
        e0 = self._first(image)
        e1 = self.ec1_2(self.ec1(F.max_pool3d(e0, 2)))
        e2 = self.ec2_2(self.ec2(F.max_pool3d(e1, 2)))
        x = self.ec3_2(self.ec3(F.max_pool3d(e2, 2)))
        x = self.dc3_2(self.dc3(x))
        x = self.dc2_2(self.dc2(fit(self.up3(x), e2), e2))
        x = self.dc1_2(self.dc1(fit(self.up2(x), e1), e1))
        return self._last(x, e0)

    def _first(self, image: Tensor) -> Tensor:
        """The encoder's block at full resolution."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
            if self.checkpoint_full_resolution and torch.is_grad_enabled():
                return _recomputed(self.ec0, image)
        return self.ec0(image)

    def _last(self, x: Tensor, e0: Tensor) -> Tensor:
        """The decoder's part at full resolution."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.checkpoint_full_resolution and torch.is_grad_enabled():
                return _recomputed(self._classify, _recomputed(self.up1, x), e0)
        return self._classify(self.up1(x), e0)

    def _classify(self, upsampled: Tensor, e0: Tensor) -> Tensor:
        return self.dc0b(self.dc0a(fit(upsampled, e0), e0))


def _recomputed(part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)


def fit(x: Tensor, skip: Tensor) -> Tensor:
    """Resize D, H, W of ``x`` to those of ``skip``, trilinearly (align_corners False); odd sizes need it."""
    if torch.jit.is_tracing() or _exporting() or x.shape[2:] != skip.shape[2:]:
        return F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
    return x


def _exporting() -> bool:
    """Whether `torch.export` is at work: sizes that it leaves open may be odd, and an equal size changes nothing."""
    if torch.jit.is_scripting():
        return False
    return torch.compiler.is_exporting()


def _initialise(module: nn.Module) -> None:
    """Kaiming normal, fan-out, gain √2; the fan-out of a transposed convolution counts its input channels."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
