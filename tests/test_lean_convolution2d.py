# SPDX-License-Identifier: Apache-2.0
"""Lean layers of a 2D training step are their plain forms: values, gradients, running statistics; less is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks import lean_convolution2d, winograd
from custom_nets.blocks.lean_convolution2d import convolution, norm_relu_convolution, split
from custom_nets.blocks.lean_norm2d import norm_relu, norm_relu_pool
from custom_nets.nets.s2anet import S2aNet
from tests.recipe import image

POSITIONS = 3
Operation = Callable[..., Tensor]


def norm_of(scale: Tensor, shift: Tensor) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(scale)).to(scale.dtype)
    del norm.weight, norm.bias
    norm.weight, norm.bias = scale, shift
    return norm


def normed(x: Tensor, scale: Tensor, shift: Tensor, positions: int) -> Tensor:
    return torch.cat([F.batch_norm(part, None, None, scale, shift, True) for part in x.chunk(positions)])


def lean_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return norm_relu(x, norm_of(scale, shift), POSITIONS)


def plain_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.relu(normed(x, scale, shift, POSITIONS))


def lean_norm_of_one(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return norm_relu(x, norm_of(scale, shift), 1)


def plain_norm_of_one(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.relu(normed(x, scale, shift, 1))


def both(whole: Tensor, pooled: Tensor) -> Tensor:
    return torch.cat([whole.flatten(), pooled.flatten()])


def lean_pool(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return both(*norm_relu_pool(x, norm_of(scale, shift), POSITIONS))


def plain_pool(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    out = plain_norm(x, scale, shift)
    return both(out, F.max_pool2d(out, 2))


def lean_only_pool(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return norm_relu_pool(x, norm_of(scale, shift), POSITIONS)[1]


def plain_only_pool(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.max_pool2d(plain_norm(x, scale, shift), 2)


def lean_after_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return norm_relu_convolution(x, norm_of(scale, shift), POSITIONS, weight, bias)


def plain_after_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(plain_norm(x, scale, shift), weight, bias, padding=1)


def lean_dilated(x: Tensor, weight: Tensor) -> Tensor:
    return convolution([x], weight, None, dilation=2)


def plain_dilated(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=2, dilation=2)


def lean_joined(x: Tensor, skips: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return convolution([x, *split(skips, 2)], weight, bias, rectify=True)


def plain_joined(x: Tensor, skips: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.relu(F.conv2d(torch.cat([x, *skips.chunk(2)], dim=1), weight, bias, padding=1))


X, SCALE, SHIFT, WEIGHT, BIAS = (6, 4, 6, 8), (4,), (4,), (5, 4, 3, 3), (5,)
#: Lean form, plain form, shapes of the arguments.
CASES: dict[str, tuple[Operation, Operation, list[tuple[int, ...]]]] = {
    "norm, relu": (lean_norm, plain_norm, [X, SCALE, SHIFT]),
    "norm, relu of one position": (lean_norm_of_one, plain_norm_of_one, [X, SCALE, SHIFT]),
    "norm, relu, pool": (lean_pool, plain_pool, [X, SCALE, SHIFT]),
    "norm, relu, only the pooled": (lean_only_pool, plain_only_pool, [X, SCALE, SHIFT]),
    "norm, relu, convolution": (lean_after_norm, plain_after_norm, [X, SCALE, SHIFT, WEIGHT, BIAS]),
    "norm, relu, convolution without bias": (lean_after_norm, plain_after_norm, [X, SCALE, SHIFT, WEIGHT]),
    "dilated convolution": (lean_dilated, plain_dilated, [X, WEIGHT]),
    "joined convolution, relu": (lean_joined, plain_joined, [(2, 4, 6, 8), (4, 3, 6, 8), (5, 10, 3, 3), BIAS]),
    "joined convolution without bias, relu": (lean_joined, plain_joined, [(2, 4, 6, 8), (4, 3, 6, 8), (5, 10, 3, 3)]),
}
Case = tuple[Operation, Operation, list[tuple[int, ...]]]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[4, 256], ids="{} tiles".format, autouse=True)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of some rows, and of several images."""
    monkeypatch.setattr(winograd, "_TILES", request.param)


def drawn(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    return [image(shape, f"argument {place}").double() for place, shape in enumerate(shapes)]


def gradients(operation: Operation, arguments: list[Tensor], frozen: int | None = None) -> list[Tensor | None]:
    leaves = [x.clone().requires_grad_(place != frozen) for place, x in enumerate(arguments)]
    out = operation(*leaves)
    (out * image(out.shape, "cotangent").to(out.dtype)).sum().backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_values_and_gradients_are_those_of_the_plain_form(case: Case, memory_format: torch.memory_format) -> None:
    lean, plain, shapes = case
    arguments = [x.contiguous(memory_format=memory_format) if x.ndim == 4 else x for x in drawn(shapes)]
    before = [x.clone() for x in arguments]
    torch.testing.assert_close(lean(*(x.clone().requires_grad_() for x in arguments)), plain(*arguments))
    for found, wanted in zip(gradients(lean, arguments), gradients(plain, arguments), strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(torch.equal(x, old) for x, old in zip(arguments, before, strict=True))


def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    lean, _, shapes = case
    assert torch.autograd.gradcheck(lean, [x.requires_grad_() for x in drawn(shapes)], fast_mode=True)


@pytest.mark.parametrize("frozen", [0, 1])
def test_gradients_with_an_argument_that_needs_none(case: Case, frozen: int) -> None:
    lean, plain, shapes = case
    found, expected = (gradients(operation, drawn(shapes), frozen) for operation in (lean, plain))
    for place, wanted in enumerate(expected):
        if place == frozen:
            assert found[place] is None
        else:
            torch.testing.assert_close(found[place], wanted)


def test_the_gradient_that_comes_in_is_not_changed(case: Case) -> None:
    lean, _, shapes = case
    out = lean(*(x.requires_grad_() for x in drawn(shapes)))
    gradient = image(out.shape, "cotangent").double()
    kept = gradient.clone()
    out.backward(gradient)
    assert torch.equal(gradient, kept)


def test_second_derivatives_are_refused_not_wrong(case: Case) -> None:
    lean, _, shapes = case
    arguments = [x.requires_grad_() for x in drawn(shapes)]
    (first,) = torch.autograd.grad(lean(*arguments).square().sum(), arguments[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("name", ["norm, relu", "norm, relu, convolution", "dilated convolution"])
def test_of_the_maps_only_the_input_is_kept(name: str) -> None:
    lean, _, shapes = CASES[name]
    arguments = [x.requires_grad_() for x in drawn(shapes)]
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.shape[2:] == arguments[0].shape[2:]:
            kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        lean(*arguments)
    assert kept == [arguments[0].data_ptr()]


@pytest.mark.parametrize("pool", [False, True])
def test_running_statistics_take_the_positions_in_order(pool: bool) -> None:
    x = image((6, 4, 6, 8)).double() + torch.arange(6.0).view(6, 1, 1, 1)
    found, expected = (nn.BatchNorm2d(4).double() for _ in range(2))
    (norm_relu_pool if pool else norm_relu)(x.requires_grad_(), found, POSITIONS)
    for part in x.chunk(POSITIONS):
        expected(part)
    assert found.num_batches_tracked == POSITIONS
    for key, statistic in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], statistic)


def test_one_value_a_channel_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="more than one value"):
        norm_relu(torch.ones(3, 4, 1, 1, requires_grad=True), nn.BatchNorm2d(4), POSITIONS)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    x = (image((6, 4, 6, 8)) * 2).round().double()
    found, expected = (gradients(form, [x, *drawn([SCALE, SHIFT])]) for form in (lean_pool, plain_pool))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_of_parts_are_joined_without_a_copy_where_they_lie_in_one_tensor() -> None:
    x, weight = image((4, 3, 6, 8)).contiguous(memory_format=torch.channels_last), image((5, 6, 3, 3))
    made: list[Tensor] = []
    parts = split(x.requires_grad_() * 1, 2)
    for part in parts:
        part.register_hook(made.append)
    convolution(parts, weight.requires_grad_(), None).sum().backward()
    assert made[0].untyped_storage().data_ptr() == made[1].untyped_storage().data_ptr()
    assert x.grad is not None and torch.equal(x.grad, torch.cat(made))


def small(**options: object) -> S2aNet:
    """Without dropout, whose draws follow the layout in memory."""
    network = S2aNet(feature_scale=16, out_channels=3, **options).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def step(network: S2aNet, x: Tensor) -> list[Tensor]:
    network.zero_grad()
    out = network(x)
    (out * image(out.shape, "cotangent")).sum().backward()
    return [out.detach(), *(p.grad for p in network.parameters()), *(b.clone() for b in network.buffers())]


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CHANNELS_THAT_PAY", "_VOXELS_THAT_PAY"):
        monkeypatch.setattr(lean_convolution2d, name, 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "none"}, {"skip": "centre", "share_encoder": False}, {"scale_aware": "level2"}, {"up": "bilinear"}],
    ids=str,
)
@pytest.mark.usefixtures("everything_pays")
def test_a_training_step_of_the_network_is_that_of_the_plain_form(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small(**options).double()
    other, x = copy.deepcopy(network), image((2, 3, 16, 24)).double()
    found = step(network, x)
    for module in ("lean_convolution2d", "decoder2d"):
        monkeypatch.setattr(f"custom_nets.blocks.{module}.on_cpu", lambda *_: False)
    for one, wanted in zip(found, step(other, x), strict=True):
        torch.testing.assert_close(one, wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.usefixtures("everything_pays")
def test_networks_trained_side_by_side_do_not_touch_each_other() -> None:
    networks = [small() for _ in range(4)]
    others, x = copy.deepcopy(networks), image((2, 3, 16, 24))
    expected = [step(network, x) for network in others]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(step, networks, [x] * 4))
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


def test_reduced_precision_takes_the_plain_form() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(image((2, 3, 16, 24))).dtype == torch.bfloat16
