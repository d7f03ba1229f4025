# SPDX-License-Identifier: Apache-2.0
"""Batch norm and ReLU in a training step on a CPU, of which the norm's input alone is kept.

The batch may hold the slices of several positions of a window, one position after the other: each has statistics of
its own, as if the layer had been called once for each. Maps are worked through in chunks that stay in the processor's
cache, so that a layer makes one large tensor on its way forth and one on its way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from custom_nets.blocks.chunk_threads import in_threads
from custom_nets.blocks.winograd import Chunk, Size


def norm_relu(x: Tensor, norm: nn.BatchNorm2d, positions: int) -> Tensor:
    """ReLU(BatchNorm(x)), the norm in train mode.

    Args:
        x: (positions · B) x C x H x W.
        norm: its running statistics and its number of batches change once for each position, in their order.
        positions: number of positions.
    """
    mean, deviation = moments(x, norm, positions)
    return _NormReLU.apply(x, norm.weight, norm.bias, mean, deviation)


def norm_relu_pool(x: Tensor, norm: nn.BatchNorm2d, positions: int) -> tuple[Tensor, Tensor]:
    """`norm_relu` and its maxima over 2x2 voxels; H and W are even."""
    mean, deviation = moments(x, norm, positions)
    return _NormReLUPool.apply(x, norm.weight, norm.bias, mean, deviation)


def moments(x: Tensor, norm: nn.BatchNorm2d, positions: int) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation of each position and channel, positions x C; moves the running statistics on."""
    momentum, found = norm.momentum, []
    assert momentum is not None and norm.num_batches_tracked is not None
    with torch.no_grad():
        for part in x.detach().chunk(positions):
            if part.numel() == part.shape[1]:
                raise ValueError(f"a batch norm in train mode needs more than one value of a channel: {x.shape}.")
            found.append(torch.batch_norm_update_stats(part, norm.running_mean, norm.running_var, momentum))
            norm.num_batches_tracked.add_(1)
        return torch.stack([mean for mean, _ in found]), torch.stack([(var + norm.eps).rsqrt() for _, var in found])


def for_chunks(size: Size, work: Callable[[slice, slice], None]) -> None:
    """Call ``work`` with the images and rows of each chunk, in several threads."""

    def share(chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            work(chunk.images, slice(chunk.first_row, min(chunk.end_row, size.height)))

    in_threads(share, size.chunks())


def side_by_side(x: Tensor) -> Tensor:
    """N x C x H x W as N x H x W x C, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


class Normed:
    """The norm of a map as a factor and a summand for each image and channel.

    Args:
        x: (positions · B) x H x W x C.
        scale: of the norm, C.
        shift: of the norm, C.
        mean: positions x C.
        deviation: reciprocal, positions x C.
    """

    def __init__(self, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, deviation: Tensor) -> None:
        self.x, self.scale, self.mean, self.deviation = x, scale, mean, deviation
        factor = deviation * scale
        self.factor = self._of_images(factor)
        self.summand = self._of_images(shift - mean * factor)

    @property
    def size(self) -> Size:
        """N, H and W."""
        return Size(*self.x.shape[:3])

    def rectified(self, images: slice, rows: slice, out: Tensor) -> None:
        """Write ReLU(norm) of a chunk."""
        torch.addcmul(self.summand[images], self.x[images, rows], self.factor[images], out=out).clamp_min_(0)

    def _of_images(self, values: Tensor) -> Tensor:
        return values.repeat_interleave(len(self.x) // len(values), dim=0)[:, None, None]


class ChunkSums:
    """Sums over the rows and columns of chunks, taken from several threads and added up in one order."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], Tensor] = {}

    def add(self, images: slice, rows: slice, values: Tensor) -> None:
        """Take the values of a chunk."""
        self._sums[images.start, rows.start] = values.sum((1, 2))

    def of_images(self) -> Tensor:
        """Sums of each image and channel, N x C, in float64."""
        found: dict[int, Tensor] = {}
        for (image, _), sums in sorted(self._sums.items(), key=lambda item: item[0]):
            found[image] = found[image] + sums if image in found else sums.double()
        return torch.cat(list(found.values()))


class NormGradient:
    """The way back through ReLU and norm: takes the gradient by the ReLU's result in chunks, then makes that by x."""

    def __init__(self, normed: Normed) -> None:
        self.normed = normed
        self.gradient = torch.empty_like(normed.x)
        self.sums, self.products = ChunkSums(), ChunkSums()

    def add(self, images: slice, rows: slice, values: Tensor) -> None:
        """Take the gradient by a chunk of the ReLU's result."""
        x = self.normed.x[images, rows]
        result = torch.addcmul(self.normed.summand[images], x, self.normed.factor[images])
        chunk = self.gradient[images, rows]
        torch.ops.aten.threshold_backward.grad_input(values, result, 0, grad_input=chunk)
        self.sums.add(images, rows, chunk)
        self.products.add(images, rows, torch.mul(chunk, x, out=result))

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by the norm's input, N x C x H x W, by its scale and by its shift, once all chunks are there."""
        normed = self.normed
        mean, deviation = normed.mean.double(), normed.deviation.double()
        by_shift = self.sums.of_images().unflatten(0, (len(mean), -1)).sum(1)
        by_scale = (self.products.of_images().unflatten(0, (len(mean), -1)).sum(1) - mean * by_shift) * deviation
        count = normed.x[0, ..., 0].numel() * len(normed.x) // len(mean)
        factor = deviation * normed.scale / -count
        slope = normed._of_images((factor * deviation * by_scale).to(normed.x.dtype))
        level = normed._of_images((factor * (by_shift - mean * deviation * by_scale)).to(normed.x.dtype))

        def turn(images: slice, rows: slice) -> None:
            part = self.gradient[images, rows].mul_(normed.factor[images])
            part.addcmul_(normed.x[images, rows], slope[images]).add_(level[images])

        for_chunks(normed.size, turn)
        dtype = normed.scale.dtype
        return self.gradient.permute(0, 3, 1, 2), by_scale.sum(0).to(dtype), by_shift.sum(0).to(dtype)


class _NormReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, shift, mean, deviation)
        normed = Normed(side_by_side(x), scale, shift, mean, deviation)
        out = torch.empty_like(normed.x)
        for_chunks(normed.size, lambda images, rows: normed.rectified(images, rows, out[images, rows]))
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, *norm = ctx.saved_tensors
        gradient = side_by_side(gradient)
        back = NormGradient(Normed(side_by_side(x), *norm))
        for_chunks(back.normed.size, lambda images, rows: back.add(images, rows, gradient[images, rows]))
        return *back.finish(), None, None


class _NormReLUPool(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, deviation: Tensor
    ) -> tuple[Tensor, Tensor]:
        normed = Normed(side_by_side(x), scale, shift, mean, deviation)
        out = torch.empty_like(normed.x)
        n, height, width, channels = out.shape
        pooled = out.new_empty(n, height // 2, width // 2, channels)

        def pool(images: slice, rows: slice) -> None:
            normed.rectified(images, rows, out[images, rows])
            first, *others = _quarters(out[images, rows])
            most = pooled[images, rows.start // 2 : rows.stop // 2].copy_(first)
            for quarter in others:
                torch.maximum(most, quarter, out=most)

        for_chunks(normed.size, pool)
        out, pooled = out.permute(0, 3, 1, 2), pooled.permute(0, 3, 1, 2)
        ctx.save_for_backward(x, scale, shift, mean, deviation, out, pooled)
        ctx.set_materialize_grads(False)
        return out, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, by_pooled: Tensor | None) -> tuple[Any, ...]:
        x, *norm, out, pooled = ctx.saved_tensors
        out, pooled = side_by_side(out), side_by_side(pooled)
        back = NormGradient(Normed(side_by_side(x), *norm))
        gradient = None if gradient is None else side_by_side(gradient)
        by_pooled = None if by_pooled is None else side_by_side(by_pooled)

        def unpool(images: slice, rows: slice) -> None:
            whole = out[images, rows]
            values = torch.zeros_like(whole) if gradient is None else gradient[images, rows].clone()
            if by_pooled is not None:
                half = slice(rows.start // 2, rows.stop // 2)
                _add_to_first_maxima(values, whole, pooled[images, half], by_pooled[images, half])
            back.add(images, rows, values)

        for_chunks(back.normed.size, unpool)
        return *back.finish(), None, None


def _quarters(x: Tensor) -> list[Tensor]:
    """The four voxels of all 2x2 blocks, in the order in which a maximum is looked for."""
    return [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _add_to_first_maxima(values: Tensor, whole: Tensor, most: Tensor, gradient: Tensor) -> None:
    """Add the gradient of each 2x2 block's maximum to the first voxel that has it."""
    left = gradient.clone()
    for value, voxel in zip(_quarters(values), _quarters(whole), strict=True):
        share = torch.where(voxel == most, left, 0)
        value += share
        left -= share
