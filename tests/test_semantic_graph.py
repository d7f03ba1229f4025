# SPDX-License-Identifier: Apache-2.0
"""The semantic graph by itself: golden numbers, other label sets, numbers that single precision has no room for."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_nets.blocks.semantic_graph import GraphConvolution, SemanticGraph
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.graph import Label, LabelGraph
from custom_nets.nets.gcsn import GCSN
from tests.recipe import GOLDENS as FOLDER
from tests.recipe import image, relative_l2
from tests.spineparsenet_files import small_first_stage
from tests.test_spineparsenet import GOLDENS, PATHS, assert_close, assert_statistics, published


def block(graph: LabelGraph | None = None, channels: int = 16) -> SemanticGraph:
    """One in eval mode whose norm does not pass its input on as it is."""
    torch.manual_seed(0)
    made = SemanticGraph(channels, graph or mrspineseg(), 12)
    assert made.unpool_norm.running_mean is not None and made.unpool_norm.running_var is not None
    made.unpool_norm.running_mean.normal_(0, 0.1)
    made.unpool_norm.running_var.uniform_(0.5, 2)
    return made.eval()


def seen_nodes(graph: SemanticGraph, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Result, assignment, and the nodes before and behind the convolutions."""
    nodes: list[Tensor] = []

    def keep(module: Any, inputs: Any, out: Tensor) -> None:
        nodes.extend([out] if nodes else [inputs[0], out])

    handles = [convolution.register_forward_hook(keep) for convolution in graph.convolutions]
    out, assignment = graph(x)
    for handle in handles:
        handle.remove()
    return out, assignment, nodes


@pytest.mark.parametrize("path", PATHS)
def test_golden_graph(path: str) -> None:
    graph, golden = published()[0].reasoning, GOLDENS["graph"]
    assert isinstance(graph, SemanticGraph)
    x = image(golden["x_shape"], "graph_x")
    with PATHS[path]():
        out, logits, nodes = seen_nodes(graph, x)
        unpooled = out - F.relu(graph.skip(x))
    assert_close(nodes[0], "graph_nodes", 2e-6)
    assert_close(nodes[3], "graph_conv3", 2e-6)
    assert_close(logits, "graph_logits", 4e-6)  # up to 9 in size
    assert_close(unpooled, "graph_unpooled", 2e-6)
    found = dict(
        zip(("nodes", "conv1", "conv2", "conv3", "logits", "unpooled"), [*nodes, logits, unpooled], strict=True)
    )
    for key, value in found.items():
        assert_statistics(value, golden[key], 2e-6)


def test_the_published_adjacency_is_a_buffer_of_no_file() -> None:
    published_ = json.loads((FOLDER / "spineparsenet" / "adjacency.json").read_text(encoding="utf-8"))
    graph = SemanticGraph(4, mrspineseg())
    torch.testing.assert_close(
        graph.adjacency.double(), torch.tensor(published_["normalised"]).double(), atol=1e-7, rtol=0
    )
    assert "adjacency" not in graph.state_dict()
    assert dict(graph.named_buffers())["adjacency"] is graph.adjacency, "it moves with the module"
    assert graph.double().adjacency.dtype == torch.float64
    assert graph.extra_repr() == "labels=20, edges=18"


CANAL = (Label(0, "background"), Label(7, "cord"), Label(300, "canal"))
GRAPHS: dict[str, LabelGraph] = {
    "13 labels": mrspineseg(7),
    "SPIDER": spider(),
    "SPIDER, all": spider(25),
    "two labels": LabelGraph((Label(0, "background"), Label(1, "one")), ()),
    "by rows": LabelGraph(CANAL, ((1, 2),), self_loop=1, normalization="row"),
    "not normalised": LabelGraph(CANAL, ((1, 2),), self_loop=0, normalization="none"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", GRAPHS)
def test_other_label_sets(name: str, path: str) -> None:
    """What the formulas say, with whatever adjacency matrix there is."""
    graph, x = block(GRAPHS[name]), image((2, 16, 3, 5, 4))
    with PATHS[path]():
        out, logits = graph(x)
    with torch.no_grad():
        wide, rows = graph.double(), x.double().flatten(2).transpose(1, 2)
        p = torch.softmax(rows @ wide.assign, dim=2)
        z = F.relu((p / p.sum(dim=1, keepdim=True)).transpose(1, 2) @ (rows @ wide.embed))
        for convolution in wide.convolutions:
            z = F.relu(torch.from_numpy(GRAPHS[name].adjacency()) @ z @ convolution.weight)
        y = (p @ z).transpose(1, 2).reshape(2, 12, 3, 5, 4)
        expected = F.relu(wide.skip(x.double())) + F.relu(wide.unpool_norm(wide.unpool(y)))
    assert logits.shape == (2, len(GRAPHS[name]), 3, 5, 4)
    torch.testing.assert_close(out.detach().double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("graph", [mrspineseg(7), spider(5)], ids=["13 labels", "SPIDER"])
@pytest.mark.parametrize("config", [False, True], ids=["graph", "config"])
def test_networks_of_other_label_sets(graph: LabelGraph, config: bool) -> None:
    network = small_first_stage(graph=graph.to_config() if config else graph).train()
    logits, assignment = network(image((2, 1, 3, 17, 33)))
    assert logits.shape == (2, len(graph), 3, 17, 33)
    assert assignment.shape == (2, len(graph), 3, 5, 9)
    others = small_first_stage(graph=mrspineseg()).state_dict()
    differing = {key for key, value in network.state_dict().items() if value.shape != others[key].shape}
    assert differing == {"reasoning.assign", "classify.weight", "classify.bias"}


def test_the_order_of_the_labels_does_not_matter() -> None:
    graph, x = block(mrspineseg(4)), image((1, 16, 2, 5, 4))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    other = block(mrspineseg(4))
    other.assign.data = graph.assign.data[:, order]
    other.adjacency = graph.adjacency[order][:, order]
    (out, logits), (same, permuted) = graph(x), other(x)
    torch.testing.assert_close(out, same, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[:, order], permuted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_it_knows_no_place(path: str) -> None:
    """Voxels in another order are given the same."""
    graph, x = block(), image((1, 16, 2, 5, 4))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[..., order].unflatten(2, (2, 5, 4))
    with PATHS[path]():
        expected = graph(x)[0].flatten(2)[..., order]
        torch.testing.assert_close(graph(shuffled)[0].flatten(2), expected, atol=1e-5, rtol=1e-5)


# A label without any mass


def gapped() -> tuple[SemanticGraph, Tensor]:
    """All voxels 200 logits and more away from the last label."""
    graph, x = block(), image((2, 16, 3, 5, 4)).abs() + 1
    with torch.no_grad():
        graph.assign[:, -1] = -200 / 16
    return graph, x


def test_a_label_without_mass_gives_no_nan() -> None:
    graph, x = gapped()
    rows = x.flatten(2).transpose(1, 2)
    probability = torch.softmax(rows @ graph.assign, dim=2)
    assert (probability / probability.sum(dim=1, keepdim=True)).isnan().any(), "as published it is one"
    out, _ = graph(x.requires_grad_())
    out.square().sum().backward()
    with torch.no_grad():
        folded, _ = graph(x)
    assert x.grad is not None and x.grad.isfinite().all() and out.isfinite().all() and folded.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in graph.parameters())
    with torch.no_grad():  # double precision has the room
        wide = graph.double()
        nodes, _ = wide.pool(x.double(), torch.einsum("ncdhw,ck->nkdhw", x.double(), wide.assign))
        p = probability.double().new_tensor(0) + torch.softmax(rows.double() @ wide.assign, dim=2)
        weights = (p / p.sum(dim=1, keepdim=True)).transpose(1, 2)
        torch.testing.assert_close(nodes, F.relu(weights @ rows.double() @ wide.embed), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
def test_a_label_without_mass_in_half_precision(kind: torch.dtype) -> None:
    graph, x = gapped()
    with torch.autocast("cpu", dtype=kind):
        out, _ = graph(x)
        out.float().square().mean().backward()
    assert out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in graph.parameters())


@pytest.mark.parametrize("mode", ["semantic", "transfer", "global_reasoning", "none"])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)], ids=str)
def test_half_precision(mode: str, kind: torch.dtype, tolerance: float) -> None:
    network, x = small_first_stage(graph_mode=mode), image((1, 1, 4, 32, 48))
    with torch.no_grad():
        expected = network(x)
        with torch.autocast("cpu", dtype=kind):
            assert relative_l2(network(x).float(), expected) < tolerance


@pytest.mark.parametrize("mode", ["global_reasoning", "none"])  # the networks' contract has the others
def test_other_forms_of_every_mode(mode: str) -> None:
    network = small_first_stage(graph_mode=mode)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        forms = torch.jit.script(network), torch.jit.trace(network, image((1, 1, 4, 32, 48)))
        for shape in ((1, 1, 4, 32, 48), (2, 1, 3, 17, 33)):
            for form in forms:
                torch.testing.assert_close(form(image(shape)), network(image(shape)), atol=1e-5, rtol=1e-5)


# What they refuse


def test_a_batch_of_one_is_not_trained_with() -> None:
    network = small_first_stage().train()
    with pytest.raises(ValueError, match="a batch of one volume has no statistics of its means: train with 2 volumes"):
        network(image((1, 1, 4, 32, 48)))
    network.pyramid.pooled.norm.eval()
    assert network(image((1, 1, 4, 32, 48)))[0].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GCSN(graph_mode="gcn"),
            "graph_mode is 'gcn': choose one of semantic, global_reasoning, transfer, none",
        ),
        (lambda: GCSN(width=0), "width 0, in_channels 1: give a width above 0"),
        (lambda: GCSN(width=float("nan")), "width nan"),
        (lambda: GCSN(in_channels=0), "in_channels 0: give a width above 0 and a channel at least"),
        (lambda: GCSN(graph={"labels": []}), "graph: give "),
        (
            lambda: GCSN(graph={"labels": [{"value": 0, "name": "b"}], "edges": []}),
            "graph: 1 labels: give the background",
        ),
    ],
)
def test_unfit_options_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_graph_convolution_mixes_neighbours_alone() -> None:
    convolution = GraphConvolution(3, 3)
    convolution.weight.data = torch.eye(3)
    nodes, matrix = torch.rand(2, 4, 3), torch.eye(4)
    matrix[0, 1] = 2
    found = convolution(nodes, matrix)
    torch.testing.assert_close(found[:, 1:], nodes[:, 1:])
    torch.testing.assert_close(found[:, 0], nodes[:, 0] + 2 * nodes[:, 1])
