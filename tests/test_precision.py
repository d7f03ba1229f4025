# SPDX-License-Identifier: Apache-2.0
"""Mixed precision around an inferer: what the network is given and what comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.precision import MixedPrecisionInferer, amp_dtype_named, amp_pays


class Spy(nn.Module):
    """A convolution that notes what it is given and what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1)
        self.given: list[type] = []
        self.precisions: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        out = self.convolution(x)
        self.given.append(type(x))
        self.precisions.append(out.dtype)
        return out


IMAGE = torch.randn(1, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inferer", [SimpleInferer(), SlidingWindowInferer((4, 4, 4))], ids=["whole", "windows"])
@pytest.mark.parametrize("image", [IMAGE, MetaTensor(IMAGE)], ids=["tensor", "metatensor"])
@pytest.mark.parametrize(
    ("options", "precision"),
    [({}, torch.bfloat16), ({"dtype": "float16"}, torch.float16), ({"enabled": False}, torch.float32)],
    ids=str,
)
def test_the_network_gets_plain_tensors_and_float32_comes_back(
    inferer: SimpleInferer, image: Tensor, options: dict, precision: torch.dtype
) -> None:
    network = Spy()
    result = MixedPrecisionInferer(inferer, **options)(image, network)
    assert set(network.given) == {Tensor}
    assert set(network.precisions) == {precision}
    assert result.dtype == torch.float32
    torch.testing.assert_close(torch.as_tensor(result), network.convolution(IMAGE), atol=0.02, rtol=0.02)
    result.sum().backward()
    assert network.convolution.weight.grad is not None
    assert network.convolution.weight.grad.dtype == torch.float32


def test_arguments_reach_the_network() -> None:
    def scaled(windows: Tensor, factor: float, shift: float = 0.0) -> Tensor:
        return windows * factor + shift

    result = MixedPrecisionInferer(SimpleInferer(), enabled=False)(IMAGE, scaled, 2.0, shift=1.0)
    torch.testing.assert_close(result, 2 * IMAGE + 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_label_maps_come_back_as_they_are(dtype: torch.dtype) -> None:
    labels = (IMAGE > 0).to(dtype)
    found = MixedPrecisionInferer(SimpleInferer())(IMAGE, lambda _windows: labels)
    assert found.dtype == dtype and torch.equal(found, labels)


@pytest.mark.parametrize("enabled", [False, True])
def test_each_of_several_outputs_comes_back_in_float32(enabled: bool) -> None:
    """As of a network with deep supervision in training; a gradient flows back through all."""
    network = Spy()

    def heads(image: Tensor) -> list[Tensor]:
        return [network(image), network(2 * image), (image > 0).to(torch.uint8)]

    found = MixedPrecisionInferer(SimpleInferer(), enabled=enabled)(MetaTensor(IMAGE), heads)
    assert isinstance(found, list)
    assert [one.dtype for one in found] == [torch.float32, torch.float32, torch.uint8]
    assert set(network.precisions) == {torch.bfloat16 if enabled else torch.float32}
    torch.testing.assert_close(found[1], network.convolution(2 * IMAGE), atol=0.03, rtol=0.02)
    (found[0].sum() + found[1].sum()).backward()
    assert network.convolution.weight.grad is not None


class Asking(Inferer):
    """Uses more of a network than its call, as an inferer of slices does."""

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        assert network.convolution.out_channels == 1 and not hasattr(network, "encode")
        assert getattr(network, "encodes_once", None) is None
        return network(inputs)


def test_an_inferer_finds_what_the_network_has_and_no_more() -> None:
    network = Spy()
    result = MixedPrecisionInferer(Asking(), enabled=False)(MetaTensor(IMAGE), network)
    assert network.given == [Tensor]
    torch.testing.assert_close(torch.as_tensor(result), network.convolution(IMAGE))


def test_precisions_are_named() -> None:
    assert amp_dtype_named("bfloat16") is torch.bfloat16
    with pytest.raises(InputError, match=r"amp_dtype is 'half': choose one of \['bfloat16', 'float16'\]"):
        MixedPrecisionInferer(SimpleInferer(), dtype="half")


def test_mixed_precision_pays_on_gpus() -> None:
    assert amp_pays("cuda:1")
    assert amp_pays("cpu") == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert amp_pays("cuda:1", on_cpu=False)
    assert not amp_pays("cpu", on_cpu=False)
