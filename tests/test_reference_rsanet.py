# SPDX-License-Identifier: Apache-2.0
"""The yardstick itself fulfils the golden numbers: published keys, outputs, inner tensors, gradients, parts."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import golden
from tests.recipe import GOLDENS, arrays, document, filled, image
from tests.reference.rsanet import AXES, ConvBlock, Down, RSABlock, RSANet, SliceAttention, UpConcat

ARRAYS = arrays("rsanet")
SHAPES = document("rsanet")["shapes"]
OFFICIAL = document("rsanet")["official"]
NETWORK_ATOL, BLOCK_ATOL = 1e-4, 5e-5


def assert_golden(value: Tensor, name: str, atol: float) -> None:
    np.testing.assert_allclose(value.numpy(), ARRAYS[name], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def network() -> RSANet:
    return RSANet()


def test_keys_shapes_and_order_are_the_published_ones(network: RSANet) -> None:
    published = json.loads((GOLDENS / "rsanet" / "keys.json").read_text(encoding="utf-8"))
    assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == published
    assert sum(p.numel() for p in network.parameters()) == 24_554_339
    assert sum(p.numel() for p in RSANet(rsa=False).parameters()) == 23_766_368


def test_even_size_and_its_inner_tensors(network: RSANet) -> None:
    with torch.inference_mode():
        *skips, center = filled(network).encode(image(SHAPES["even"]))
        attended = network.attend(center)
        logits = network.decode(skips, attended)
    assert_golden(center, "net_even_center", NETWORK_ATOL)
    assert_golden(attended, "net_even_rsa", NETWORK_ATOL)
    assert_golden(logits, "net_even", NETWORK_ATOL)


@pytest.mark.parametrize(
    ("regime", "shape", "inner", "whole", "strided"),
    [
        ("soft", "even", "net_soft_rsa", None, "net_soft_s2"),
        ("soft", "odd", "net_odd_soft_rsa", "net_odd_soft", None),
        ("hard", "odd", None, None, "net_odd_s2"),
        ("beta0", "odd", None, None, "net_odd_beta0_s2"),
        ("beta0", "odd", None, None, "unet_odd_s2"),
    ],
)
def test_other_regimes_and_sizes(
    network: RSANet, regime: str, shape: str, inner: str | None, whole: str | None, strided: str | None
) -> None:
    with torch.inference_mode():
        *skips, center = filled(network, regime).encode(image(SHAPES[shape]))
        attended = network.attend(center)
        logits = network.decode(skips, attended)
    if inner:
        assert_golden(attended, inner, NETWORK_ATOL)
    if whole:
        assert_golden(logits, whole, NETWORK_ATOL)
    if strided:
        assert_golden(logits[..., ::2, ::2, ::2], strided, NETWORK_ATOL)


@pytest.mark.parametrize(("groups", "name"), [(4, "net_alt_gn4"), (None, "net_alt_bn")])
def test_other_channels_batch_and_norm(groups: int | None, name: str) -> None:
    with torch.inference_mode():
        logits = filled(RSANet(in_channels=1, out_channels=4, groups=groups), "soft")(image(SHAPES["alt"]))
    assert_golden(logits[..., ::2, ::2, ::2], f"{name}_s2", NETWORK_ATOL)
    assert float(logits.norm()) == pytest.approx(OFFICIAL[f"{name}_stats"]["l2"], rel=1e-5)


def test_without_the_block_equals_beta_zero_bit_for_bit(network: RSANet) -> None:
    x = image((1, 3, 7, 9, 11))
    with torch.inference_mode():
        plain = filled(RSANet(rsa=False))(x)
        assert torch.equal(plain, filled(network, "beta0")(x))


@pytest.mark.parametrize("regime", ["hard", "soft", "beta0"])
def test_block(regime: str) -> None:
    with torch.inference_mode():
        stages = filled(RSABlock(16), regime).stages(image(SHAPES["blk"]))
    assert_golden(stages[-1], f"rsa_{regime}", BLOCK_ATOL)
    if regime == "soft":
        for index, (stage, direction) in enumerate(zip(stages, AXES, strict=True), start=1):
            assert_golden(stage, f"rsa_soft_stage{index}_{direction}", BLOCK_ATOL)


def test_attention_matrices_of_the_block() -> None:
    block = filled(RSABlock(16), "soft")
    x = image(SHAPES["blk"])
    with torch.inference_mode():
        for before, attention, name in zip([x, *block.stages(x)], block.attentions, AXES, strict=False):
            theta, phi, _ = block.project(before)
            assert_golden(attention.attention(theta, phi), f"rsa_soft_attn_{name}", BLOCK_ATOL)


@pytest.mark.parametrize("direction", AXES)
def test_bare_slice_attention(direction: str) -> None:
    theta, phi, g = (
        torch.from_numpy((factor * golden.draw(f"sa.{name}", SHAPES["blk"])).astype(np.float32))
        for name, factor in (("theta", 0.2), ("phi", 0.2), ("g", 1.0))
    )
    attention = SliceAttention(AXES[direction])
    assert_golden(attention(theta, phi, g), f"sa_{direction}", BLOCK_ATOL)
    assert_golden(attention.attention(theta, phi), f"sa_{direction}_attn", BLOCK_ATOL)


@pytest.mark.parametrize("index", range(3))
def test_one_direction_alone(index: int) -> None:
    block = filled(RSABlock(16), "soft")
    direction = block.directions[index]
    x = image(SHAPES["blk"])
    with torch.inference_mode():
        out = block.add(x, block.betas[index], block.attentions[index](*block.project(x)))
    assert_golden(out, f"sa_block_{direction}", BLOCK_ATOL)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("part_vgg", lambda: ConvBlock(16, 32, 8)),
        ("part_vgg3", lambda: ConvBlock(16, 32, 8, number=3)),
        ("part_vgg_bn", lambda: ConvBlock(16, 32, None)),
        ("part_down_conv", lambda: Down(16)),
    ],
)
def test_parts(name: str, make: Callable[[], nn.Module]) -> None:
    with torch.inference_mode():
        assert_golden(filled(make())(image(SHAPES["small"])), name, BLOCK_ATOL)


def test_upsampling_and_fitting() -> None:
    skip = image(SHAPES["small"])
    module = filled(UpConcat(32, 16, 8))
    with torch.inference_mode():
        assert_golden(module(skip, image((1, 32, 3, 3, 4), "right")), "part_up_nearest", BLOCK_ATOL)
        for name, shift in (("padcat_crop", 1), ("padcat_pad", -1)):
            right = image((1, 4, 5 + shift, 6 + shift, 8 + shift), "right")
            assert_golden(module.concatenate(skip[:, :2], right), name, 0.0)


@pytest.mark.parametrize(
    ("name", "make", "shape", "regime"),
    [
        ("grad_rsa_soft", lambda: RSABlock(16), "blk", "soft"),
        ("grad_net_odd_soft", RSANet, "odd", "soft"),
        ("grad_net_odd", RSANet, "odd", "hard"),
    ],
)
def test_gradients_in_float64(name: str, make: Callable[[], nn.Module], shape: str, regime: str) -> None:
    module = filled(make(), regime).double()
    x = image(SHAPES[shape]).double().requires_grad_()
    out = module(x)
    loss = (out * image(out.shape, "cotangent").double()).sum()
    loss.backward()
    tensors = dict(module.named_parameters())
    for key, expected in OFFICIAL[name].items():
        gradient = x.grad if key == "input" else tensors[key].grad if key in tensors else None
        value = loss.item() if key == "loss" else gradient.norm().item()
        assert value == pytest.approx(expected["float64"], rel=1e-6), key
