# SPDX-License-Identifier: Apache-2.0
"""Flips at test time: which passes are averaged, and that probabilities come out, whatever the window."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.inferers import FlipTTAInferer

ALL_FLIPS = list(chain.from_iterable(combinations((2, 3, 4), size) for size in range(4)))
WINDOW = (8, 8, 8)


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def network(kernel: int, symmetric: bool = False) -> nn.Module:
    """A convolution to 3 classes; flips change its result unless its kernel is symmetric."""
    torch.manual_seed(0)
    convolution = nn.Conv3d(2, 3, kernel, padding=kernel // 2)
    if symmetric:
        weight = convolution.weight.data
        convolution.weight.data = sum(weight.flip(axes) if axes else weight for axes in ALL_FLIPS)
    return convolution.eval().requires_grad_(False)


def sliding(**options: Any) -> SlidingWindowInferer:
    return SlidingWindowInferer(WINDOW, overlap=0.5, mode="gaussian", **options)


def test_one_pass_of_a_whole_volume_is_softmax() -> None:
    x, net = image(2, 2, 4, 5, 6), network(3)
    torch.testing.assert_close(FlipTTAInferer(SimpleInferer(), tta=False)(x, net), net(x).softmax(1))


@pytest.mark.parametrize(
    ("flips", "axes"),
    [("all", ALL_FLIPS), ([[], [0], [0, 2]], [(), (2,), (2, 4)]), ([[1]], [(3,)])],
)
def test_flips_give_the_mean_of_the_probabilities(flips: Any, axes: list[tuple[int, ...]]) -> None:
    x, net = image(1, 2, 6, 7, 8), network(3)
    passes = [net(x.flip(flip)).softmax(1).flip(flip) for flip in axes]
    result = FlipTTAInferer(SimpleInferer(), flips=flips)(x, net)
    torch.testing.assert_close(result, torch.stack(passes).mean(0))
    assert (result - FlipTTAInferer(SimpleInferer(), tta=False)(x, net)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(16, 16, 16), (11, 13, 18)])
@pytest.mark.parametrize(("kernel", "symmetric"), [(1, False), (3, True)])
def test_network_that_flips_do_not_change_gives_the_same_as_one_pass(
    shape: tuple[int, ...], kernel: int, symmetric: bool
) -> None:
    x, net = image(1, 2, *shape), network(kernel, symmetric)
    once, all_flips = (FlipTTAInferer(sliding(), tta=tta)(x, net) for tta in (False, True))
    torch.testing.assert_close(all_flips, once, rtol=0, atol=1e-6)


def test_windows_blend_probabilities_not_logits() -> None:
    x = image(1, 2, 12, 8, 8)
    factor = iter((1.0, 30.0))  # the second window is far more confident than the first

    def confident(windows: Tensor) -> Tensor:
        return torch.cat([windows[:1], -windows[:1]], dim=1)[:, ::3] * next(factor)

    result = FlipTTAInferer(SlidingWindowInferer(WINDOW, overlap=0.5), tta=False)(x, confident)
    common = torch.stack([x[:, 0, 4:8], -x[:, 1, 4:8]], dim=1)
    expected = (common.softmax(1) + (30.0 * common).softmax(1)) / 2
    torch.testing.assert_close(result[:, :, 4:8], expected)


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 6, 7), (4, 20, 9)])
@pytest.mark.parametrize("windows_a_batch", [1, 3])
def test_probabilities_sum_to_one_on_any_volume(shape: tuple[int, ...], windows_a_batch: int) -> None:
    x = image(2, 2, *shape)
    result = FlipTTAInferer(sliding(sw_batch_size=windows_a_batch), tta=True)(x, network(3))
    assert result.shape == (2, 3, *shape)
    torch.testing.assert_close(result.sum(1), torch.ones(2, *shape))
    assert result.min() >= 0


def test_low_precision_is_averaged_in_float32_and_metadata_are_kept() -> None:
    x = MetaTensor(image(1, 2, 9, 9, 9).bfloat16(), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    net = network(3).bfloat16()
    result = FlipTTAInferer(sliding())(x, lambda windows: net(windows.bfloat16()))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(1).as_tensor(), torch.ones(1, 9, 9, 9))
    assert torch.equal(result.affine, x.affine)


def test_all_flips_of_a_plane_are_four() -> None:
    calls: list[Tensor] = []

    def count(windows: Tensor) -> Tensor:
        calls.append(windows)
        return windows

    FlipTTAInferer(SimpleInferer())(image(1, 2, 5, 6), count)
    assert len(calls) == 4


@pytest.mark.parametrize("flips", ["some", [], [0, 1]])
def test_unreadable_flips_are_refused(flips: Any) -> None:
    with pytest.raises(InputError, match="flips is"):
        FlipTTAInferer(SimpleInferer(), flips=flips)


def test_axis_that_the_image_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"axis 3.*\[0, 1, 2\]"):
        FlipTTAInferer(SimpleInferer(), flips=[[], [3]])(image(1, 2, 4, 4, 4), network(1))
