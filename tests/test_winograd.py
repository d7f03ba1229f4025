# SPDX-License-Identifier: Apache-2.0
"""Winograd convolutions, chunk by chunk, are the plain ones; threads change nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks import winograd
from custom_nets.blocks.chunk_threads import in_threads
from custom_nets.blocks.winograd import ChunkAccess, Size, convolve, kernel_gradient, transformed_kernel
from tests.recipe import image


def reading(x: Tensor) -> ChunkAccess:
    return lambda images, rows, out: out.copy_(x[images, rows])


def writing(x: Tensor) -> ChunkAccess:
    return lambda images, rows, values: x[images, rows].copy_(values)


def plain(x: Tensor, weight: Tensor, gradient: Tensor, dilation: int) -> tuple[Tensor, ...]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = F.conv2d(x, weight, padding=dilation, dilation=dilation)
    return out.detach(), *torch.autograd.grad(out, (x, weight), gradient)


def ours(x: Tensor, weight: Tensor, gradient: Tensor, dilation: int) -> tuple[Tensor, ...]:
    n, channels, height, width = x.shape
    size = Size(n, height, width, dilation)
    read, read_gradient = reading(x.permute(0, 2, 3, 1)), reading(gradient.permute(0, 2, 3, 1))
    out, by_x = x.new_empty(n, height, width, len(weight)), x.new_empty(n, height, width, channels)
    convolve(read, writing(out), size, transformed_kernel(weight))
    convolve(read_gradient, writing(by_x), size, transformed_kernel(weight), transposed=True)
    by_weight = kernel_gradient(read, read_gradient, size, weight)
    return out.permute(0, 3, 1, 2), by_x.permute(0, 3, 1, 2), by_weight


def drawn(size: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(
        image(shape, name).to(dtype)
        for name, shape in (("map", (3, 5, *size)), ("weight", (4, 5, 3, 3)), ("gradient", (3, 4, *size)))
    )


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("tiles", [1, 12, 256])
@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 2)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, 3, 8])
def test_result_and_gradients(
    size: tuple[int, int], dilation: int, tiles: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_TILES", tiles)
    arguments = drawn(size)
    for found, expected in zip(ours(*arguments, dilation), plain(*arguments, dilation), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_error_stays_that_of_a_direct_convolution() -> None:
    x, weight = image((1, 256, 16, 16), "map"), image((64, 256, 3, 3), "weight")
    out = torch.empty(1, 16, 16, 64)
    convolve(reading(x.permute(0, 2, 3, 1)), writing(out), Size(1, 16, 16), transformed_kernel(weight))
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    assert (out.permute(0, 3, 1, 2) - exact).abs().max() < 3e-6 * exact.std()


def test_results_are_the_same_at_every_call(threads: int) -> None:
    arguments = drawn((8, 12), torch.float32)
    for first, second in zip(ours(*arguments, 1), ours(*arguments, 1), strict=True):
        assert torch.equal(first, second)


def test_pieces_are_shared_out_among_threads_of_one_core_each(threads: int) -> None:
    def work(pieces: Sequence[int]) -> tuple[list[int], int, bool, str]:
        return list(pieces), torch.get_num_threads(), torch.is_grad_enabled(), threading.current_thread().name

    shares, cores, gradients, names = zip(*in_threads(work, list(range(5))), strict=True)
    assert list(chain(*shares)) == list(range(5))
    assert len(shares) == threads and max(map(len, shares)) - min(map(len, shares)) <= 1
    assert set(cores) == {1} and set(gradients) == {False}
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()
    assert (names[0] == threading.current_thread().name) == (threads == 1)


def test_a_fault_in_a_thread_reaches_the_caller(threads: int) -> None:
    def fail(pieces: Sequence[int]) -> None:
        raise ZeroDivisionError(pieces)

    with pytest.raises(ZeroDivisionError):
        in_threads(fail, [1, 2])


def test_inference_tensors_may_be_written(threads: int) -> None:
    with torch.inference_mode():
        x = torch.zeros(4)
        in_threads(lambda pieces: [x[piece].add_(1) for piece in pieces], range(4))
    assert torch.equal(x, torch.ones(4))
