# SPDX-License-Identifier: Apache-2.0
"""The building blocks against their golden numbers, on the path with gradients and on the one without."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.convolution import VGGBlock, convolution_block, downsampling, upsampling
from custom_nets.blocks.decoder import DecoderLevel, doubled_kernel, fit_low_end
from custom_nets.blocks.non_local import NonLocalBlock
from custom_nets.blocks.pointwise import PointwiseConvolution
from custom_nets.blocks.slice_attention import SLICE_AXES, RSABlock, slice_attention, slice_attention_map
from tests import golden
from tests.recipe import SOFT_BETAS, arrays, document, filled, image, relative_l2, slice_attention_weight

ARRAYS = arrays("rsanet")
SHAPES = document("rsanet")["shapes"]
OFFICIAL = document("rsanet")["official"]
ATOL = 5e-5
DIRECTIONS = ("coronal", "sagittal", "axial")

PATHS = {"published": torch.enable_grad, "folded": torch.no_grad}
both_paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
Path = type[AbstractContextManager]


def assert_golden(value: Tensor, name: str, atol: float = ATOL) -> None:
    np.testing.assert_allclose(value.detach().numpy(), ARRAYS[name], rtol=0, atol=atol)


def soft_block(*directions: str, **options: Any) -> RSABlock:
    """The block of the soft goldens with some of the directions, each with its own beta."""
    block = filled(RSABlock(16, directions, **options), "soft")
    for beta, direction in zip(block.betas, directions, strict=True):
        nn.init.constant_(beta, SOFT_BETAS[DIRECTIONS.index(direction)])
    return block


def random_block(channels: int, seed: int = 0, **options: Any) -> RSABlock:
    torch.manual_seed(seed)
    block = RSABlock(channels, **options).eval()
    for beta in block.betas:
        nn.init.normal_(beta)
    return block


def gradients(module: nn.Module, shape: tuple[int, ...] | list[int]) -> dict[str, float]:
    """Loss of the goldens' rule and L2 norms of its gradients."""
    x = image(shape).to(next(module.parameters()).dtype).requires_grad_()
    out = module(x)
    loss = (out * image(out.shape, "cotangent").to(x.dtype)).sum()
    loss.backward()
    named = {name: parameter.grad.norm().item() for name, parameter in module.named_parameters()}
    return {"loss": loss.item(), "input": x.grad.norm().item()} | named


# Slice attention


@both_paths
@pytest.mark.parametrize("regime", ["hard", "soft", "beta0"])
def test_rsa_block(path: Path, regime: str) -> None:
    with path():
        assert_golden(filled(RSABlock(16), regime)(image(SHAPES["blk"])), f"rsa_{regime}")


@both_paths
@pytest.mark.parametrize("count", [1, 2, 3])
def test_stages_of_the_rsa_block(path: Path, count: int) -> None:
    with path():
        out = soft_block(*DIRECTIONS[:count])(image(SHAPES["blk"]))
    assert_golden(out, f"rsa_soft_stage{count}_{DIRECTIONS[count - 1]}")


@both_paths
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_direction_alone_is_the_sa_block(path: Path, direction: str) -> None:
    with path():
        assert_golden(soft_block(direction)(image(SHAPES["blk"])), f"sa_block_{direction}")


def test_the_order_of_the_directions_is_the_order_given() -> None:
    x = image(SHAPES["blk"])
    with torch.no_grad():
        step_by_step = soft_block("coronal")(soft_block("axial")(x))
        torch.testing.assert_close(soft_block("axial", "coronal")(x), step_by_step)
        assert relative_l2(soft_block("coronal", "axial")(x), step_by_step) > 0.01


def test_attention_maps_of_the_rsa_block() -> None:
    maps = filled(RSABlock(16), "soft").attention_maps(image(SHAPES["blk"]))
    assert list(maps) == list(DIRECTIONS)
    for direction, attention in maps.items():
        assert_golden(attention, f"rsa_soft_attn_{direction}")
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(attention.shape[:2]))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bare_slice_attention(direction: str) -> None:
    theta, phi, g = (
        torch.from_numpy((factor * golden.draw(f"sa.{name}", SHAPES["blk"])).astype(np.float32))
        for name, factor in (("theta", 0.2), ("phi", 0.2), ("g", 1.0))
    )
    axis = SLICE_AXES[direction]
    assert_golden(slice_attention(theta, phi, g, axis), f"sa_{direction}")
    assert_golden(slice_attention_map(theta, phi, axis), f"sa_{direction}_attn")
    scores = torch.einsum(
        {2: "ncihw,ncjhw->nij", 3: "ncdiw,ncdjw->nij", 4: "ncdhi,ncdhj->nij"}[axis], theta.double(), phi.double()
    )
    expected = torch.softmax(scores / (theta[0].numel() / theta.shape[axis]) ** 0.5, dim=2)
    torch.testing.assert_close(slice_attention_map(theta, phi, axis, scaled=True).double(), expected)


@pytest.mark.parametrize("options", [{}, {"recompute": True}], ids=str)
def test_gradients_of_the_rsa_block(options: dict[str, bool]) -> None:
    found = gradients(filled(RSABlock(16, **options), "soft").double(), SHAPES["blk"])
    expected = OFFICIAL["grad_rsa_soft"]
    assert {key: found[key] for key in expected} == pytest.approx(
        {key: value["float64"] for key, value in expected.items()}, rel=1e-6
    )
    assert found["phi_conv.bias"] < 1e-9 * found["phi_conv.weight"]


@pytest.mark.parametrize("training", [False, True])
def test_recomputing_gives_the_same_gradients_bit_for_bit(training: bool) -> None:
    plain, recomputed = (random_block(8, recompute=option).train(training) for option in (False, True))
    assert gradients(plain, (2, 8, 3, 4, 5)) == gradients(recomputed, (2, 8, 3, 4, 5))


def test_recomputing_keeps_less_for_the_backward_pass() -> None:
    def kept(recompute: bool) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            random_block(8, recompute=recompute)(image((1, 8, 8, 8, 8)))
        return sum(sizes)

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1, 1), (2, 6, 2, 3, 5), (1, 8, 9, 1, 4)], ids=str)
def test_the_folded_form_equals_the_published_one(shape: tuple[int, ...], scaled: bool) -> None:
    block = random_block(shape[1], scaled=scaled).double()
    x = image(shape).double()
    with torch.no_grad():
        folded = block(x)
    torch.testing.assert_close(folded, block(x).detach(), atol=1e-12, rtol=1e-10)


def test_scaling_changes_the_function() -> None:
    x = image((1, 8, 6, 6, 6))
    assert relative_l2(random_block(8, scaled=True)(x).detach(), random_block(8)(x).detach()) > 0.01


def test_a_direction_with_beta_zero_is_skipped_in_eval_mode() -> None:
    block, x = random_block(8), image((1, 8, 3, 4, 5))
    nn.init.constant_(block.theta_conv.weight, float("nan"))
    with torch.no_grad():
        assert block(x).isnan().all()
        for beta in block.betas:
            nn.init.zeros_(beta)
        assert torch.equal(block(x), x)
    assert block(x).isnan().all()  # with gradients nothing is skipped: beta has to learn


@both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_scores_beyond_float16_give_no_nan(path: Path, dtype: torch.dtype) -> None:
    block, x = random_block(16), image((1, 16, 8, 8, 8))
    with torch.no_grad():
        block.theta_conv.weight.mul_(20)
        block.phi_conv.load_state_dict(block.theta_conv.state_dict())
    theta = block.theta_conv(x).movedim(3, 1).flatten(2)
    assert torch.bmm(theta, theta.transpose(1, 2)).max() > torch.finfo(torch.float16).max
    with path():
        exact = block(x)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(block(x), exact)  # the block leaves autocast
            half = block(x.to(dtype))
    assert half.dtype == dtype
    assert half.isfinite().all()


@pytest.mark.parametrize("block", [RSABlock(8).eval(), NonLocalBlock(8).eval()], ids=["rsa", "non-local"])
@both_paths
def test_blocks_start_as_the_identity(path: Path, block: nn.Module) -> None:
    x = image((2, 8, 3, 5, 4))
    with path():
        assert torch.equal(block(x), x)


# Non-local block


def test_non_local_block() -> None:
    block = filled(NonLocalBlock(16))
    assert_golden(block(image(SHAPES["blk"])), "ncl_reference")
    found = gradients(block.double(), SHAPES["blk"])
    expected = document("rsanet")["reference_not_official"]["grad_ncl_reference"]
    assert {key: found[key] for key in expected} == pytest.approx(
        {key: value["float64"] for key, value in expected.items()}, rel=1e-6
    )


@pytest.mark.parametrize(
    ("size", "sub_sample", "keys"), [((1, 1, 1), True, 1), ((2, 3, 5), False, 30), ((2, 3, 5), True, 1 * 2 * 3)]
)
def test_non_local_attention_rows_sum_to_one(size: tuple[int, ...], sub_sample: bool, keys: int) -> None:
    block, x = filled(NonLocalBlock(4, sub_sample=sub_sample)), image((2, 4, *size))
    attention = block._attention(block.theta(x), block.pool(block.phi(x)))
    assert attention.shape == (2, int(np.prod(size)), keys)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(attention.shape[:2]))
    assert block(x).shape == x.shape


def test_non_local_scores_are_float32_under_autocast() -> None:
    block, x = filled(NonLocalBlock(4)), image((1, 4, 2, 3, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block._attention(x.bfloat16(), x.bfloat16()).dtype == torch.float32
        assert relative_l2(block(x).float().detach(), block.float()(x).detach()) < 0.02
    with pytest.raises(ValueError, match="at least 2"):
        NonLocalBlock(1)


@pytest.mark.parametrize(("block", "count"), [(RSABlock, 787_971), (NonLocalBlock, 525_568)])
def test_parameter_counts(block: type[nn.Module], count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in block(512).parameters()) == count


# Convolution blocks, down- and upsampling


def fill(module: nn.Module, published_name: Any) -> nn.Module:
    """Fill with the recipe by the published names of the entries."""
    state = module.state_dict()
    module.load_state_dict(
        {key: slice_attention_weight(published_name(key), tuple(value.shape)) for key, value in state.items()}
    )
    return module.eval()


PARTS = {
    "part_vgg": (lambda: convolution_block("vgg", 16, 32, "GN_8"), "layer.layer."),
    "part_vgg3": (lambda: VGGBlock(16, 32, "GN_8", repeats=3), "layer.layer."),
    "part_vgg_bn": (lambda: convolution_block("vgg", 16, 32, "BN"), "layer.layer."),
    "part_resV1": (lambda: convolution_block("resV1", 16, 32, "GN_8"), "layer."),
    "part_resV1_same": (lambda: convolution_block("resV1", 16, 16, "GN_8"), "layer."),
    "part_resV1_down": (lambda: downsampling("resV1", 16, "GN_8"), "layer."),
    "part_resV2": (lambda: convolution_block("resV2", 16, 32, "GN_8"), "layer."),
    "part_resV2_down": (lambda: downsampling("resV2", 16, "GN_8"), "layer."),
    "part_down_conv": (lambda: downsampling("conv", 16, "GN_8"), "down."),
    "part_down_maxpool": (lambda: downsampling("maxpool", 16, "GN_8"), ""),
}


@pytest.mark.parametrize(("make", "prefix"), PARTS.values(), ids=PARTS)
def test_parts(make: Any, prefix: str, request: pytest.FixtureRequest) -> None:
    module = fill(make(), lambda key: prefix + key)
    with torch.no_grad():
        assert_golden(module(image(SHAPES["small"])), request.node.callspec.id)


@both_paths
@pytest.mark.parametrize(
    ("name", "conv_block", "up"),
    [
        ("part_up_nearest", "vgg", "nearest"),
        ("part_up_trilinear", "vgg", "trilinear"),
        ("part_up_resV2", "resV2", "nearest"),
    ],
)
def test_decoder_levels(path: Path, name: str, conv_block: str, up: str) -> None:
    published_block = "conv.layer.layer." if conv_block == "vgg" else "conv.layer."
    level = fill(
        DecoderLevel(32, 16, "GN_8", conv_block, up),
        lambda key: key.replace("up.", "up.up.", 1).replace("block.", published_block, 1),
    )
    with path():
        assert_golden(level(image((1, 32, 3, 3, 4), "right"), image(SHAPES["small"])), name)


@pytest.mark.parametrize(("name", "shift"), [("padcat_crop", 1), ("padcat_pad", -1)])
def test_fitting_at_the_low_end(name: str, shift: int) -> None:
    left = image(SHAPES["small"])[:, :2]
    right = image((1, 4, *(length + shift for length in left.shape[2:])), "right")
    assert_golden(torch.cat([left, fit_low_end(right, list(left.shape[2:]))], dim=1), name, atol=0)


def test_transposed_upsampling_doubles() -> None:
    assert upsampling("transposed", 8, 4)(image((1, 8, 2, 3, 5))).shape == (1, 4, 4, 6, 10)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 5)], ids=str)
def test_nearest_then_convolution_is_a_transposed_convolution(size: tuple[int, ...]) -> None:
    x, weight = image((2, 4, *size)).double(), image((3, 4, 3, 3, 3), "weight").double()
    expected = F.conv3d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(F.conv_transpose3d(x, doubled_kernel(weight), stride=2, padding=1), expected)


@pytest.mark.parametrize("norm", ["GN_8", "BN"])
def test_the_split_decoder_level_equals_the_plain_one(norm: str) -> None:
    level = filled(DecoderLevel(32, 16, norm)).double()
    coarse, skip = image((1, 32, 8, 8, 9), "coarse").double(), image((1, 16, 16, 16, 18), "skip").double()
    expected = level(coarse, skip).detach()
    with torch.no_grad():
        assert level._split_pays(coarse, skip)
        torch.testing.assert_close(level(coarse, skip), expected, atol=1e-12, rtol=1e-10)
        for odd in ((17, 18, 18), (15, 16, 18)):
            assert not level._split_pays(coarse, image((1, 16, *odd)))
        assert not level.train()._split_pays(coarse, skip)


@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_convolution_is_the_convolution(bias: bool) -> None:
    layer, x = filled(PointwiseConvolution(6, 4, bias=bias)).double(), image((2, 6, 2, 3, 5)).double()
    torch.testing.assert_close(layer(x), F.conv3d(x, layer.weight, layer.bias))
