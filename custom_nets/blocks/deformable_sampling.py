# SPDX-License-Identifier: Apache-2.0
"""Deformable 3x3x3 convolution: each of the 27 taps reads the volume where an offset of its own moves it.

Tap n = 9a + 3b + c stands at (a - 1, b - 1, c - 1) around the output voxel; the offset's channels n, 27 + n and 54 + n
move it along D, H and W, in voxels of the input. On an axis of length L a position u reads, between 0 and L - 1, linear
interpolation; above L - 1 and below L the last voxel; elsewhere zero. So reads `torch.nn.functional.grid_sample` with
``padding_mode="border"`` and aligned corners, times 1 where 0 <= u < L on all axes and 0 elsewhere.

The 27 samples of all voxels would take 27 times the memory of the volume, and coordinates, weights and gradients as
much again. Here some planes of output voxels are worked on at a time, and what they sampled is sampled again for the
gradient, so that of one convolution its input, its offsets and its output alone are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.chunk_threads import in_threads
from custom_nets.blocks.frugal import is_frugal
from custom_nets.blocks.modes import captured
from custom_nets.blocks.pointwise import at_outputs

#: A piece of the output: a slice of one sample, and a slice of planes.
_Piece = tuple[slice, slice]
_Result = TypeVar("_Result")

#: Output voxels of a piece. On a CPU the samples are to stay in its caches; each piece's gradient of the volume is as
#: large as the volume, so that there the pieces are larger.
_VOXELS, _VOXELS_OF_GRADIENT, _VOXELS_OFF_CPU = 4096, 8192, 262144
#: As PyTorch's operators number "bilinear" and "border".
_LINEAR, _BORDER = 0, 1


def deformable_convolution(
    x: Tensor, offsets: Tensor, weight: Tensor, modulation: Tensor | None = None, stride: int = 1
) -> Tensor:
    """Convolve ``x`` with a kernel whose taps are moved.

    Args:
        x: N x C x D x H x W.
        offsets: N x 81 x D x H x W, in voxels; with a stride those of every stride-th voxel count.
        weight: C' x C x 3 x 3 x 3.
        modulation: N x 1 x D x H x W, multiplied onto the offsets (not onto what is read); None for 1.
        stride: 1 or more, along all axes.

    Returns:
        N x C' x ceil(D / stride) x ceil(H / stride) x ceil(W / stride), in x's precision; positions are computed in
        at least single precision whatever it is.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what stands under this very condition
        if not captured():
            return _DeformableConvolution.apply(x, offsets, weight, modulation, stride)
    samples = deformable_samples(x, offsets if modulation is None else offsets * modulation, stride)
    kernel = weight.flatten(1)[:, :, None, None, None]
    return F.conv3d(samples.flatten(1, 2).to(kernel.dtype), kernel).to(x.dtype)


def deformable_samples(x: Tensor, offsets: Tensor, stride: int = 1) -> Tensor:
    """What each tap reads, N x C x 27 x D' x H' x W'; arguments as of `deformable_convolution`."""
    moved = at_outputs(offsets, stride).unflatten(1, [3, offsets.shape[1] // 3])
    places = _places(moved, 0, stride)
    grid, inside = _grid(places, list(x.shape[2:]))
    read = F.grid_sample(
        x.to(grid.dtype), grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=True
    )
    return (read.unflatten(2, [moved.shape[2], moved.shape[3]]) * inside[:, None]).to(x.dtype)


def _places(moved: Tensor, first: int, stride: int) -> list[Tensor]:
    """Positions along D, H and W, each N x 27 x planes x H' x W', of output planes from ``first`` on."""
    dtype = torch.promote_types(moved.dtype, torch.float32)
    places = []
    for axis in range(3):
        length = moved.shape[3 + axis]
        start = first if axis == 0 else 0
        base = torch.arange(start, start + length, dtype=dtype, device=moved.device) * stride
        kernel, place = [1, 1, 1], [1, 1, 1, 1]
        kernel[axis], place[1 + axis] = 3, length
        taps = torch.arange(-1, 2, dtype=dtype, device=moved.device).view(kernel).expand(3, 3, 3)
        place[0] = 27
        places.append(moved[:, axis] + (taps.reshape(27, 1) + base).view(place))
    return places


def _grid(places: list[Tensor], size: list[int]) -> tuple[Tensor, Tensor]:
    """What grid_sample wants, N x 27 x planes x H' x W' x 3, last axis first; and where a place is in the volume."""
    inside = torch.ones_like(places[0], dtype=torch.bool)
    scaled = []
    for axis in (2, 1, 0):
        inside = inside & (places[axis] >= 0) & (places[axis] < size[axis])
        scaled.append(places[axis] * (2.0 / max(size[axis] - 1, 1)) - 1.0)
    return torch.stack(scaled, dim=-1), inside


@dataclass(frozen=True)
class _Inputs:
    """A convolution's inputs in the precision of its arithmetic; offsets and modulation at the outputs' places."""

    volume: Tensor
    kernel: Tensor
    offsets: Tensor
    modulation: Tensor | None
    stride: int

    @classmethod
    def of(cls, x: Tensor, offsets: Tensor, weight: Tensor, modulation: Tensor | None, stride: int) -> _Inputs:
        """Prepare the arguments of `deformable_convolution`."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        offsets = at_outputs(offsets, stride).to(dtype)
        modulation = None if modulation is None else at_outputs(modulation, stride).to(dtype)
        return cls(x.to(dtype), weight.flatten(1).to(dtype), offsets, modulation, stride)

    def grid(self, piece: _Piece) -> tuple[Tensor, Tensor]:
        """Where the piece's taps read, for grid_sample, and 1 where this is in the volume, else 0."""
        sample, planes = piece
        moved = self.offsets[sample, :, planes]
        if self.modulation is not None:
            moved = moved * self.modulation[sample, :, planes]
        places = _places(moved.unflatten(1, [3, -1]), planes.start, self.stride)
        grid, inside = _grid(places, list(self.volume.shape[2:]))
        return grid.flatten(1, 2), inside.flatten(1, 2)[:, None]

    def over_pieces(self, work: Callable[[Sequence[_Piece]], _Result], voxels: int) -> list[_Result]:
        """Call ``work`` for all pieces, of about so many output voxels; on a CPU in several threads."""
        on_cpu = self.volume.device.type == "cpu"
        planes, plane = self.offsets.shape[2], self.offsets[0, 0, 0].numel()
        step = min(max((voxels if on_cpu else _VOXELS_OFF_CPU) // plane, 1), planes)
        pieces = [
            (slice(sample, sample + 1), slice(first, min(first + step, planes)))
            for sample in range(len(self.volume))
            for first in range(0, planes, step)
        ]
        with torch.autocast(self.volume.device.type, enabled=False):
            return in_threads(work, pieces) if on_cpu else [work(pieces)]


class _DeformableConvolution(Function):
    """`deformable_convolution`, a piece of the output at a time, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Tensor, weight: Tensor, modulation: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, offsets, weight, modulation)
        ctx.stride = stride
        inputs = _Inputs.of(x, offsets, weight, modulation, stride)
        # laid out as the layers behind it want it
        layout = torch.channels_last_3d if is_frugal(x, weight) else torch.contiguous_format
        shape = (len(x), len(weight), *inputs.offsets.shape[2:])
        result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)

        def work(pieces: Sequence[_Piece]) -> None:
            for piece in pieces:
                grid, inside = inputs.grid(piece)
                read = _read(inputs.volume[piece[0]], grid).mul_(inside)
                part, samples = result[piece[0], :, piece[1]], read.view(inputs.kernel.shape[1], -1)
                if part.stride(1) == 1:
                    torch.mm(inputs.kernel, samples, out=part[0].permute(1, 2, 3, 0).flatten(0, 2).t())
                else:
                    part.copy_(torch.mm(inputs.kernel, samples).view(part.shape))

        inputs.over_pieces(work, _VOXELS)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, offsets, weight, modulation = ctx.saved_tensors
        inputs = _Inputs.of(x, offsets, weight, modulation, ctx.stride)
        by_offsets = torch.zeros_like(offsets)
        by_modulation = None if modulation is None else torch.zeros_like(modulation)

        def work(pieces: Sequence[_Piece]) -> tuple[Tensor, Tensor]:
            by_volume, by_kernel = torch.zeros_like(inputs.volume), torch.zeros_like(inputs.kernel)
            for piece in pieces:
                sample, planes = piece
                grid, inside = inputs.grid(piece)
                read = _read(inputs.volume[sample], grid).mul_(inside)
                by_part = grad[sample, :, planes].to(read.dtype).reshape(len(by_kernel), -1)
                by_kernel.addmm_(by_part, read.view(by_kernel.shape[1], -1).t())
                by_read = torch.mm(inputs.kernel.t(), by_part).view(read.shape).mul_(inside)
                by_sample, by_grid = _read_backward(by_read, inputs.volume[sample], grid)
                by_volume[sample] += by_sample
                _add_offsets(by_grid, inputs, piece, by_offsets, by_modulation, ctx.stride)
            return by_volume, by_kernel

        volumes, kernels = zip(*inputs.over_pieces(work, _VOXELS_OF_GRADIENT), strict=True)
        by_volume, by_kernel = sum(volumes[1:], start=volumes[0]), sum(kernels[1:], start=kernels[0])
        return by_volume.to(x.dtype), by_offsets, by_kernel.view(weight.shape).to(weight.dtype), by_modulation, None


def _read(volume: Tensor, grid: Tensor) -> Tensor:
    return torch.ops.aten.grid_sampler_3d(volume, grid, _LINEAR, _BORDER, True)


def _read_backward(by_read: Tensor, volume: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    both = (True, True)
    return torch.ops.aten.grid_sampler_3d_backward(by_read, volume, grid, _LINEAR, _BORDER, True, both)


def _add_offsets(
    by_grid: Tensor, inputs: _Inputs, piece: _Piece, by_offsets: Tensor, by_modulation: Tensor | None, stride: int
) -> None:
    """Write a piece of the offsets' and the modulation's gradients."""
    sample, planes = piece
    moved = inputs.offsets[sample, :, planes]
    steps = [2.0 / max(length - 1, 1) for length in inputs.volume.shape[2:]]
    by_moved = torch.stack([by_grid[..., 2 - axis] * steps[axis] for axis in range(3)], dim=1).view(moved.shape)
    if inputs.modulation is not None and by_modulation is not None:
        at_outputs(by_modulation, stride)[sample, :, planes] = (by_moved * moved).sum(dim=1, keepdim=True)
        by_moved = by_moved.mul_(inputs.modulation[sample, :, planes])
    at_outputs(by_offsets, stride)[sample, :, planes] = by_moved
