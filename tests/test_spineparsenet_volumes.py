# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet from a volume to its scores and labels: golden numbers, the plain form, any size, bounded memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from custom_nets.checkpoints import from_official
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.nets.spineparsenet import SpineParseNet
from custom_nets.spine.inferers import SpineInferer
from tests import golden
from tests.recipe import arrays, image, relative_l2
from tests.reference import spineparsenet as reference
from tests.spineparsenet_files import entries, filled, fine_entries, official, small
from tests.test_spineparsenet import GOLDENS, assert_statistics

ARRAYS = arrays("spineparsenet")
SIZES = {"coarse_size": GOLDENS["pipeline"]["coarse_size_DHW"], "fine_size": GOLDENS["pipeline"]["fine_size_HW"]}


def raw(*shape: int, name: str = "volume") -> Tensor:
    """Raw intensities, N x 1 x D x H x W."""
    return 466 + 379 * image(shape, name)


def volume() -> Tensor:
    """The golden volume."""
    drawn = 466 + 379 * golden.draw("volume", GOLDENS["pipeline"]["volume_shape_HWD"])
    return torch.from_numpy(np.float32(drawn.transpose(2, 0, 1)))[None, None]


def published(**options: Any) -> SpineParseNet:
    """Both stages through their published checkpoints, at the golden sizes."""
    network = SpineParseNet(**SIZES | options).eval()
    stages = {"coarse": ("spineparsenet.coarse", "gcsn"), "refinement": ("spineparsenet.fine", "resunet2d")}
    for stage, (name, listing) in stages.items():
        if (ours := getattr(network, stage)) is not None:
            ours.load_state_dict(from_official(name, official(listing)))
    return network


def inferred(network: SpineParseNet, x: Tensor, **options: Any) -> Tensor:
    with torch.inference_mode():
        return network(x, **options)


# Golden numbers


@pytest.mark.parametrize("slices_at_once", [1, 2, 5, 8])
def test_golden_volume(slices_at_once: int) -> None:
    network, x = published(slices_at_once=slices_at_once), volume()
    scores = inferred(network, x)
    assert_statistics(scores, GOLDENS["pipeline"]["prob"], 1e-5)
    found = torch.from_numpy(ARRAYS["pipeline_prob_s"])
    torch.testing.assert_close(scores[0, ..., ::8, ::8], found, atol=1e-5, rtol=0)
    rows = slice(20, 60)
    assert not scores[:, :, :, :20].any() and not scores[:, :, :, 60:].any()
    with torch.inference_mode():
        logits = network.coarse_logits(x[:, :, :, rows])
        labels = network.label(x)
    torch.testing.assert_close(
        logits[0, ..., ::4, ::4], torch.from_numpy(ARRAYS["pipeline_coarse_logits_s"]), atol=1e-5, rtol=0
    )
    expected = torch.from_numpy(ARRAYS["pipeline_seg"]).permute(2, 0, 1)
    best = scores[0].topk(2, dim=0).values
    unsure = (best[0] - best[1] < 1e-5)[:, rows]
    assert unsure.sum() <= 2 * GOLDENS["pipeline"]["voxels_with_margin_below_1e-5"]
    wrong = labels[0, 0] != expected
    assert not wrong[:, :20].any() and not wrong[:, 60:].any() and not wrong[:, rows][~unsure].any()


# The plain form


def both(**options: Any) -> tuple[SpineParseNet, Any]:
    """Ours and the plain one, few channels and six labels."""
    graph = mrspineseg(3)
    first, second = filled(entries("gcsn", 6, 0.125)), filled(fine_entries(6, (4, 6, 8, 10, 12)))
    network = small(filters=(4, 6, 8, 10, 12), **options)
    assert network.coarse is not None and network.refinement is not None
    network.coarse.load_state_dict(from_official("spineparsenet.coarse", first, graph=graph))
    network.refinement.load_state_dict(from_official("spineparsenet.fine", second))
    plain = reference.GCSN(first, graph.edges).eval(), reference.ResUNet(second).eval()
    return network, partial(reference.parsed, *plain)


@pytest.mark.parametrize(
    "size",
    [(5, 64, 80), (1, 64, 80), (2, 33, 47), (7, 90, 31), (18, 40, 40), (23, 21, 96), (4, 4, 6), (3, 1, 5), (3, 3, 1)],
    ids=str,
)
def test_any_size_gives_what_the_plain_form_gives(size: tuple[int, ...]) -> None:
    """Fewer slices than the first stage wants, as many, more; odd rows and columns, larger and smaller."""
    network, plain = both()
    x = raw(1, 1, *size)
    with torch.inference_mode():
        expected, _ = plain(x[0, 0].numpy(), (5, 16, 32), (32, 48))
        scores = network(x)
        labels = network.label(x)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert labels.shape == (1, 1, *size) and labels.dtype == torch.uint8
    assert torch.equal(labels, scores.argmax(dim=1, keepdim=True).byte())


@pytest.mark.parametrize("stages", ["both", "coarse", "refine"])
@pytest.mark.parametrize("samples", [1, 2])
def test_labels_are_the_greatest_scores(stages: str, samples: int) -> None:
    network, x = small(stages=stages), raw(samples, 1, 7, 33, 40)
    given = {"coarse_logits": image((samples, 6, 7, 16, 32), "unary")} if stages == "refine" else {}
    scores = inferred(network, x, **given)
    with torch.inference_mode():
        labels = network.label(x, **given)
    assert scores.shape == (samples, 6, 7, 33, 40)
    assert labels.unique().numel() > 1
    assert torch.equal(labels, scores.argmax(dim=1, keepdim=True).byte())
    for number in range(samples):
        alone = {key: value[number : number + 1] for key, value in given.items()}
        torch.testing.assert_close(
            inferred(network, x[number : number + 1], **alone)[0], scores[number], atol=1e-6, rtol=0
        )


def test_each_stage_by_itself() -> None:
    network, x = small(), raw(1, 1, 6, 40, 48)
    state = network.state_dict()
    alone = {stage: small(stages=stage) for stage in ("coarse", "refine")}
    for stage, prefix in (("coarse", "coarse."), ("refine", "refinement.")):
        own = {key: value for key, value in state.items() if key.startswith(prefix)}
        alone[stage].load_state_dict(own, strict=True)
    with torch.inference_mode():
        logits = network.coarse_logits(x[:, :, :, 10:30])
        expected = network(x)
        torch.testing.assert_close(alone["refine"](x, logits), expected)
        torch.testing.assert_close(network(x, logits), expected)
        assert relative_l2(network(x, logits.roll(1, dims=1)), expected) > 1e-3, "the given logits are taken"
        coarse = alone["coarse"](x)
    assert relative_l2(coarse, expected) > 1e-3
    sums = coarse[:, :, :, 10:30].sum(dim=1)
    assert (sums - 1).abs().mean() < 0.1 and not coarse[:, :, :, :10].any(), "probabilities, resized label by label"


def test_the_second_stage_without_coarse_logits() -> None:
    network, x = small(stages="refine", coarse_input=False), raw(1, 1, 3, 20, 24)
    assert network.refinement is not None and network.refinement.coarse_channels == 0
    assert torch.equal(inferred(network, x), inferred(network, x, coarse_logits=image((1, 6, 3, 4, 4))))


@pytest.mark.parametrize(("share", "rows"), [(1.0, (0, 21)), (0.5, (5, 16)), (0.25, (7, 14))])
def test_the_crop_is_a_share_of_the_rows(share: float, rows: tuple[int, int]) -> None:
    scores = inferred(small(crop_share=share), raw(1, 1, 3, 21, 24))
    inside = scores[:, :, :, slice(*rows)]
    torch.testing.assert_close(inside.sum(dim=1), torch.ones_like(inside[:, 0]))
    assert scores.sum().item() == pytest.approx(inside.sum().item())


def test_intensities_are_normalised_behind_the_resize() -> None:
    """Constants of other units give the same."""
    x = raw(1, 1, 3, 20, 24)
    expected = inferred(small(), x)
    torch.testing.assert_close(
        inferred(small(intensity_mean=4.66, intensity_std=3.79), x / 100), expected, atol=1e-5, rtol=0
    )
    # beyond the border, and in empty slices, there is 0 as in the raw image
    assert relative_l2(inferred(small(intensity_mean=0.0), x - 466), expected) > 1e-4


def test_a_channel_does_not_depend_on_the_range_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splines overshoot at edges; as in the trainings, each channel is clipped to its own range."""
    edges, network, seen = (raw(1, 1, 3, 20, 24) > 466).float(), small(in_channels=2), list[Tensor]()
    original = network._first_stage
    monkeypatch.setattr(network, "_first_stage", lambda x: (seen.append(x[:, 0]), original(x))[1])
    for other in (edges, 1000 * edges):
        fine = network.eval().prepare(torch.cat([edges, other], dim=1)).fine
        assert fine is not None
        seen.append(fine[:, 0])
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


# Windows along the slices


def recorded(network: SpineParseNet, stage: str, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Shapes of what a stage is given, in time."""
    shapes: list[list[int]] = []
    owner, name = (network, "_first_stage") if stage == "coarse" else (network.refinement, "forward")
    original = getattr(owner, name)

    def keep(x: Tensor, *others: Any) -> Tensor:
        shapes.append(list(x.shape))
        return original(x, *others)

    monkeypatch.setattr(owner, name, keep)
    return shapes


@pytest.mark.parametrize(
    ("windows", "depth", "expected"),
    [
        ("whole", 12, [12]),
        ("sliding", 12, [5, 5, 5, 5, 5]),
        ("sliding", 5, [5]),
        ("sliding", 3, [5]),
        ("whole", 3, [5]),
    ],
)
def test_windows_along_the_slices(
    windows: str, depth: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = small(windows=windows, overlap=0.5), raw(1, 1, depth, 20, 24)
    shapes = recorded(network, "coarse", monkeypatch)
    assert inferred(network, x).isfinite().all()
    assert shapes == [[1, 1, slices, 16, 32] for slices in expected]


def test_windows_of_a_network_that_sees_one_slice_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for windows in ("whole", "sliding"):
        network, x = small(windows=windows), raw(1, 1, 12, 20, 24)
        monkeypatch.setattr(network, "_first_stage", lambda z: torch.cat([z, -z, z.sin(), z.cos(), z, z], dim=1))
        found.append(inferred(network, x))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


# Mirrored views


@pytest.mark.parametrize("depth", [1, 4, 7])
def test_mirrored_views_are_averaged(depth: int) -> None:
    network, x = small(), raw(1, 1, depth, 33, 40)
    with torch.inference_mode():
        views = [network.prepare(x), network.prepare(x.flip(2), mirrored=True)]
        labels = network.winners(x.shape[2:], views)
        scores = network(x) + network(x.flip(2)).flip(2)
        mirrored = network.winners(x.shape[2:], [network.prepare(x.flip(2)), network.prepare(x, mirrored=True)])
    assert torch.equal(labels, scores.argmax(dim=1).byte())
    assert torch.equal(mirrored.flip(1), labels)


def test_the_inferer_labels_volumes() -> None:
    network, x = small(), MetaTensor(raw(2, 1, 5, 33, 40), affine=torch.diag(torch.tensor([4.0, 1, 1, 1])))
    with torch.inference_mode():
        labels = SpineInferer()(x, network)
        mirrored = SpineInferer(tta=True)(x, network)
        scores = network(x.as_tensor())
        both_ways = scores + network(x.as_tensor().flip(2)).flip(2)
    assert isinstance(labels, MetaTensor) and torch.equal(labels.affine, x.affine)
    assert torch.equal(labels.as_tensor(), scores.argmax(dim=1, keepdim=True).byte())
    assert torch.equal(mirrored.as_tensor(), both_ways.argmax(dim=1, keepdim=True).byte())
    with pytest.raises(InputError, match="stored logits are of the volumes as they are"):
        SpineInferer(tta=True, logits=lambda name, depth: torch.zeros(6, depth, 16, 32))


def test_the_inferer_runs_one_stage() -> None:
    network, x = small(), image((2, 1, 5, 16, 32))
    assert network.coarse is not None and network.refinement is not None
    with torch.inference_mode():
        found = SpineInferer()(x, network.coarse)
        assert torch.equal(found, network.coarse(x).argmax(dim=1, keepdim=True).byte())
        slices, logits = image((2, 1, 5, 32, 48)), image((2, 6, 5, 16, 32), "unary")
        refined = SpineInferer(slices_at_once=2)(slices, network.refinement, logits)
        for number in range(5):
            expected = network.refinement(slices[:, :, number], logits[:, :, number]).argmax(dim=1)
            assert torch.equal(refined[:, 0, number], expected.byte())


# Memory


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // leaf.itemsize for leaf in tree_leaves(out) if torch.is_tensor(leaf)]
        self.numbers = max([self.numbers, *sizes])
        return out


@pytest.mark.parametrize("slices_at_once", [1, 3, 8])
def test_no_more_than_a_few_slices_are_refined_at_a_time(slices_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = small(slices_at_once=slices_at_once), raw(1, 1, 20, 96, 160)
    shapes = recorded(network, "refine", monkeypatch)
    with torch.no_grad(), Largest() as largest:
        network.label(x)
    assert sum(samples for samples, *_ in shapes) == 20
    assert max(samples for samples, *_ in shapes) == slices_at_once
    of_slices = slices_at_once * 6 * 48 * 160
    assert largest.numbers <= max(of_slices, x.numel()), "no scores of the whole volume"


# What it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": "fine"}, "stages is 'fine': choose one of both, coarse, refine"),
        ({"windows": "all"}, "windows is 'all': choose one of whole, sliding"),
        ({"coarse_size": (16, 32)}, r"coarse_size is \[16, 32\], fine_size \[32, 48\]: give slices, rows and columns"),
        ({"fine_size": (0, 32)}, r"fine_size \[0, 32\]"),
        ({"intensity_std": 0.0}, "intensity_std is 0.0, slices_at_once 2: give more than 0"),
        ({"slices_at_once": 0}, "slices_at_once 0: give more than 0"),
        ({"fine_size": (30, 48)}, r"fine_size is \[30, 48\]: give multiples of 16"),
        ({"filters": (4,)}, "two levels at least"),
        ({"graph_mode": "gcn"}, "graph_mode is 'gcn'"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_unfit_volumes_are_refused() -> None:
    network = small()
    for shape in ((1, 1, 20, 24), (1, 2, 3, 20, 24), (1, 1, 0, 20, 24)):
        with pytest.raises(ValueError, match=r"SpineParseNet of 1 channels got .*: give N x C x D x H x W"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="takes the first stage's logits: give coarse_logits, or stages both"):
        small(stages="refine")(raw(1, 1, 3, 20, 24))
    with pytest.raises(InputError, match="crop_share"):
        small(crop_share=0.0)(raw(1, 1, 3, 20, 24))
