# SPDX-License-Identifier: Apache-2.0
"""Both stages of SpineParseNet against their golden numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from custom_nets.checkpoints import from_official
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from tests.recipe import arrays, document, image, relative_l2
from tests.spineparsenet_files import StateDict, filled, fine_entries, official

ARRAYS = arrays("spineparsenet")
GOLDENS: dict[str, Any] = document("spineparsenet")
SHAPES = GOLDENS["shapes"]
#: How a first stage is run: PyTorch's own operations, or norms folded and products in another order.
PATHS = {"plain": torch.enable_grad, "folded": torch.no_grad}


def published(name: str = "gcsn") -> tuple[GCSN, dict[str, str]]:
    """A first stage in eval mode through its published checkpoint, and the published names to ours."""
    state = official(name)
    converted = from_official("spineparsenet.coarse", state)
    network = GCSN(graph_mode={"gcsn": "semantic", "transfer": "transfer"}.get(name, "none")).eval()
    network.load_state_dict(converted, strict=True)
    return network, names(state, converted)


def published_fine(coarse: bool = True) -> tuple[ResUNet2d, dict[str, str]]:
    """A second stage in eval mode through its published checkpoint, and the published names to ours."""
    state = filled(fine_entries(coarse=coarse))
    converted = from_official("spineparsenet.fine", state)
    network = ResUNet2d(coarse_channels=20 * coarse).eval()
    network.load_state_dict(converted, strict=True)
    return network, names(state, converted)


def names(state: StateDict, converted: StateDict) -> dict[str, str]:
    ours = {value.data_ptr(): key for key, value in converted.items()}
    return {key: ours[value.data_ptr()] for key, value in state.items()}


def assert_close(found: Tensor, name: str, tolerance: float) -> None:
    """Compare with a golden array, at every n-th voxel where its name ends in _sn."""
    expected = torch.from_numpy(ARRAYS[name])
    stride = int(name.partition("_s")[2]) if name[-1].isdigit() and "_s" in name else 1
    steps = [slice(None, None, -(-f // e)) for f, e in zip(found.shape, expected.shape, strict=True)]
    assert {step.step for step in steps} <= {1, stride}
    torch.testing.assert_close(found.detach()[tuple(steps)], expected, atol=tolerance, rtol=0)


def assert_statistics(found: Tensor, expected: dict[str, Any], tolerance: float = 2e-6) -> None:
    numbers = found.detach().double()
    assert list(numbers.shape) == expected["shape"]
    assert numbers.norm().item() == pytest.approx(expected["l2"], rel=tolerance)
    scale = expected["l2"] / numbers.numel() ** 0.5
    measured = (numbers.mean(), numbers.std(correction=0), numbers.min(), numbers.max())
    for value, key in zip(measured, ("mean", "std", "min", "max"), strict=True):
        assert value.item() == pytest.approx(
            expected[key], abs=(1 if key in ("mean", "std") else 10) * tolerance * scale
        )


def gradients(network: nn.Module, names: dict[str, str], keys: Any) -> dict[str, float]:
    """L2 norms of parameters' gradients, by published names."""
    found = {}
    for key in keys:
        grad = network.get_parameter(names[key]).grad
        assert grad is not None, key
        found[key] = grad.double().norm().item()
    return found


# First stage


@pytest.mark.parametrize("path", PATHS)
def test_golden_first_stage(path: str) -> None:
    network, _ = published()
    golden = GOLDENS["gcsn_eval"]
    with PATHS[path]():
        logits, assignment = network.with_assignment(image(SHAPES["gcsn_eval"]))
        assert assignment is not None
        probability = logits.softmax(dim=1)
        assert_close(logits, "gcsn_eval_logits_s2", 2e-6)
        assert_close(assignment, "gcsn_eval_fea_logit", 2e-6)
        assert_close(probability, "gcsn_eval_prob_s4", 2e-6)
        for found, key in ((logits, "logits"), (probability, "prob"), (assignment, "fea_logit")):
            assert_statistics(found, golden[key])
        assert torch.equal(network(image(SHAPES["gcsn_eval"])), logits)


@pytest.mark.parametrize("path", PATHS)
def test_golden_first_stage_of_a_wide_slice(path: str) -> None:
    """The dilated taps act."""
    network, _ = published()
    with PATHS[path]():
        logits, assignment = network.with_assignment(image(SHAPES["gcsn_wide"]))
    assert assignment is not None
    assert_close(logits, "gcsn_wide_logits_s2", 5e-6)
    assert_statistics(logits, GOLDENS["gcsn_wide"]["logits"], 5e-6)
    assert_statistics(assignment, GOLDENS["gcsn_wide"]["fea_logit"], 5e-6)


@pytest.mark.parametrize("path", PATHS)
def test_golden_network_of_the_pre_training(path: str) -> None:
    network, _ = published("deeplabv3plus_pretrain")
    with PATHS[path]():
        logits = network(image(SHAPES["deeplab"]))
    assert_close(logits, "deeplab_eval_logits_s2", 2e-6)
    assert_statistics(logits, GOLDENS["deeplab_eval"]["logits"])
    assert isinstance(network.train()(image((2, 1, 2, 16, 16))), Tensor), "no assignment without a graph"


@pytest.mark.parametrize("path", PATHS)
def test_golden_graph_transfer(path: str) -> None:
    network, _ = published("transfer")
    with PATHS[path]():
        logits = network(image(GOLDENS["variants"]["input_shape"]))
    assert_statistics(logits, GOLDENS["variants"]["gcsn_graphonomy_mode0"]["logits"])


#: Golden -> the module of ours whose result it is, on either path.
PARTS = {
    "xception_features.block1": "encoder.block1",
    "xception_features.block3": "encoder.block3",
    "xception_features.block20": "encoder.block4",
    "xception_features.conv3": "encoder.dilated1",
    "xception_features.conv4": "encoder.dilated2",
    "xception_features.conv5": "encoder.dilated3",
    "aspp1": "pyramid.pointwise",
    "aspp2": "pyramid.dilated.0",
    "aspp3": "pyramid.dilated.1",
    "aspp4": "pyramid.dilated.2",
    "global_avg_pool": "pyramid.pooled",
    "decoder1": "decoder1b",
    "graph_conv1": "reasoning.convolutions.0",
    "graph_conv2": "reasoning.convolutions.1",
    "graph_conv3": "reasoning.convolutions.2",
    "decoder2": "decoder2b",
}
#: Golden -> a layer of ours that is called as one on the plain path.
LAYERS = {
    "xception_features.conv2": "encoder.stem2.conv",
    "concat_projection_bn1": "pyramid.project.norm",
    "feature_projection_bn1": "low4.norm",
    "feature_projection_bn2": "low2.norm",
}


@pytest.mark.parametrize("path", PATHS)
def test_golden_parts(path: str) -> None:
    taps = GOLDENS["gcsn_eval"]["taps"]
    computed = {"xception_features.block2", "featuremap_2_graph", "graph_2_fea", "skip_conv", "semantic"}
    assert {*PARTS, *LAYERS, *computed} == taps.keys()
    network, _ = published()
    seen: dict[str, Any] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with PATHS[path]():
        network(image(SHAPES["gcsn_eval"]))
        for key, part in (PARTS | (LAYERS if path == "plain" else {})).items():
            found = seen[part][0] if isinstance(seen[part], tuple) else seen[part]
            assert_statistics(found, taps[key], 5e-6)
        for found, expected in zip(seen["encoder.block2"], taps["xception_features.block2"], strict=True):
            assert_statistics(found, expected, 5e-6)
        assert_statistics(network.classify(seen["decoder2b"]), taps["semantic"], 5e-6)
        x, (out, assignment), graph = seen["decoder1b"], seen["reasoning"], network.reasoning
        assert graph is not None
        nodes, _ = graph.pool(x, assignment)
        skip = F.relu(graph.skip(x))
        for found, expected in zip((nodes, assignment), taps["featuremap_2_graph"], strict=True):
            assert_statistics(found, expected, 5e-6)
        assert_statistics(skip, taps["skip_conv"], 5e-6)
        assert_statistics(out - skip, taps["graph_2_fea"], 5e-6)


def test_golden_gradients_of_the_first_stage() -> None:
    network, names = published()
    expected = dict(GOLDENS["gcsn_eval"]["grad_l2"])
    x = image(SHAPES["gcsn_eval"]).requires_grad_()
    logits = network(x)
    (logits * image(logits.shape, "cotangent")).sum().backward()
    assert x.grad is not None
    assert x.grad.double().norm().item() == pytest.approx(expected.pop("input"), rel=1e-3)
    found = gradients(network, names, expected)
    assert found.pop(kinked := "featuremap_2_graph.pre_fea") == pytest.approx(expected.pop(kinked), rel=1e-2)
    assert found == pytest.approx(expected, rel=1e-3)


def target(*shape: int) -> Tensor:
    return (5 * image(shape, "train_target").double() + 9.5).round().clamp(0, 19).long()


def test_golden_training_step_of_the_first_stage() -> None:
    network, names = published()
    golden = GOLDENS["gcsn_train"]
    logits, assignment = network.train()(image(SHAPES["gcsn_train"]))
    assert_close(logits, "gcsn_train_logits_s2", 2e-3)
    assert_close(assignment, "gcsn_train_fea_logit", 2e-3)
    assert_statistics(logits, golden["logits"], 1e-4)
    assert_statistics(assignment, golden["fea_logit"], 1e-4)
    labels = target(2, *logits.shape[2:])
    main = F.cross_entropy(logits, labels)
    resized = F.interpolate(assignment, size=labels.shape[1:], mode="trilinear", align_corners=True)
    total = main + 0.3 * F.cross_entropy(resized, labels)
    assert main.item() == pytest.approx(golden["loss_main"], abs=1e-5)
    assert total.item() == pytest.approx(golden["loss_total"], abs=1e-5)
    total.backward()
    assert gradients(network, names, golden["grad_l2"]) == pytest.approx(golden["grad_l2"], rel=1e-2)
    for key, expected in golden["running"].items():
        assert_statistics(network.state_dict()[names[key]], expected, 1e-5)


# Second stage


def test_golden_second_stage() -> None:
    network, names = published_fine()
    golden, expected = GOLDENS["resunet_eval"], dict(GOLDENS["resunet_eval"]["grad_l2"])
    inputs = {"img": image(SHAPES["res_img"]), "unary": image(SHAPES["res_un"], "unary")}
    logits = network(*(x.requires_grad_() for x in inputs.values()))
    with torch.inference_mode():
        folded = network(*inputs.values())
    for found in (logits, folded):
        assert_close(found, "resunet_eval_logits", 2e-5)
        assert_close(found.softmax(dim=1), "resunet_eval_prob_s4", 2e-5)
        assert_statistics(found, golden["logits"], 2e-5)
        assert_statistics(found.softmax(dim=1), golden["prob"], 2e-5)
    (logits * image(logits.shape, "cotangent")).sum().backward()
    for key, x in inputs.items():
        assert x.grad is not None
        assert x.grad.double().norm().item() == pytest.approx(expected.pop(key), rel=1e-3)
    assert gradients(network, names, expected) == pytest.approx(expected, rel=1e-3)


def test_golden_training_step_of_the_second_stage() -> None:
    """The same operations, and so the same bits."""
    network, names = published_fine()
    golden = GOLDENS["resunet_train"]
    logits = network.train()(image(golden["img_shape"]), image(golden["unary_shape"], "unary"))
    assert_close(logits, "resunet_train_logits_s4", 2e-5)
    assert_statistics(logits, golden["logits"], 2e-5)
    loss = F.cross_entropy(logits, target(2, *logits.shape[2:]))
    assert loss.item() == pytest.approx(golden["loss"], abs=1e-5)
    loss.backward()
    assert gradients(network, names, golden["grad_l2"]) == pytest.approx(golden["grad_l2"], rel=1e-2)


def test_golden_second_stage_without_coarse_logits() -> None:
    network, _ = published_fine(coarse=False)
    x = image(SHAPES["res_img"])
    with torch.inference_mode():
        assert_statistics(network(x), GOLDENS["resunet_no_unary_eval"]["logits"], 2e-5)
        unused = image(SHAPES["res_un"], "unary")
        assert torch.equal(network(x, unused), network(x))


# Counts


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: GCSN(), 4_231_044),
        (lambda: GCSN(graph_mode="none"), 4_129_796),
        (lambda: GCSN(graph_mode="transfer"), GOLDENS["variants"]["gcsn_graphonomy_mode0"]["params"]),
        (lambda: GCSN(graph_mode="global_reasoning"), GOLDENS["variants"]["gcsn_glore_mode1"]["params"]),
        (lambda: GCSN().encoder, 3_118_280),
        (lambda: GCSN().pyramid.pointwise, 131_328),
        (lambda: GCSN().pyramid.dilated, 3 * 161_024),
        (lambda: GCSN().pyramid.pooled, 131_328),
        (lambda: nn.ModuleList([GCSN().decoder1a, GCSN().decoder1b]), 44_472),
        (lambda: nn.ModuleList([GCSN().decoder2a, GCSN().decoder2b]), 128_704),
        (lambda: GCSN().reasoning, 101_248),
        (lambda: GCSN().classify, 5_140),
        (lambda: ResUNet2d(), 11_784_852),
        (lambda: ResUNet2d(coarse_channels=0), 11_779_092),
    ],
)
def test_number_of_parameters(network: Any, parameters: int) -> None:
    with torch.device("meta"):
        made = network()
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters
    assert all(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize(
    ("network", "shapes", "products"),
    [
        (GCSN, [(1, 1, 18, 128, 256)], 38_442_816_512),
        (lambda: GCSN(graph_mode="none"), [(1, 1, 18, 128, 256)], 36_346_625_024),
        (ResUNet2d, [(1, 1, 256, 512), (1, 20, 128, 256)], 32_283_557_888),
    ],
    ids=["GCSN", "no graph", "ResUNet"],
)
def test_number_of_products(network: Any, shapes: list[tuple[int, ...]], products: int) -> None:
    """The published one; the graph multiplies in an order that needs fewer: (R^T X) B, and the nodes unpooled first."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network().eval()(*map(torch.empty, shapes))
    saved = 0
    if network is GCSN:
        voxels, labels, channels = 18 * 32 * 64, 20, 128
        saved = 2 * (voxels - labels) * channels * channels
    assert counter.get_total_flops() // 2 == products - saved


# Weights before training


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network = GCSN()
    graph = network.reasoning
    assert graph is not None
    for matrix in (graph.assign, graph.embed, *(convolution.weight for convolution in graph.convolutions)):
        bound = (6 / sum(matrix.shape)) ** 0.5  # Xavier, uniform
        assert bound * 0.97 < matrix.abs().max().item() <= bound
        assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    for layer in (network.encoder.dilated2.pointwise, network.classify, graph.skip, graph.unpool):  # PyTorch's rule
        bound = layer.weight[0].numel() ** -0.5
        assert bound * 0.97 < layer.weight.abs().max().item() <= bound


def test_the_network_of_the_pre_training_lies_in_the_first_stage() -> None:
    plain, whole = GCSN(graph_mode="none").state_dict(), GCSN().state_dict()
    assert len(plain) == 332 and len(whole) == 345 and len(ResUNet2d().state_dict()) == 172
    assert all(whole[key].shape == value.shape for key, value in plain.items())
    assert {key.split(".")[0] for key in whole.keys() - plain.keys()} == {"reasoning"}


def test_deviation_from_the_golden_numbers_is_rounding() -> None:
    """Far closer than the tolerances: what a wrong graph changes in eval mode is 4e-5."""
    network, _ = published()
    with torch.no_grad():
        logits = network(image(SHAPES["gcsn_eval"]))
    assert relative_l2(logits[..., ::2, ::2, ::2], ARRAYS["gcsn_eval_logits_s2"]) < 2e-6
