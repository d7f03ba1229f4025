# SPDX-License-Identifier: Apache-2.0
"""3x3 convolutions on a CPU with 4 multiplications for each 9, by Winograd's minimal filtering F(2x2, 3x3).

Two neighbouring outputs of a kernel of three taps need four multiplications instead of six: y = Aᵀ[(G w) · (Bᵀ d)], d
the four inputs that they see. In two dimensions, a tile of 2x2 outputs needs 16 instead of 36, and over all tiles these
are 16 matrix products along the channels. The error stays that of a direct convolution in float32 (unlike with larger
tiles). Maps are worked through in chunks of tiles that stay in the processor's cache, so that nothing larger than a
chunk is made besides the result. Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

A dilation r is r² convolutions of the map's phases, every r-th row and column, which fold into the same products.
All maps here are N x H x W x C, contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Writes a chunk of a map, its images and rows, into the tensor given, of that shape; or takes one from there.
ChunkAccess = Callable[[slice, slice, Tensor], None]

#: Tiles of a chunk: of 64 to 1024 channels, 2 to 16 MB. Fewer make slow matrix products, more leave the cache.
_TILES = 256
_G = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
#: Where the kernel's four transformed rows lie, of the kernel as it is and of the reversed one.
_FORWARD, _REVERSED = (0, 1, 2, 3), (3, 1, 2, 0)


def transformed_kernel(weight: Tensor) -> Tensor:
    """Transform a kernel, G w Gᵀ: C' x C x 3 x 3 -> 16 x C' x C."""
    return torch.mm(_kernel_table(weight), weight.reshape(-1, 9).t()).view(16, *weight.shape[:2])


def convolve(read: ChunkAccess, write: ChunkAccess, size: Size, kernel: Tensor, transposed: bool = False) -> None:
    """Convolve a map (kernel 3, stride 1, as much zero padding as keeps its size).

    Args:
        read: gives a chunk of the map, of C channels.
        write: takes a chunk of the result, of C' channels, in which it may write for its own ends.
        size: of the map, and the dilation.
        kernel: 16 x C' x C, from `transformed_kernel`.
        transposed: convolve with the reversed kernel, from C' channels to C: the gradient by the input.
    """
    order = _REVERSED if transposed else _FORWARD
    kernel = kernel if transposed else kernel.transpose(1, 2)
    scratch = _Scratch(size, max(kernel.shape[1:]), kernel)
    for chunk in size.chunks():
        inputs = _spread(_padded(read, size, chunk, kernel.shape[1], scratch), size, chunk, order, scratch)
        products = scratch.products(16, inputs.shape[1], kernel.shape[2])
        torch.bmm(inputs, kernel, out=products)
        values = _gathered(products, size, chunk, order, scratch)
        rows = slice(chunk.first_row, min(chunk.end_row, size.height))
        write(chunk.images, rows, values[:, : rows.stop - rows.start, : size.width])


def kernel_gradient(read: ChunkAccess, read_gradient: ChunkAccess, size: Size, weight: Tensor) -> Tensor:
    """Gradient by the kernel, shaped like ``weight``, of `convolve` of the map, given the gradient by its result."""
    total = weight.new_zeros(16, *weight.shape[:2])
    scratch = _Scratch(size, max(weight.shape[:2]), weight)
    for chunk in size.chunks():
        inputs = _spread(_padded(read, size, chunk, weight.shape[1], scratch), size, chunk, _FORWARD, scratch)
        gradients = _gathered_adjoint(read_gradient, size, chunk, weight.shape[0], scratch)
        torch.baddbmm(total, gradients.transpose(1, 2), inputs, out=total)
    return torch.mm(total.view(16, -1).t(), _kernel_table(weight)).view(weight.shape)


@dataclass(frozen=True)
class Chunk:
    """Some images whole, or some rows of tiles of one image.

    Args:
        images: their range.
        tile_rows: number of rows of tiles.
        first_row: of the map.
        end_row: behind the last one; beyond the map where tiles stand over.
    """

    images: slice
    tile_rows: int
    first_row: int
    end_row: int

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.images.stop - self.images.start)


@dataclass(frozen=True)
class Size:
    """Size of a map, N x H x W, and the dilation that it is convolved with."""

    images: int
    height: int
    width: int
    dilation: int = 1

    @property
    def tile(self) -> int:
        """Rows and columns of a tile with all its phases."""
        return 2 * self.dilation

    @property
    def tile_rows(self) -> int:
        """Rows of tiles, the last of which may stand over."""
        return -(-self.height // self.tile)

    @property
    def tile_columns(self) -> int:
        """Columns of tiles, the last of which may stand over."""
        return -(-self.width // self.tile)

    def chunks(self) -> Iterator[Chunk]:
        """Cut the map up."""
        in_row = self.tile_columns * self.dilation**2
        images, rows = max(1, _TILES // (in_row * self.tile_rows)), max(1, _TILES // in_row)
        for image in range(0, self.images, images):
            part = slice(image, min(image + images, self.images))
            for row in range(0, self.tile_rows, rows):
                end = min(row + rows, self.tile_rows)
                yield Chunk(part, end - row, row * self.tile, end * self.tile)


class _Scratch:
    """The tensors that all chunks of a map share, for a number of channels at most; freed with the call."""

    def __init__(self, size: Size, channels: int, like: Tensor) -> None:
        chunk = next(size.chunks())
        tiles = chunk.count * chunk.tile_rows * size.tile_columns * size.dilation**2
        margin = chunk.count * (chunk.tile_rows + 1) * (size.tile_columns + 1) * size.dilation**2
        self._flat = [like.new_empty(values * channels) for values in (4 * margin, 8 * margin, 16 * tiles, 16 * tiles)]

    def map(self, *shape: int) -> Tensor:
        return self._view(0, shape)

    def half(self, *shape: int) -> Tensor:
        """For what is transformed along one axis."""
        return self._view(1, shape)

    def inputs(self, *shape: int) -> Tensor:
        return self._view(2, shape)

    def products(self, *shape: int) -> Tensor:
        return self._view(3, shape)

    def _view(self, number: int, shape: tuple[int, ...]) -> Tensor:
        return self._flat[number][: torch.Size(shape).numel()].view(shape)


def _padded(read: ChunkAccess, size: Size, chunk: Chunk, channels: int, scratch: _Scratch) -> Tensor:
    """The chunk with a margin of ``dilation`` voxels on every side, zero where it leaves the map."""
    r = size.dilation
    columns = (2 * size.tile_columns + 2) * r
    out = scratch.map(chunk.count, chunk.end_row - chunk.first_row + 2 * r, columns, channels)
    first = chunk.first_row - r
    rows = slice(max(first, 0), min(chunk.end_row + r, size.height))
    inside = slice(rows.start - first, rows.stop - first)
    out[:, : inside.start].zero_()
    out[:, inside.stop :].zero_()
    out[:, :, :r].zero_()
    out[:, :, r + size.width :].zero_()
    read(chunk.images, rows, out[:, inside, r : r + size.width])
    return out


def _spread(padded: Tensor, size: Size, chunk: Chunk, order: tuple[int, ...], scratch: _Scratch) -> Tensor:
    """Bᵀ d B of all tiles: 16 x tiles x C."""
    r, images, channels = size.dilation, chunk.count, padded.shape[3]
    tiles = (images, chunk.tile_rows, r, size.tile_columns, r, channels)
    half = scratch.half(4, images, chunk.tile_rows, r, padded.shape[2], channels)
    _four_of(padded.unflatten(1, (-1, r)), 1, [half[place] for place in order])
    out = scratch.inputs(4, 4, *tiles)
    _four_of(half.unflatten(4, (-1, r)), 4, [out[:, place] for place in order])
    return out.view(16, -1, channels)


def _four_of(x: Tensor, axis: int, out: list[Tensor]) -> None:
    """Bᵀ along an axis: of four inputs from every second one on, d0 - d2, d1 + d2, d2 - d1, d1 - d3."""
    tiles = x.shape[axis] // 2 - 1
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    d0, d1 = even.narrow(axis, 0, tiles), odd.narrow(axis, 0, tiles)
    d2, d3 = even.narrow(axis, 1, tiles), odd.narrow(axis, 1, tiles)
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])


def _gathered(products: Tensor, size: Size, chunk: Chunk, order: tuple[int, ...], scratch: _Scratch) -> Tensor:
    """Aᵀ m A of all tiles: the chunk of the result, with what stands over."""
    r, channels = size.dilation, products.shape[2]
    m = products.view(4, 4, chunk.count, chunk.tile_rows, r, size.tile_columns, r, channels)
    half = scratch.half(2, *m.shape[1:])
    _two_of([m[place] for place in order], [half[0], half[1]])
    out = scratch.map(chunk.count, chunk.tile_rows, 2, r, size.tile_columns, 2, r, channels)
    for row in (0, 1):
        _two_of([half[row, place] for place in order], [out[:, :, row, :, :, column] for column in (0, 1)])
    return out.view(chunk.count, chunk.tile_rows * size.tile, size.tile_columns * size.tile, channels)


def _two_of(m: list[Tensor], out: list[Tensor]) -> None:
    """Aᵀ: m0 + m1 + m2 and m1 - m2 - m3."""
    torch.add(m[0], m[1], out=out[0]).add_(m[2])
    torch.sub(m[1], m[2], out=out[1]).sub_(m[3])


def _gathered_adjoint(read: ChunkAccess, size: Size, chunk: Chunk, channels: int, scratch: _Scratch) -> Tensor:
    """A g Aᵀ of all tiles: 16 x tiles x C'."""
    r = size.dilation
    map_ = scratch.map(chunk.count, chunk.end_row - chunk.first_row, size.tile_columns * size.tile, channels)
    rows = slice(chunk.first_row, min(chunk.end_row, size.height))
    map_[:, rows.stop - rows.start :].zero_()
    map_[:, :, size.width :].zero_()
    read(chunk.images, rows, map_[:, : rows.stop - rows.start, : size.width])
    g = map_.view(chunk.count, chunk.tile_rows, 2, r, size.tile_columns, 2, r, channels)
    half = scratch.half(4, chunk.count, chunk.tile_rows, r, size.tile_columns, 2, r, channels)
    _four_from_two(g[:, :, 0], g[:, :, 1], list(half))
    out = scratch.products(4, 4, chunk.count, chunk.tile_rows, r, size.tile_columns, r, channels)
    _four_from_two(half[:, :, :, :, :, 0], half[:, :, :, :, :, 1], list(out.unbind(1)))
    return out.view(16, -1, channels)


def _four_from_two(g0: Tensor, g1: Tensor, out: list[Tensor]) -> None:
    """A: g0, g0 + g1, g0 - g1 and -g1."""
    out[0].copy_(g0)
    torch.add(g0, g1, out=out[1])
    torch.sub(g0, g1, out=out[2])
    torch.neg(g1, out=out[3])


def _kernel_table(like: Tensor) -> Tensor:
    """G ⊗ G, 16 x 9."""
    table = like.new_tensor(_G)
    return torch.kron(table, table)
