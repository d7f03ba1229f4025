# SPDX-License-Identifier: Apache-2.0
"""Deformable convolutions against the plain formula; forms, precisions and threads in which they work."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_nets.blocks.deformable_convolution import AttentiveDeformableConv3d, DeformConv3d
from custom_nets.blocks.deformable_sampling import deformable_convolution, deformable_samples
from tests.recipe import image, relative_l2
from tests.reference.s2ca_net import sampled

#: Odd, of length 1 and 2, flat; one sample or two.
SHAPES = [(1, 2, 5, 6, 7), (2, 3, 4, 3, 2), (1, 2, 1, 5, 4), (2, 1, 6, 1, 1), (1, 2, 1, 1, 1), (1, 1, 2, 2, 9)]
all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
all_strides = pytest.mark.parametrize("stride", [1, 2, 3])


def double(shape: tuple[int, ...], name: str = "input") -> Tensor:
    return image(shape, name).double()


def offsets_of(shape: tuple[int, ...], kind: str) -> Tensor:
    """Moved a little, far outside, or to halves and whole voxels, borders among them."""
    offsets = double((shape[0], 81, *shape[2:]), "offsets")
    return {"near": offsets, "far": 5 * offsets, "halves": (4 * offsets).round() / 2}[kind]


def kappa(place: Tensor, length: int) -> Tensor:
    """Weights of an axis' voxels, in a last axis, at a position."""
    place = place[..., None]
    voxels = torch.arange(length)
    linear = (1 - (place - voxels).abs()).clamp(min=0) * ((place >= 0) & (place <= length - 1))
    return linear + (voxels == length - 1) * ((place > length - 1) & (place < length))


def by_formula(x: Tensor, offsets: Tensor, stride: int) -> Tensor:
    """The sum over all voxels of the volume."""
    moved = offsets[:, :, ::stride, ::stride, ::stride].unflatten(1, (3, 27))
    weights = []
    for axis in range(3):
        taps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)[:, axis]
        voxels = (stride * torch.arange(moved.shape[3 + axis])).view([-1 if n == axis else 1 for n in range(3)])
        weights.append(kappa(taps.view(27, 1, 1, 1) + voxels + moved[:, axis], x.shape[2 + axis]))
    return torch.einsum("nkdhwx,nkdhwy,nkdhwz,ncxyz->nckdhw", *weights, x)


@all_strides
@all_shapes
@pytest.mark.parametrize("kind", ["near", "far", "halves"])
def test_samples_are_those_of_the_formula(shape: tuple[int, ...], kind: str, stride: int) -> None:
    x, offsets = double(shape), offsets_of(shape, kind)
    expected = by_formula(x, offsets, stride)
    torch.testing.assert_close(sampled(x, offsets, stride), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(deformable_samples(x, offsets, stride), expected, atol=1e-12, rtol=0)
    weight = double((4, shape[1], 3, 3, 3), "weight")
    found = deformable_convolution(x, offsets, weight, stride=stride)
    torch.testing.assert_close(
        found, torch.einsum("nckdhw,ock->nodhw", expected, weight.flatten(2)), atol=1e-11, rtol=0
    )


@pytest.mark.parametrize("place", [-1.0, -1e-9, 0.0, 0.5, 3.0, 3.5, 4.0, 4.5, 5.0 - 1e-9, 5.0, 6.0])
def test_the_border(place: float) -> None:
    """Nothing below the first voxel at once, the last voxel up to one voxel further."""
    line = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64)
    expected = {0.0: 1.0, 0.5: 1.5, 3.0: 8.0, 3.5: 12.0, 4.0: 16.0, 4.5: 16.0, 5.0 - 1e-9: 16.0}.get(place, 0.0)
    for axis in range(3):
        shape = [5 if n == axis else 1 for n in range(3)]
        offsets = torch.zeros(1, 81, *shape, dtype=torch.float64)
        offsets[:, 27 * axis + 13] = place - torch.arange(5, dtype=torch.float64).view(
            shape
        )  # the middle tap, from each voxel
        found = deformable_samples(line.view(1, 1, *shape), offsets)[0, 0, 13]
        torch.testing.assert_close(found.flatten(), torch.full((5,), expected, dtype=torch.float64))


@all_strides
@all_shapes
@pytest.mark.parametrize("modulated", [False, True], ids=["plain", "modulated"])
def test_gradients_are_those_of_the_plain_operations(shape: tuple[int, ...], stride: int, modulated: bool) -> None:
    x, offsets, weight = double(shape), 2 * offsets_of(shape, "near"), double((4, shape[1], 3, 3, 3), "weight")
    inputs = [x, offsets, weight]
    if modulated:
        inputs.append(double((shape[0], 1, *shape[2:]), "modulation").sigmoid())
    for value in inputs:
        value.requires_grad_()

    def plainly(x: Tensor, offsets: Tensor, weight: Tensor, modulation: Tensor | None = None) -> Tensor:
        moved = offsets if modulation is None else offsets * modulation
        return torch.einsum("nckdhw,ock->nodhw", sampled(x, moved, stride), weight.flatten(2))

    found = deformable_convolution(*inputs, stride=stride)
    expected = plainly(*inputs)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    cotangent = double(tuple(found.shape), "cotangent")
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@all_strides
def test_gradients_are_those_of_differences(stride: int) -> None:
    whole = double((2, 81, 3, 2, 4), "offsets").round()
    inputs = [
        double((2, 2, 3, 2, 4)),
        whole + 0.3 + 0.4 * double((2, 81, 3, 2, 4), "fraction").sigmoid(),  # between voxels, where it is smooth
        double((3, 2, 3, 3, 3), "weight"),
    ]
    for value in inputs:
        value.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, offsets, weight: deformable_convolution(x, offsets, weight, stride=stride), inputs, fast_mode=True
    )


def test_offsets_that_lead_out_have_no_gradient() -> None:
    x, offsets = double((1, 2, 4, 5, 6)), 4 * offsets_of((1, 2, 4, 5, 6), "near")
    offsets.requires_grad_()
    deformable_convolution(x, offsets, double((3, 2, 3, 3, 3), "weight")).square().sum().backward()
    taps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3).t()[:, :, None, None, None]
    voxels = torch.stack(torch.meshgrid(*[torch.arange(n) for n in (4, 5, 6)], indexing="ij"))[:, None]
    places = offsets.detach()[0].unflatten(0, (3, 27)) + taps + voxels
    last = torch.tensor([3, 4, 5]).view(3, 1, 1, 1, 1)
    outside = ((places < 0) | (places > last)).flatten(0, 1)
    assert offsets.grad is not None
    assert outside.any() and not outside.all()
    assert (offsets.grad[0][outside] == 0).all()
    assert offsets.grad[0][~outside].any()


# The modules


def plain(seed: int = 0, **options: Any) -> DeformConv3d:
    torch.manual_seed(seed)
    return DeformConv3d(3, 5, **options).eval()


def attentive(seed: int = 0, **options: Any) -> AttentiveDeformableConv3d:
    torch.manual_seed(seed)
    return AttentiveDeformableConv3d(6, 5, squeeze=2, **options).eval()


Make = Callable[..., Any]
both_modules = pytest.mark.parametrize(("make", "channels"), [(plain, 3), (attentive, 6)], ids=["plain", "attentive"])


def plainly(module: DeformConv3d, x: Tensor) -> Tensor:
    """The module's function by plain operations."""
    if isinstance(module, AttentiveDeformableConv3d):
        x = module.squeeze(x)
    offsets = module.offsets(x)
    modulation = module.modulation(offsets)
    moved = offsets if modulation is None else offsets * modulation
    return torch.einsum("nckdhw,ock->nodhw", sampled(x, moved, module.stride), module.kernel.weight.flatten(2))


@all_strides
@pytest.mark.parametrize("size", [(5, 6, 7), (4, 1, 3), (1, 1, 1), (2, 2, 2)], ids=str)
@both_modules
def test_module(make: Make, channels: int, size: tuple[int, ...], stride: int) -> None:
    module, x = make(stride=stride).double(), 3 * double((2, channels, *size))
    found = module(x)
    assert found.shape == (2, 5, *(-(-length // stride) for length in size))
    torch.testing.assert_close(found, plainly(module, x), atol=1e-11, rtol=0)


@all_strides
@both_modules
def test_without_offsets_it_is_an_ordinary_convolution(make: Make, channels: int, stride: int) -> None:
    x = double((2, channels, 5, 4, 6))
    module, regular = make(stride=stride).double(), make(stride=stride, regular=True).double()
    deformed = module(x)
    nn.init.zeros_(module.offsets.weight)
    torch.testing.assert_close(module(x), regular(x), atol=1e-12, rtol=0)
    assert relative_l2(deformed, regular(x)) > 0.1
    seen = regular.squeeze(x) if make is attentive else x
    torch.testing.assert_close(regular(x), F.conv3d(seen, regular.kernel.weight, stride=stride, padding=1))


@both_modules
def test_places_stay_in_single_precision_under_autocast(make: Make, channels: int) -> None:
    """Places of half precision, 100 voxels from the corner, are a quarter voxel beside: 0.07 and more.

    What the attentive one squeezes before it is rounded, and so what its offsets are made of.
    """
    module = make()
    x = image((1, channels, 4, 3, 140)).cumsum(dim=-1) / 5  # smooth, so that a small error is one of the place
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = module(x)
    assert found.isfinite().all()
    assert relative_l2(found.float(), expected) < (1e-6 if make is plain else 0.03)


@both_modules
def test_gradients_under_autocast(make: Make, channels: int) -> None:
    module, x = make(), image((2, channels, 5, 4, 6)).requires_grad_()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = module(x).float().square().sum()
        found.append(torch.autograd.grad(loss, [x, *module.parameters()]))
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == torch.float32
        assert relative_l2(rounded, exact) < (1e-6 if make is plain else 0.15)


@both_modules
def test_the_number_of_threads_does_not_matter(make: Make, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custom_nets.blocks.deformable_sampling._VOXELS", 30)
    monkeypatch.setattr("custom_nets.blocks.deformable_sampling._VOXELS_OF_GRADIENT", 30)
    module, x = make(), image((2, channels, 7, 5, 6)).requires_grad_()
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = module(x)
            found.append((out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=0)


@both_modules
def test_pieces_do_not_matter(make: Make, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make(stride=2).double(), double((2, channels, 7, 5, 6)).requires_grad_()
    found = []
    for voxels in (1, 10**6):
        monkeypatch.setattr("custom_nets.blocks.deformable_sampling._VOXELS", voxels)
        monkeypatch.setattr("custom_nets.blocks.deformable_sampling._VOXELS_OF_GRADIENT", voxels)
        out = module(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])))
    for small, large in zip(*found, strict=True):
        torch.testing.assert_close(small, large, atol=1e-12, rtol=1e-12)


@both_modules
def test_inference_copies_and_channels_last(make: Make, channels: int) -> None:
    module, x = make(), image((2, channels, 5, 4, 6))
    expected = module(x).detach()
    with torch.inference_mode():
        assert torch.equal(module(x), expected)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(module(last).detach(), expected)
    twin = copy.deepcopy(module)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(twin(x), expected)


@both_modules
def test_frozen_parts_get_no_gradient(make: Make, channels: int) -> None:
    module, x = make(), image((1, channels, 4, 4, 4))
    module.offsets.requires_grad_(False)
    module(x).sum().backward()
    assert module.offsets.weight.grad is None
    assert module.kernel.weight.grad.norm() > 0


@both_modules
def test_other_forms(make: Make, channels: int, tmp_path: Path) -> None:
    module = make(stride=1 if make is plain else 2)
    sizes = [(2, channels, 6, 5, 7), (2, channels, 4, 8, 3)]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), tmp_path / "module.ts")
        forms = {"script": torch.jit.load(tmp_path / "module.ts"), "trace": torch.jit.trace(module, image(sizes[0]))}
        forms["export"] = torch.export.export(module, (image(sizes[0]),)).module()
        torch._dynamo.reset()
        forms["compile"] = torch.compile(module, backend="eager", fullgraph=True)
        for name, form in forms.items():
            for size in sizes[: 1 if name == "export" else None]:
                x = 2 * image(size)
                torch.testing.assert_close(form(x), module(x), atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_memory_of_a_training_step_is_bounded() -> None:
    """Of one convolution its input, offsets and output are kept, not the 27 samples of all voxels."""
    kept: list[int] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value.numel())
        return value

    x, offsets = image((1, 8, 8, 8, 8)).requires_grad_(), image((1, 81, 8, 8, 8), "offsets").requires_grad_()
    weight = image((16, 8, 3, 3, 3), "weight").requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        deformable_convolution(x, offsets, weight)
    assert 0 < sum(kept) <= x.numel() + offsets.numel() + weight.numel()
