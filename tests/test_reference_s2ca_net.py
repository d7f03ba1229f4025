# SPDX-License-Identifier: Apache-2.0
"""The plain transcription has the golden numbers and is our network; misreadings of the paper have other numbers.

The bound of each mistake is its relative L2 difference from the golden output, rounded down; half of it is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from custom_nets.checkpoints import from_official
from custom_nets.nets.s2ca_net import S2CANet
from tests.recipe import arrays, document, image, relative_l2
from tests.reference import s2ca_net as reference
from tests.reference import s2ca_net_mistakes as mistakes
from tests.s2ca_net_files import NETWORKS, StateDict, file_options, official

ARRAYS = arrays("s2ca_net")
GOLDENS = document("s2ca_net")["network"]
RIGHT = 1e-5
FEW: dict[str, Any] = {"filters": (4, 8, 16, 32), "embed_channels": (16, 32), "encoder_depths": (2, 1)}
FEW |= {"decoder_depths": (1, 2)}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_transcription_is_right(name: str) -> None:
    options = NETWORKS[name]
    with torch.inference_mode():
        heads = reference.heads(
            official(32, **options), image(GOLDENS[name]["input_shape"]), added=options.get("deformable") != "replacing"
        )
    for number, expected in enumerate(GOLDENS[name]["heads"]):
        head = heads[3 - number]
        assert head.double().norm().item() == pytest.approx(expected["l2"], rel=RIGHT)
        if (key := f"{name}.head{number}") in ARRAYS:
            stride = expected["stride"]
            assert relative_l2(head[..., ::stride, ::stride, ::stride], ARRAYS[key]) < RIGHT


def test_the_transcription_is_right_in_train_mode() -> None:
    network, golden = reference.S2CANet(official(32)).train(), GOLDENS["train_nodrop_p32b2"]
    with torch.no_grad():
        head = network(image(golden["input_shape"]))[0]
    assert relative_l2(head[..., ::2, ::2, ::2], ARRAYS["train_nodrop_p32b2.head3"]) < RIGHT
    for key, expected in golden["bn_after_one_forward"].items():
        assert network.state_dict()[key].norm().item() == pytest.approx(expected["l2"], rel=RIGHT)


# Our network, in double precision


def doubled(state: StateDict) -> StateDict:
    return {key: value.double() if value.is_floating_point() else value for key, value in state.items()}


VARIANTS = [{key: value for key, value in options.items() if key not in FEW} for options in NETWORKS.values()]
DIFFERENT = {str(options): options for options in (*VARIANTS, {"swapped_axes": False})}


@pytest.mark.parametrize(
    ("options", "training"), [({}, False), *((options, True) for options in DIFFERENT.values())], ids=str
)
def test_our_network_is_the_transcription(options: dict[str, Any], training: bool) -> None:
    """All heads, all gradients, running statistics."""
    of_file = {key: value for key, value in options.items() if key != "swapped_axes"}
    state = doubled(official(16, **FEW | of_file))
    added, swapped = options.get("deformable") != "replacing", options.get("swapped_axes", True)
    theirs = reference.S2CANet(state, added=added, swapped=swapped).train(training)
    convert = partial(from_official, "s2ca_net", **file_options(options))
    ours = S2CANet(patch_size=16, drop_path=0.0, **FEW | options).double().train(training)
    ours.load_state_dict(convert(state))
    outs, inputs = [], []
    for network in (ours, theirs):
        x = image((2, 4, 16, 16, 16)).double().requires_grad_()
        heads = network(x) if training else [network(x)]
        sum((head * image(head.shape, f"cotangent{n}").double()).sum() for n, head in enumerate(heads)).backward()
        outs.append(torch.stack(heads).detach())
        inputs.append(x.grad)
    assert relative_l2(*outs) < 1e-11
    assert relative_l2(*inputs) < 1e-11
    values = {key: p.grad if p.grad is not None else p for key, p in theirs.named_parameters()}
    expected = convert(values | dict(theirs.named_buffers()))
    largest = max(value.norm().item() for value in expected.values() if value.is_floating_point())
    for key, parameter in ours.named_parameters():
        if parameter.grad is not None:  # biases in front of a norm have none but rounding
            assert (parameter.grad - expected[key]).norm() < 1e-11 * max(expected[key].norm(), 1e-3 * largest), key
        else:
            assert not training and key.startswith(("head1", "head2", "head3"))
    for key, buffer in ours.named_buffers():
        if buffer.is_floating_point():
            assert relative_l2(buffer, expected[key]) < 1e-11, key


# Misreadings


def error(**options: Any) -> float:
    """Difference from the golden's first sample."""
    with torch.inference_mode():
        head = reference.heads(official(32), image((2, 4, 32, 32, 32))[:1], **options)[0]
    return relative_l2(head[..., ::2, ::2, ::2], ARRAYS["net_p32b2.head3"][:1])


MISTAKES = [
    (mistakes.zeros_beyond_the_border, 0.033),
    (mistakes.last_voxel_beyond_the_border, 0.051),
    (mistakes.no_offsets, 0.17),
    (mistakes.offsets_of_the_last_axis_first, 0.095),
    (mistakes.offsets_tap_by_tap, 0.11),
    (mistakes.taps_with_the_first_axis_fastest, 0.13),
    (mistakes.kernel_with_the_channel_fastest, 0.16),
    (mistakes.offsets_not_modulated, 0.067),
    (mistakes.samples_modulated_too, 0.047),
    (mistakes.shortcut_around_the_deformable_convolution, 0.2),
    (mistakes.reverse_shift_not_reversed, 0.24),
    (mistakes.shifts_the_other_way, 0.74),
    (mistakes.axes_of_the_shift_exchanged, 0.57),
    (mistakes.shifts_wrap_around, 0.41),
    (mistakes.encoders_global_branch_sees_the_result, 0.85),
    (mistakes.decoders_global_branch_sees_the_middle, 0.39),
    (mistakes.no_layer_scale, 0.68),
    (mistakes.layer_scale_zero, 0.1),
    (mistakes.folded_with_the_channel_fastest, 0.98),
    (mistakes.no_spatial_attention, 0.036),
    (mistakes.no_addition_of_the_deepest_level, 0.58),
    (mistakes.instance_norm_in_the_gates, 0.087),
    (mistakes.aligned_corners, 0.39),
    (mistakes.approximate_gelu, 0.00019),
    (mistakes.slopes_as_initialised, 0.93),
    (mistakes.shortcut_without_norm, 0.65),
    (mistakes.norms_of_one_channel_a_group, 0.65),
]


@pytest.mark.parametrize(("mistake", "bound"), MISTAKES, ids=lambda value: getattr(value, "__name__", None))
def test_misreadings_are_told_apart(mistake: mistakes.Mistake, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    assert error() > bound / 2


@pytest.mark.parametrize(("options", "bound"), [({"added": False}, 0.53), ({"swapped": False}, 0.38)], ids=str)
def test_wrong_variants_are_told_apart(options: dict[str, bool], bound: float) -> None:
    assert error(**options) > bound / 2
