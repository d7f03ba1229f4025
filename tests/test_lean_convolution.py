# SPDX-License-Identifier: Apache-2.0
"""Each lean operation is its plain form: values, all gradients, and no input changed; less is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks.lean_convolution import (
    channels_last_on_cpu,
    convolution_onto,
    norm_relu,
    norm_relu_convolution,
    norm_relu_sum,
    relu_convolution,
)
from tests.recipe import image, relative_l2

GROUPS = 2
Operation = Callable[..., Tensor]


def plain_convolution_onto(x: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    return F.conv3d(x, weight, padding=1) + total


def lean_onto_nothing(x: Tensor, weight: Tensor) -> Tensor:
    return convolution_onto(x, weight, torch.zeros(len(x), len(weight), *x.shape[2:]))


def plain_relu_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv3d(F.relu(x), weight, bias, padding=1)


def lean_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return norm_relu_convolution(x, scale, shift, GROUPS, weight, bias)


def plain_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv3d(F.relu(F.group_norm(x, GROUPS, scale, shift)), weight, bias, padding=1)


def lean_sum(x: Tensor, scale: Tensor, shift: Tensor, identity: Tensor) -> Tensor:
    return norm_relu_sum(x, scale, shift, GROUPS, identity)


def plain_sum(x: Tensor, scale: Tensor, shift: Tensor, identity: Tensor) -> Tensor:
    extra = x.shape[1] - identity.shape[1]
    return F.relu(F.group_norm(x, GROUPS, scale, shift)) + F.pad(identity, (0, 0, 0, 0, 0, 0, extra, 0))


def lean_relu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return relu_convolution(x, weight, bias)


def lean_norm_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return norm_relu(x, scale, shift, GROUPS)


def plain_norm_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.relu(F.group_norm(x, GROUPS, scale, shift))


X, SCALE, SHIFT, WEIGHT, BIAS = (2, 4, 3, 2, 5), (4,), (4,), (6, 4, 3, 3, 3), (6,)
#: Lean form, plain form, shapes of the arguments.
CASES: dict[str, tuple[Operation, Operation, list[tuple[int, ...]]]] = {
    "convolution, sum": (convolution_onto, plain_convolution_onto, [X, WEIGHT, (2, 6, 3, 2, 5)]),
    "relu, convolution": (lean_relu, plain_relu_convolution, [X, WEIGHT, BIAS]),
    "relu, convolution without bias": (lean_relu, plain_relu_convolution, [X, WEIGHT]),
    "norm, relu": (lean_norm_relu, plain_norm_relu, [X, SCALE, SHIFT]),
    "norm, relu, convolution": (lean_norm, plain_norm, [X, SCALE, SHIFT, WEIGHT, BIAS]),
    "norm, relu, convolution without bias": (lean_norm, plain_norm, [X, SCALE, SHIFT, WEIGHT]),
    "norm, relu, sum": (lean_sum, plain_sum, [X, SCALE, SHIFT, X]),
    "norm, relu, sum of fewer channels": (lean_sum, plain_sum, [X, SCALE, SHIFT, (2, 1, 3, 2, 5)]),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Operation, Operation, list[tuple[int, ...]]]:
    return CASES[request.param]


def drawn(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [image(shape, f"argument {place}").to(dtype) for place, shape in enumerate(shapes)]


def gradients(operation: Operation, arguments: list[Tensor], frozen: int | None = None) -> list[Tensor | None]:
    leaves = [x.clone().requires_grad_(place != frozen) for place, x in enumerate(arguments)]
    out = operation(*leaves)
    (out * image(out.shape, "cotangent").to(out.dtype)).sum().backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
def test_values_and_gradients_are_those_of_the_plain_form(
    case: tuple[Operation, Operation, list[tuple[int, ...]]], memory_format: torch.memory_format
) -> None:
    lean, plain, shapes = case
    arguments = [x.contiguous(memory_format=memory_format) if x.ndim == 5 else x for x in drawn(shapes)]
    before = [x.clone() for x in arguments]
    expected = plain(*arguments)
    torch.testing.assert_close(lean(*arguments), expected)  # without gradients
    with_gradients = lean(*(x.clone().requires_grad_() for x in arguments))
    torch.testing.assert_close(with_gradients, expected)
    for found, wanted in zip(gradients(lean, arguments), gradients(plain, arguments), strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(torch.equal(x, old) for x, old in zip(arguments, before, strict=True))


def test_gradients_are_those_of_finite_differences(case: tuple[Operation, Operation, list[tuple[int, ...]]]) -> None:
    lean, _, shapes = case
    arguments = [x.requires_grad_() for x in drawn(shapes)]
    assert torch.autograd.gradcheck(lean, arguments, fast_mode=True)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_gradients_with_an_argument_that_needs_none(
    case: tuple[Operation, Operation, list[tuple[int, ...]]], frozen: int
) -> None:
    lean, plain, shapes = case
    found, expected = (gradients(operation, drawn(shapes), frozen) for operation in (lean, plain))
    for place, wanted in enumerate(expected):
        if place == frozen:
            assert found[place] is None
        else:
            torch.testing.assert_close(found[place], wanted)


def test_the_gradient_that_comes_in_is_not_changed(case: tuple[Operation, Operation, list[tuple[int, ...]]]) -> None:
    lean, _, shapes = case
    out = lean(*(x.requires_grad_() for x in drawn(shapes)))
    gradient = image(out.shape, "cotangent").double()
    kept = gradient.clone()
    out.backward(gradient)
    assert torch.equal(gradient, kept)


def test_second_derivatives_are_refused_not_wrong(case: tuple[Operation, Operation, list[tuple[int, ...]]]) -> None:
    lean, _, shapes = case
    arguments = [x.requires_grad_() for x in drawn(shapes)]
    (first,) = torch.autograd.grad(lean(*arguments).square().sum(), arguments[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_of_the_volumes_only_the_input_is_kept(case: tuple[Operation, Operation, list[tuple[int, ...]]]) -> None:
    lean, _, shapes = case
    arguments = [x.requires_grad_() for x in drawn(shapes)]
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.shape[2:] == arguments[0].shape[2:]:
            kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        lean(*arguments)
    assert kept[:1] == [arguments[0].data_ptr()]
    assert len(kept) == 1 + (lean is lean_norm_relu)  # whose result is the next convolution's input


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("lean", [lean_onto_nothing, lean_relu, lean_norm])
def test_weight_gradients_in_bfloat16_at_small_depths(lean: Operation, depth: int) -> None:
    """PyTorch alone leaves those of a depth of 2 unset on processors with bfloat16 instructions."""
    norm = [(64,), (64,)] if lean is lean_norm else []
    shapes: list[tuple[int, ...]] = [(1, 64, depth, 4, 5), *norm, (64, 64, 3, 3, 3)]
    exact = gradients(lean, drawn(shapes, torch.float32))[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = gradients(lean, drawn(shapes, torch.float32))[-1]
    assert exact is not None and reduced is not None
    assert relative_l2(reduced, exact) < 0.02


@pytest.mark.parametrize("recorded", [False, True], ids=["inference", "training"])
def test_norms_of_large_volumes_are_exact_in_both_layouts(recorded: bool) -> None:
    """PyTorch's own group norm of channels-last volumes is off by 1e-4 here, and by more in larger ones."""
    x = image((1, 8, 96, 96, 96)) + torch.arange(8.0).view(1, 8, 1, 1, 1)
    scale, shift = torch.ones(8, requires_grad=recorded), torch.zeros(8)
    exact = F.relu(F.group_norm(x.double(), GROUPS))
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        found = norm_relu(x.contiguous(memory_format=layout), scale, shift, GROUPS).detach()
        assert relative_l2(found.double(), exact) < 2e-6


def test_volumes_on_a_cpu_get_their_channels_side_by_side() -> None:
    x = image(X)
    laid = channels_last_on_cpu(x)
    assert laid.is_contiguous(memory_format=torch.channels_last_3d) and torch.equal(laid, x)
    assert channels_last_on_cpu(laid) is laid
    with torch.device("meta"):
        elsewhere = torch.zeros(X)
    assert channels_last_on_cpu(elsewhere) is elsewhere
