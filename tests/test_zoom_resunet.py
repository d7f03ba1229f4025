# SPDX-License-Identifier: Apache-2.0
"""ZoomResUNet against its golden numbers and the plain transcription, with gradients (lean) and without (in place)."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from custom_nets.nets import zoom_resunet
from custom_nets.nets.zoom_resunet import ZoomResUNet
from custom_nets.volume_plan.cost import BYTES_PER_VOXEL, macs
from tests.recipe import GOLDENS, arrays, document, filled, image, relative_l2
from tests.reference import zoom_resunet as reference

ARRAYS = arrays("zoom_resunet")
OFFICIAL = document("zoom_resunet")["network"]
VARIANT = {"in_channels": 2, "out_channels": 3, "use_bias": False, "base_width": 8, "num_groups": 4}
CLOSE = {"atol": 5e-4, "rtol": 1e-4}

#: With gradients one tensor a convolution is kept and the rest computed again; without them it is computed in place.
both_forms = pytest.mark.parametrize("form", [torch.enable_grad, torch.no_grad], ids=["training", "inference"])
Form = type[AbstractContextManager]


def small(**options: Any) -> ZoomResUNet:
    """A network of few channels."""
    torch.manual_seed(0)
    return ZoomResUNet(**{"base_width": 4, "num_groups": 4} | options).eval()


@pytest.fixture(scope="module")
def network() -> ZoomResUNet:
    return filled(ZoomResUNet())


def gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of Σ output · cotangent, by the input and every parameter."""
    network.zero_grad()
    x = x.clone().requires_grad_()
    out = network(x)
    (out * image(out.shape, "cotangent").to(out.dtype)).sum().backward()
    by_parameters = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {key: value for key, value in {"input": x.grad, **by_parameters}.items() if value is not None}


@both_forms
def test_golden_output_and_features(network: ZoomResUNet, form: Form) -> None:
    seen: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name in OFFICIAL["features"]
    ]
    with form():
        logits = network(image(OFFICIAL["input"]["shape"]))
    for hook in hooks:
        hook.remove()
    np.testing.assert_allclose(logits.detach().numpy(), ARRAYS["output"], **CLOSE)
    assert list(seen) == list(OFFICIAL["features"])
    for name, expected in OFFICIAL["features"].items():
        feature = seen[name].detach()
        assert list(feature.shape) == expected["shape"]
        found = feature.flatten()[:: expected["flat_stride"]][:2048]
        np.testing.assert_allclose(found.numpy(), ARRAYS[f"feat_{name}"], **CLOSE, err_msg=name)
        assert feature.norm().item() == pytest.approx(expected["l2"], rel=1e-4)


@both_forms
def test_golden_output_of_other_channels_without_biases(form: Form) -> None:
    network = filled(ZoomResUNet(**VARIANT))
    assert sum(parameter.numel() for parameter in network.parameters()) == OFFICIAL["variant"]["params"]
    with form():
        logits = network(image(OFFICIAL["variant"]["input_shape"]))
    np.testing.assert_allclose(logits.detach().numpy(), ARRAYS["variant_output"], **CLOSE)


@pytest.mark.parametrize(
    ("dtype", "key", "tolerance"), [(torch.float32, "grad_l2", 2e-3), (torch.float64, "grad_l2_f64", 1e-6)], ids=str
)
@pytest.mark.parametrize(
    ("options", "golden", "shape"),
    [({}, OFFICIAL, OFFICIAL["input"]["shape"]), (VARIANT, OFFICIAL["variant"], OFFICIAL["variant"]["input_shape"])],
    ids=["published", "variant"],
)
def test_golden_gradients(
    options: dict[str, Any], golden: dict[str, Any], shape: list[int], dtype: torch.dtype, key: str, tolerance: float
) -> None:
    found = gradients(filled(ZoomResUNet(**options)).to(dtype), image(shape).to(dtype))
    norms = {name: found[name].norm().item() for name in golden[key]}
    assert norms == pytest.approx(golden[key], rel=tolerance)


def test_names_shapes_order_and_number_of_parameters() -> None:
    with torch.device("meta"):
        network = ZoomResUNet()
    entries = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    assert entries == json.loads((GOLDENS / "zoom_resunet" / "keys.json").read_text(encoding="utf-8"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 18_438_561


@pytest.mark.parametrize("make", [ZoomResUNet, reference.ZoomResUNet], ids=["ours", "plain"])
def test_multiply_accumulates(make: type[nn.Module]) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        make()(torch.zeros(1, 1, 128, 128, 128))
    assert counter.get_total_flops() // 2 == macs((128, 128, 128)) == 665_317_277_696


def pair(**options: Any) -> tuple[ZoomResUNet, reference.ZoomResUNet]:
    """Ours and the plain transcription with the same weights, in float64."""
    plain = filled(reference.ZoomResUNet(**options)).double()
    ours = ZoomResUNet(**options).double().eval()
    ours.load_state_dict(plain.state_dict())
    return ours, plain


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("size", [(8, 8, 8), (16, 24, 8), (9, 15, 12), (17, 11, 23)], ids=str)
@pytest.mark.parametrize("options", [{"base_width": 2, "num_groups": 2}, VARIANT | {"base_width": 4}], ids=str)
def test_output_and_all_gradients_equal_the_plain_transcription(
    options: dict[str, Any], size: tuple[int, ...], checkpointed: bool
) -> None:
    ours, plain = pair(**options)
    ours.checkpoint_full_resolution = checkpointed
    x = image((2, options.get("in_channels", 1), *size)).double()
    torch.testing.assert_close(ours(x), plain(x), atol=1e-10, rtol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), atol=1e-10, rtol=1e-10)
    found, expected = gradients(ours.train(), x), gradients(plain, x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-9, rtol=1e-9, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
def test_parameters_have_the_same_gradients_when_the_image_needs_none(checkpointed: bool) -> None:
    ours, plain = pair(base_width=2, num_groups=2)
    ours.checkpoint_full_resolution = checkpointed
    x = image((1, 1, 9, 10, 17)).double()
    for network in (ours, plain):
        network(x).square().mean().backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("frozen", ["ec", "dc", "gn", "conv1.bias"])
def test_frozen_parameters_leave_the_gradients_of_the_others(frozen: str) -> None:
    networks = pair(base_width=2, num_groups=2)
    for network in networks:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(frozen not in name)
    x = image((1, 1, 9, 8, 8)).double()
    found, expected = (gradients(network, x) for network in networks)
    assert found.keys() == expected.keys() and not any(frozen in name for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-9, rtol=1e-9)


def test_initial_weights_are_kaiming_normal_by_fan_out() -> None:
    torch.manual_seed(0)
    network = ZoomResUNet()
    scaled, biases = [], []
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            deviation = (2 / (module.weight.shape[0] * module.weight[0, 0].numel())) ** 0.5
            scaled.append(module.weight.detach().flatten() / deviation)
            assert module.bias is not None
            biases.append(module.bias.detach() * module.weight[0].numel() ** 0.5)
        elif isinstance(module, nn.GroupNorm):
            assert module.eps == 1e-5
            assert (module.weight == 1).all() and (module.bias == 0).all()
    for weight in scaled:
        assert weight.std().item() == pytest.approx(1, abs=4 / len(weight) ** 0.5)
    assert (torch.cat(scaled) ** 4).mean().item() == pytest.approx(3, rel=0.01)
    assert torch.cat(biases).abs().max() <= 1
    assert torch.cat(biases).std().item() == pytest.approx(3**-0.5, rel=0.05)
    assert network.up3[0].weight.std().item() == pytest.approx(0.031, abs=5e-4)


@both_forms
def test_training_mode_changes_nothing(form: Form) -> None:
    network, x = small(), image((2, 1, 9, 16, 13))
    with form():
        assert torch.equal(network.train()(x), network.eval()(x))


@both_forms
@pytest.mark.parametrize("in_channels", [1, 2])
def test_the_layout_in_memory_changes_nothing(form: Form, in_channels: int) -> None:
    network, x = small(in_channels=in_channels), image((2, in_channels, 9, 16, 13))
    other = x.contiguous(memory_format=torch.channels_last_3d)
    with form():
        torch.testing.assert_close(network(other), network(x), atol=5e-5, rtol=5e-5)
    expected = gradients(network, x)
    for name, gradient in gradients(network, other).items():
        assert relative_l2(gradient, expected[name]) < 1e-3, name


@both_forms
def test_metatensors_are_taken(form: Form) -> None:
    network, x = small(), image((1, 1, 9, 16, 13))
    with form():
        found = network(MetaTensor(x))
        expected = network(x)
    assert torch.equal(torch.as_tensor(found), expected)
    if form is torch.enable_grad:
        found.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("shape", [(1, 1, 17, 24, 16), (2, 1, 24, 9, 16), (1, 1, 9, 32, 32)], ids=str)
def test_gradients_under_bfloat16_autocast_are_near_those_of_float32(
    shape: tuple[int, ...], checkpointed: bool
) -> None:
    """At depths of 8 to 11 and 16 to 23 a level has 2 slices, which PyTorch alone gives weight gradients of noise."""
    x, label = image(shape), (image(shape, "label") > 1).float()
    found = []
    for enabled in (False, True):
        network = small(checkpoint_full_resolution=checkpointed).train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = network(x)
        nn.functional.binary_cross_entropy_with_logits(logits.float(), label).backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())
        found.append({name: parameter.grad for name, parameter in network.named_parameters()})
    exact, reduced = found
    assert 0 < relative_l2(*(torch.cat([g.flatten() for g in side.values()]) for side in (reduced, exact))) < 0.06
    for name, gradient in reduced.items():  # the deepest ones are small and noisy
        assert relative_l2(gradient, exact[name]) < 0.6, name


def bytes_saved(network: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that the graph of one forward pass keeps for the backward pass besides the parameters."""
    storages: dict[int, int] = {}
    of_parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_parameters:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # or its address could be taken by another
        return tensor

    plain_checkpoint = zoom_resunet.checkpoint

    def noting(part: Any, *inputs: Tensor, **options: Any) -> Tensor:
        for tensor in inputs:  # kept by the checkpoint itself, past the hooks
            note(tensor)
        return plain_checkpoint(part, *inputs, **options)

    monkeypatch.setattr(zoom_resunet, "checkpoint", noting)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = network(x)
    assert out.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize(("checkpointed", "share"), [(False, 0.6), (True, 0.35)], ids=["kept", "checkpointed"])
def test_less_is_kept_for_the_backward_pass(checkpointed: bool, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = image((1, 1, 32, 32, 32))
    plain = bytes_saved(reference.ZoomResUNet(), x, monkeypatch)
    assert plain / x.numel() == pytest.approx(BYTES_PER_VOXEL, rel=0.02)
    ours = bytes_saved(ZoomResUNet(checkpoint_full_resolution=checkpointed), x, monkeypatch)
    assert ours < share * plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels 0, .* at least 1"),
        ({"out_channels": 0}, "out_channels 0"),
        ({"base_width": 0}, "base_width 0"),
        ({"num_groups": 0}, "num_groups 0"),
        ({"num_groups": 3}, r"num_groups 3: .* a divisor of 2 \* base_width = 8"),
        ({"in_channels": 9}, "in_channels 9: more than the first level has, 8; take a larger base_width"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@both_forms
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_thinner_than_8_voxels_are_refused(axis: int, checkpointed: bool, form: Form) -> None:
    size = [8, 8, 8]
    network = small(checkpoint_full_resolution=checkpointed)
    with form():
        assert network(image((1, 1, *size))).shape == (1, 1, 8, 8, 8)
        size[axis] = 7
        with pytest.raises(ValueError, match=rf"a volume of \[{', '.join(map(str, size))}\] voxels: give at least 8"):
            network(image((1, 1, *size)))
