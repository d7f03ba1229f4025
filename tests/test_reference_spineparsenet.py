# SPDX-License-Identifier: Apache-2.0
"""The plain transcription has the golden numbers and is our networks; misreadings of the paper have other numbers.

The bound of each mistake is its relative L2 difference from the golden output, rounded down; half of it is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from custom_nets.checkpoints import from_official
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from tests import golden
from tests.recipe import arrays, document, image, relative_l2
from tests.reference import spineparsenet as reference
from tests.reference import spineparsenet_mistakes as mistakes
from tests.spineparsenet_files import StateDict, entries, filled, fine_entries, official

ARRAYS = arrays("spineparsenet")
GOLDENS = document("spineparsenet")
SHAPES = GOLDENS["shapes"]
RIGHT = 1e-5


def of_first_stage(key: str, name: str = "gcsn", training: bool = False) -> Tensor:
    """Logits at every second voxel in plane."""
    with torch.no_grad():
        out = reference.GCSN(official(name)).train(training)(image(SHAPES[key]))
    return (out[0] if training else out)[..., ::2, ::2]


def of_second_stage() -> Tensor:
    with torch.inference_mode():
        network = reference.ResUNet(official("resunet2d")).eval()
        return network(image(SHAPES["res_img"]), image(SHAPES["res_un"], "unary"))


def of_graph() -> Tensor:
    """Nodes behind the convolutions, and what voxels take back, in one vector."""
    p, x = reference.Entries(official("gcsn")), image(GOLDENS["graph"]["x_shape"], "graph_x")
    rows = x.flatten(2).transpose(1, 2)
    logits = reference.assignment(p, rows)
    nodes = reference.nodes_of(p, rows, reference.pooling_weights(logits))
    nodes = reference.reasoned(p, nodes, reference.EDGES)[-1]
    return torch.cat([nodes.flatten(), reference.unpooled(p, nodes, logits, x.shape[2:]).flatten()])


def graph_golden() -> Tensor:
    return torch.cat([torch.from_numpy(ARRAYS[name]).flatten() for name in ("graph_conv3", "graph_unpooled")])


def test_the_transcription_is_right() -> None:
    assert relative_l2(of_first_stage("gcsn_eval")[:, :, ::2], ARRAYS["gcsn_eval_logits_s2"]) < RIGHT
    assert relative_l2(of_first_stage("gcsn_wide"), ARRAYS["gcsn_wide_logits_s2"]) < RIGHT
    plain = of_first_stage("deeplab", "deeplabv3plus_pretrain")
    assert relative_l2(plain[:, :, ::2], ARRAYS["deeplab_eval_logits_s2"]) < RIGHT
    trained = of_first_stage("gcsn_train", training=True)
    assert relative_l2(trained[:, :, ::2], ARRAYS["gcsn_train_logits_s2"]) < RIGHT
    assert relative_l2(of_second_stage(), ARRAYS["resunet_eval_logits"]) < RIGHT
    assert relative_l2(of_graph(), graph_golden()) < RIGHT


def test_the_transcription_of_both_stages_is_right() -> None:
    golden_ = GOLDENS["pipeline"]
    volume = (466 + 379 * golden.draw("volume", golden_["volume_shape_HWD"])).transpose(2, 0, 1)
    networks = reference.GCSN(official("gcsn")).eval(), reference.ResUNet(official("resunet2d")).eval()
    with torch.inference_mode():
        scores, logits = reference.parsed(
            *networks, np.float32(volume), golden_["coarse_size_DHW"], golden_["fine_size_HW"]
        )
    torch.testing.assert_close(scores[0, ..., ::8, ::8], torch.from_numpy(ARRAYS["pipeline_prob_s"]), atol=1e-6, rtol=0)
    assert relative_l2(logits[0, ..., ::4, ::4], ARRAYS["pipeline_coarse_logits_s"]) < RIGHT
    assert (scores[0].argmax(dim=0).permute(1, 2, 0).numpy() != ARRAYS["pipeline_seg"]).sum() <= 11


# Our networks, in double precision


def doubled(state: StateDict) -> StateDict:
    return {key: value.double() if value.is_floating_point() else value for key, value in state.items()}


def doubled_first_stage(state: StateDict, **options: Any) -> GCSN:
    """Ours of a published state dict; the adjacency matrix, which is kept in single precision, in double."""
    network = GCSN(**options).double()
    network.load_state_dict(from_official("spineparsenet.coarse", state, graph=options.get("graph")))
    if hasattr(network.reasoning, "adjacency"):
        network.reasoning.adjacency = torch.from_numpy(network.label_graph.adjacency())  # type: ignore[union-attr]
    return network


def assert_same(ours: nn.Module, theirs: reference.Plain, name: str, inputs: list[Tensor], **options: Any) -> None:
    """Outputs, gradients of inputs and parameters, running statistics."""
    outs, grads = [], []
    for network in (ours, theirs):
        copies = [x.clone().requires_grad_() for x in inputs]
        found = network(*copies)
        outs.append(found if isinstance(found, list) else [found])
        sum((o * image(o.shape, f"cotangent{n}").double()).sum() for n, o in enumerate(outs[-1])).backward()
        grads.append([copy.grad for copy in copies])
    for one, other in zip(outs[0] + grads[0], outs[1] + grads[1], strict=True):
        assert relative_l2(one.detach(), other.detach()) < 1e-11
    values = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in theirs.named_parameters()}
    expected = from_official(name, values | dict(theirs.named_buffers()), **options)
    largest = max(value.norm().item() for value in expected.values() if value.is_floating_point())
    for key, parameter in ours.named_parameters():  # of a bias in front of a norm there is rounding alone
        assert parameter.grad is not None, key
        assert (parameter.grad - expected[key]).norm() < 1e-11 * max(expected[key].norm(), 1e-3 * largest), key
    for key, buffer in ours.named_buffers():
        if buffer.is_floating_point() and "running" in key:
            assert relative_l2(buffer, expected[key]) < 1e-11, key


FIRST_STAGES: dict[str, tuple[str, LabelGraph]] = {
    "published": ("gcsn", mrspineseg()),
    "13 labels": ("gcsn", mrspineseg(6)),
    "SPIDER": ("gcsn", spider(4)),
    "no graph": ("deeplabv3plus_pretrain", mrspineseg()),
    "transfer": ("transfer", mrspineseg(3)),
}


def first_stage(key: str) -> tuple[StateDict, LabelGraph, str]:
    name, graph = FIRST_STAGES[key]
    mode = {"transfer": "transfer", "deeplabv3plus_pretrain": "none"}.get(name, "semantic")
    return doubled(filled(entries(name, len(graph), 0.25))), graph, mode


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("key", FIRST_STAGES)
def test_our_first_stage_is_the_transcription(key: str, training: bool) -> None:
    state, graph, mode = first_stage(key)
    theirs = reference.GCSN(state, graph.edges).train(training)
    ours = doubled_first_stage(state, graph=graph, graph_mode=mode, width=0.25).train(training)
    x = image((2, 1, 5, 33, 46)).double()
    assert_same(ours, theirs, "spineparsenet.coarse", [x], graph=graph)


@pytest.mark.parametrize("shape", [(1, 1, 3, 16, 304), (2, 1, 20, 17, 33), (1, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("key", FIRST_STAGES)
def test_folded_it_is_still_the_transcription(key: str, shape: tuple[int, ...]) -> None:
    """Without gradients norms are folded and products taken in another order."""
    state, graph, mode = first_stage(key)
    ours = doubled_first_stage(state, graph=graph, graph_mode=mode, width=0.25).eval()
    x = image(shape).double()
    with torch.no_grad():
        assert relative_l2(ours(x), reference.GCSN(state, graph.edges).eval()(x)) < 1e-11


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("coarse", [True, False], ids=["coarse logits", "image alone"])
def test_our_second_stage_is_the_transcription(coarse: bool, training: bool) -> None:
    state = doubled(filled(fine_entries(13, (8, 12, 16, 24, 28), coarse)))
    theirs = reference.ResUNet(state).train(training)
    ours = ResUNet2d(coarse_channels=13 * coarse, out_channels=13, filters=(8, 12, 16, 24, 28)).double()
    ours.load_state_dict(from_official("spineparsenet.fine", state))
    inputs = [image((2, 1, 48, 32)).double(), image((2, 13, 7, 9), "unary").double()][: 1 + coarse]
    with torch.no_grad():  # folded
        assert relative_l2(ours.eval()(*inputs), theirs.eval()(*inputs)) < 1e-11
    assert_same(ours.train(training), theirs.train(training), "spineparsenet.fine", inputs)


# Misreadings

OF_THE_FIRST_STAGE = [
    (mistakes.shortcut_without_relu, 0.93),
    (mistakes.relu_behind_the_addition, 0.91),
    (mistakes.low_features_behind_the_relu, 0.36),
    (mistakes.relu_in_the_separable_convolution, 0.95),
    (mistakes.strided_over_the_slices, 0.94),
    (mistakes.no_relu_between, 0.99),
    (mistakes.no_relu_at_the_end, 1.5),
    (mistakes.wrong_rate, 0.55),
    (mistakes.pyramid_slice_by_slice, 0.82),
    (mistakes.half_pixels, 0.46),
    (mistakes.skip_without_relu, 0.51),
    (mistakes.relu_of_the_sum, 0.4),
    (mistakes.no_graph, 0.73),
]
OF_THE_GRAPH = [
    (mistakes.single_self_loop, 0.027),
    (mistakes.identity, 0.23),
    (mistakes.neighbouring_vertebrae_joined, 0.055),
    (mistakes.rows_normalised, 0.011),
    (mistakes.softmax_over_voxels, 0.29),
    (mistakes.pooled_by_a_softmax_over_voxels, 0.26),
    (mistakes.pooled_without_division, 1.5),
    (mistakes.nodes_not_rectified, 0.23),
    (mistakes.no_relu_in_the_graph, 1.0),
    (mistakes.two_graph_convolutions, 0.61),
    (mistakes.unpooled_without_relu, 1.1),
]
OF_THE_SECOND_STAGE = [
    (mistakes.half_pixels, 0.19),
    (mistakes.added_behind_the_relu, 0.49),
    (mistakes.no_residual, 0.93),
    (mistakes.residual_of_the_second_convolution, 0.86),
    (mistakes.softmax_of_the_coarse_logits, 0.59),
    (mistakes.coarse_logits_first, 0.6),
    (mistakes.mean_of_the_pixels, 0.27),
]


def named(value: Any) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("mistake", "bound"), OF_THE_FIRST_STAGE, ids=named)
def test_misreadings_of_the_first_stage(
    mistake: mistakes.Mistake, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    found = of_first_stage("gcsn_train", training=True)[:, :, ::2]
    assert relative_l2(found, ARRAYS["gcsn_train_logits_s2"]) > bound / 2


@pytest.mark.parametrize(("mistake", "bound"), OF_THE_GRAPH, ids=named)
def test_misreadings_of_the_graph(mistake: mistakes.Mistake, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    assert relative_l2(of_graph(), graph_golden()) > bound / 2


@pytest.mark.parametrize(("mistake", "bound"), OF_THE_SECOND_STAGE, ids=named)
def test_misreadings_of_the_second_stage(
    mistake: mistakes.Mistake, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert relative_l2(of_second_stage(), ARRAYS["resunet_eval_logits"]) > bound / 2
