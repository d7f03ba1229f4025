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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from custom_nets.blocks.chunk_threads import in_threads

#: Writes a chunk of a map, its images and rows, into the tensor given, of that shape; or takes one from there.
ChunkAccess = Callable[[slice, slice, Tensor], None]

#: Tiles of a chunk: of 64 to 1024 channels, 2 to 16 MB. Fewer make slow matrix products, more leave the cache.
_TILES, _FEWEST_TILES = 256, 64
_G = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
#: Where the kernel's four transformed rows lie, of the kernel as it is and of the reversed one.
_FORWARD, _REVERSED = (0, 1, 2, 3), (3, 1, 2, 0)


def transformed_kernel(weight: Tensor) -> Tensor:
    """Transform a kernel, G w Gᵀ: C' x C x 3 x 3 -> 16 x C' x C."""
    return torch.mm(_kernel_table(weight), weight.reshape(-1, 9).t()).view(16, *weight.shape[:2])


def convolve(read: ChunkAccess, write: ChunkAccess, size: Size, kernel: Tensor, transposed: bool = False) -> None:
    """Convolve a map (kernel 3, stride 1, as much zero padding as keeps its size), without gradients.

    Args:
        read: gives a chunk of the map, of C channels.
        write: takes a chunk of the result, of C' channels, in which it may write for its own ends.
        size: of the map, and the dilation.
        kernel: 16 x C' x C, from `transformed_kernel`.
        transposed: convolve with the reversed kernel, from C' channels to C: the gradient by the input.
    """
    order = _REVERSED if transposed else _FORWARD
    kernel = kernel if transposed else kernel.transpose(1, 2)

    def work(chunks: Sequence[Chunk]) -> None:
        plans: dict[tuple[int, int], tuple[_InputTiles, _OutputTiles]] = {}
        for chunk in chunks:
            if chunk.shape not in plans:
                inputs = _InputTiles(size, chunk.shape, kernel.shape[1], order, kernel)
                plans[chunk.shape] = inputs, _OutputTiles(size, chunk.shape, kernel.shape[2], order, kernel)
            inputs, outputs = plans[chunk.shape]
            torch.bmm(inputs.transform(read, chunk), kernel, out=outputs.products)
            outputs.transform(write, chunk)

    in_threads(work, size.chunks())


def kernel_gradient(read: ChunkAccess, read_gradient: ChunkAccess, size: Size, weight: Tensor) -> Tensor:
    """Gradient by the kernel, shaped like ``weight``, of `convolve` of the map, given the gradient by its result."""

    def work(chunks: Sequence[Chunk]) -> Tensor:
        total = weight.new_zeros(16, *weight.shape[:2])
        plans: dict[tuple[int, int], tuple[_InputTiles, _GradientTiles]] = {}
        for chunk in chunks:
            if chunk.shape not in plans:
                inputs = _InputTiles(size, chunk.shape, weight.shape[1], _FORWARD, weight)
                plans[chunk.shape] = inputs, _GradientTiles(size, chunk.shape, weight.shape[0], weight)
            inputs, gradients = plans[chunk.shape]
            by_products = gradients.transform(read_gradient, chunk)
            torch.baddbmm(total, by_products.transpose(1, 2), inputs.transform(read, chunk), out=total)
        return total

    first, *others = in_threads(work, size.chunks())
    for total in others:
        first += total
    return torch.mm(first.view(16, -1).t(), _kernel_table(weight)).view(weight.shape)


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
    def shape(self) -> tuple[int, int]:
        """Number of images and of rows of tiles."""
        return self.images.stop - self.images.start, self.tile_rows


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

    def chunks(self) -> list[Chunk]:
        """Cut the map up, so that each of PyTorch's threads gets a few chunks where the map is large enough."""
        tiles, threads = _TILES, torch.get_num_threads()
        chunks = self._chunks(tiles)
        while threads > 1 and len(chunks) < 2 * threads and tiles > _FEWEST_TILES:
            tiles //= 2
            chunks = self._chunks(tiles)
        return chunks

    def _chunks(self, tiles: int) -> list[Chunk]:
        in_row = self.tile_columns * self.dilation**2
        images, rows = max(1, tiles // (in_row * self.tile_rows)), max(1, tiles // in_row)
        chunks = []
        for image in range(0, self.images, images):
            part = slice(image, min(image + images, self.images))
            for row in range(0, self.tile_rows, rows):
                end = min(row + rows, self.tile_rows)
                chunks.append(Chunk(part, end - row, row * self.tile, end * self.tile))
        return chunks


#: An elementwise operation, its operands, its result.
_Step = tuple[Callable[..., Tensor], tuple[Any, ...], Tensor]


def _run(steps: list[_Step]) -> None:
    for operation, operands, out in steps:
        operation(*operands, out=out)


class _InputTiles:
    """Bᵀ d B of all tiles of chunks of one shape: 16 x tiles x C. Tensors and views are made once for all chunks."""

    def __init__(self, size: Size, shape: tuple[int, int], channels: int, order: tuple[int, ...], like: Tensor) -> None:
        (images, tile_rows), r = shape, size.dilation
        columns = (2 * size.tile_columns + 2) * r
        self.size = size
        self.padded = like.new_zeros(images, (2 * tile_rows + 2) * r, columns, channels)
        half = like.new_empty(4, images, tile_rows, r, columns, channels)
        whole = like.new_empty(4, 4, images, tile_rows, r, size.tile_columns, r, channels)
        self.result = whole.view(16, -1, channels)
        self.steps = _four_of(self.padded.unflatten(1, (-1, r)), 1, [half[place] for place in order])
        self.steps += _four_of(half.unflatten(4, (-1, r)), 4, [whole[:, place] for place in order])

    def transform(self, read: ChunkAccess, chunk: Chunk) -> Tensor:
        """Read a chunk with a margin of the dilation on every side, zero where it leaves the map."""
        r = self.size.dilation
        first = chunk.first_row - r
        rows = slice(max(first, 0), min(chunk.end_row + r, self.size.height))
        inside = slice(rows.start - first, rows.stop - first)
        if inside.start > 0:
            self.padded[:, : inside.start].zero_()
        if inside.stop < self.padded.shape[1]:
            self.padded[:, inside.stop :].zero_()
        read(chunk.images, rows, self.padded[:, inside, r : r + self.size.width])
        _run(self.steps)
        return self.result


class _OutputTiles:
    """Aᵀ m A of all tiles' products, 16 x tiles x C'."""

    def __init__(self, size: Size, shape: tuple[int, int], channels: int, order: tuple[int, ...], like: Tensor) -> None:
        (images, tile_rows), r = shape, size.dilation
        self.size = size
        tiles = like.new_empty(4, 4, images, tile_rows, r, size.tile_columns, r, channels)
        half = like.new_empty(2, *tiles.shape[1:])
        whole = like.new_empty(images, tile_rows, 2, r, size.tile_columns, 2, r, channels)
        self.products = tiles.view(16, -1, channels)
        self.map = whole.view(images, tile_rows * size.tile, -1, channels)[:, :, : size.width]
        self.steps = _two_of([tiles[place] for place in order], list(half))
        for row in (0, 1):
            columns = [whole[:, :, row, :, :, column] for column in (0, 1)]
            self.steps += _two_of([half[row, place] for place in order], columns)

    def transform(self, write: ChunkAccess, chunk: Chunk) -> None:
        """Write the chunk of the result, without what stands over."""
        _run(self.steps)
        rows = slice(chunk.first_row, min(chunk.end_row, self.size.height))
        write(chunk.images, rows, self.map[:, : rows.stop - rows.start])


class _GradientTiles:
    """A g Aᵀ of all tiles of the gradient by the result: 16 x tiles x C'."""

    def __init__(self, size: Size, shape: tuple[int, int], channels: int, like: Tensor) -> None:
        (images, tile_rows), r = shape, size.dilation
        self.size = size
        whole = like.new_zeros(images, tile_rows, 2, r, size.tile_columns, 2, r, channels)
        half = like.new_empty(4, images, tile_rows, r, size.tile_columns, 2, r, channels)
        tiles = like.new_empty(4, 4, images, tile_rows, r, size.tile_columns, r, channels)
        self.map = whole.view(images, tile_rows * size.tile, -1, channels)
        self.result = tiles.view(16, -1, channels)
        self.steps = _four_from_two(whole[:, :, 0], whole[:, :, 1], list(half))
        self.steps += _four_from_two(half.select(5, 0), half.select(5, 1), list(tiles.unbind(1)))

    def transform(self, read: ChunkAccess, chunk: Chunk) -> Tensor:
        """Read a chunk, zero where it stands over."""
        rows = slice(chunk.first_row, min(chunk.end_row, self.size.height))
        count = rows.stop - rows.start
        if count < self.map.shape[1]:
            self.map[:, count:].zero_()
        read(chunk.images, rows, self.map[:, :count, : self.size.width])
        _run(self.steps)
        return self.result


def _four_of(x: Tensor, axis: int, out: list[Tensor]) -> list[_Step]:
    """Bᵀ along an axis: of four inputs from every second one on, d0 - d2, d1 + d2, d2 - d1, d1 - d3."""
    tiles = x.shape[axis] // 2 - 1
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    d0, d1 = even.narrow(axis, 0, tiles), odd.narrow(axis, 0, tiles)
    d2, d3 = even.narrow(axis, 1, tiles), odd.narrow(axis, 1, tiles)
    return _into([(torch.sub, (d0, d2)), (torch.add, (d1, d2)), (torch.sub, (d2, d1)), (torch.sub, (d1, d3))], out)


def _two_of(m: list[Tensor], out: list[Tensor]) -> list[_Step]:
    """Aᵀ: m0 + m1 + m2 and m1 - m2 - m3."""
    first, second = out
    return [
        (torch.add, (m[0], m[1]), first),
        (torch.add, (first, m[2]), first),
        (torch.sub, (m[1], m[2]), second),
        (torch.sub, (second, m[3]), second),
    ]


def _four_from_two(g0: Tensor, g1: Tensor, out: list[Tensor]) -> list[_Step]:
    """A: g0, g0 + g1, g0 - g1 and -g1."""
    return _into([(torch.mul, (g0, 1)), (torch.add, (g0, g1)), (torch.sub, (g0, g1)), (torch.neg, (g1,))], out)


def _into(operations: list[tuple[Callable[..., Tensor], tuple[Any, ...]]], out: list[Tensor]) -> list[_Step]:
    return [(operation, operands, result) for (operation, operands), result in zip(operations, out, strict=True)]


def _kernel_table(like: Tensor) -> Tensor:
    """G ⊗ G, 16 x 9."""
    table = like.new_tensor(_G)
    return torch.kron(table, table)
