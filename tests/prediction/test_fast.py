# SPDX-License-Identifier: Apache-2.0
"""The fastest way that agrees is taken, and what it computes is what the network computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from custom_nets import S2aNet
from custom_nets.blocks.frugal import frugal
from custom_nets.inferers import Ensemble
from custom_nets.nets.s2ca_net import S2CANet
from custom_nets.precision import MixedPrecisionInferer, amp_pays
from custom_nets.prediction import fast, fast_slices
from custom_nets.prediction.agreement import AGREEMENT, equal_labels, equal_regions
from custom_nets.prediction.fast import FastForward, expect, made_fast, told
from custom_nets.prediction.fast_slices import FastSlices
from custom_nets.prediction.ways import COMPILATION, CONVERSION, ways
from custom_nets.slices.inferer import SliceStackInferer
from custom_nets.spine.inferers import SpineInferer
from custom_nets.tumours.transforms import RegionsFromLogitsd
from tests.bundle_runs import TINY
from tests.spineparsenet_files import small

CPU = torch.device("cpu")


class Layer(nn.Module):
    """A network of three classes that takes a second by the clock."""

    in_channels = 1

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, 3, 3, padding=1).requires_grad_(False)
        self.clock = clock

    def forward(self, windows: Tensor) -> Tensor:
        self.clock.now += 1.0
        return self.layer(windows)


@dataclass
class Clock:
    """What `perf_counter` says."""

    now: float = 0.0
    calls: list[str] = field(default_factory=list)

    def way(self, name: str, network: Layer, seconds: float, change: float = 0.0, wrong: float = 0.0) -> Any:
        """A way that takes so long; logits change by a constant, and in a share of the voxels another class wins."""

        def forward(windows: Tensor) -> Tensor:
            self.calls.append(name)
            self.now += seconds
            logits = network.layer(windows) + change
            voxels = logits.flatten(2)
            voxels[..., : int(wrong * voxels.shape[2])] *= -1
            return logits

        return lambda: forward


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def inject(monkeypatch: pytest.MonkeyPatch, there: Mapping[str, Callable[[], Any]]) -> list[float]:
    """These are the ways of this machine; how much was said to be left, in seconds."""
    told: list[float] = []

    def injected(network: object, device: object, example: object, left: float) -> Any:
        told.append(left)
        return there

    monkeypatch.setattr(fast, "ways", injected)
    return told


def windows(*shape: int) -> Tensor:
    return torch.rand(shape or (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(3))


def test_the_fastest_way_that_agrees_is_taken(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Layer(clock)

    def failing() -> Any:
        raise RuntimeError("no such instruction\nat all")

    def failing_later() -> Any:
        return lambda windows: windows.reshape(7, 7)

    there = {
        "slower": clock.way("slower", network, 1.5),
        "agrees": clock.way("agrees", network, 0.5, change=0.25),
        "agrees nearly": clock.way("agrees nearly", network, 0.6, wrong=0.005),
        "disagrees": clock.way("disagrees", network, 0.1, wrong=0.05),
        "fails": failing,
        "fails later": failing_later,
    }
    inject(monkeypatch, there)
    forward, image = FastForward(network, CPU), windows()
    wanted = network.layer(image)
    assert torch.equal(forward(image), wanted)
    assert told(forward) == {"ways": ["exact"], "agreement": None}, "nothing was chosen"
    assert torch.equal(forward(image), wanted), "float32's result, whatever was chosen meanwhile"
    assert told(forward) == {"ways": ["agrees"], "agreement": 1.0}
    clock.calls.clear()
    torch.testing.assert_close(forward(image), wanted + 0.25)
    last = windows(1, 1, 8, 8, 8)
    torch.testing.assert_close(forward(last), network.layer(last) + 0.25), "a last batch that is smaller"
    assert clock.calls == ["agrees", "agrees"]


def test_what_agrees_in_nearly_all_voxels_is_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Layer(clock)
    inject(monkeypatch, {"nearly": clock.way("nearly", network, 0.5, wrong=0.005)})
    forward = FastForward(network, CPU)
    for _ in range(2):
        forward(windows())
    assert forward.choice is not None and forward.choice.agreement is not None
    assert AGREEMENT <= forward.choice.agreement < 1
    assert told(Ensemble([forward, FastForward(network, CPU)])) == {
        "ways": ["nearly"],
        "agreement": round(forward.choice.agreement, 5),
    }


def test_without_a_faster_way_it_stays_float32(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Layer(clock)
    inject(monkeypatch, {"slow": clock.way("slow", network, 1.1), "wrong": clock.way("wrong", network, 0.1, wrong=1)})
    forward, image = FastForward(network, CPU), windows()
    for _ in range(3):
        assert torch.equal(forward(image), network.layer(image))
    assert told(forward) == {"ways": ["float32"], "agreement": 1.0}


def test_warming_up_does_not_count(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    network, seconds = Layer(clock), iter([60.0, 0.5, 0.5])

    def forward(windows: Tensor) -> Tensor:
        clock.now += next(seconds)
        return network.layer(windows)

    inject(monkeypatch, {"compiled": lambda: forward})
    made = FastForward(network, CPU)
    for _ in range(3):
        made(windows())
    assert told(made)["ways"] == ["compiled"]


@torch.inference_mode()
def test_what_is_left_has_to_pay_for_a_trial(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    left = inject(monkeypatch, {"no": lambda: None})
    network = Layer(clock)
    forward = FastForward(network, CPU)
    expect(Ensemble([forward]), 40)
    for _ in range(3):
        forward(windows())
    assert left == [39.0, 38.0]


@pytest.mark.parametrize(("left", "mixed", "there"), [
    (0.0, True, []),
    (CONVERSION + 1, False, ["OpenVINO float32"]),
    (CONVERSION + 1, True, ["OpenVINO bfloat16"]),
    (COMPILATION + 1, True, ["compiled bfloat16", "OpenVINO bfloat16"]),
])  # fmt: skip
def test_what_is_tried_pays(
    clock: Clock, left: float, mixed: bool, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_nets.prediction.ways.find_spec", lambda name: name)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        assert list(ways(Layer(clock), CPU, [windows()], left)) == there
        assert not [name for name in ways(S2CANet(patch_size=16), CPU, [windows()], left) if "OpenVINO" in name]


def test_little_work_is_computed_as_the_bundle_does(clock: Clock) -> None:
    network, image = Layer(clock), windows()
    forward = FastForward(network, CPU)
    expect(forward, 5)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = [forward(image) for _ in range(3)]
        wanted = network.layer(image).float()
    assert all(torch.equal(one, wanted) for one in found)
    assert told(forward) == {"ways": ["bfloat16"], "agreement": None}


def test_a_gpu_is_timed_when_it_is_done(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work is only queued when a call returns."""
    network, queued = Layer(clock), [0.0]

    def way(windows: Tensor) -> Tensor:
        queued[0] += 5.0
        return network.layer(windows)

    def synchronize(_: object = None) -> None:
        clock.now += queued[0]
        queued[0] = 0.0

    inject(monkeypatch, {"queues": lambda: way})
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    forward = FastForward(network, torch.device("cuda"))
    for _ in range(2):
        forward(windows())
    assert told(forward)["ways"] == ["float32"]


def test_what_else_a_network_is_asked_it_answers(clock: Clock) -> None:
    forward = FastForward(Layer(clock), CPU)
    assert forward.in_channels == 1
    assert forward.layer.out_channels == 3
    with pytest.raises(AttributeError, match="depth"):
        _ = forward.depth


def test_shares_of_equal_labels() -> None:
    one, other = torch.tensor([[[1.0, 5, 2, 0]], [[0.0, 9, 3, 1]]]).transpose(0, 1), torch.zeros(1, 2, 4)
    other[:, 1] = torch.tensor([-1.0, 1, -1, 1])
    assert equal_labels(one, other) == pytest.approx(2 / 3), "classes 0111 and 0101: 2 of 3 that are not background"
    assert equal_labels(one[:, :1], other[:, 1:]) == 0.25, "one channel by its sign: 1110 and 0101"
    assert equal_regions(one, one) == 1.0
    assert equal_regions(one, other) == 0.25


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Three layers with norms, large logits."""
    torch.manual_seed(2)
    layers = [nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.LeakyReLU(), nn.Conv3d(8, 3, 3, padding=1)]
    return nn.Sequential(*layers).requires_grad_(False).eval()


@pytest.mark.parametrize("mixed", [False, True])
@torch.inference_mode()
def test_openvino_agrees(network: nn.Module, mixed: bool) -> None:
    pytest.importorskip("openvino")
    if mixed and not amp_pays(CPU):
        pytest.skip("no bfloat16 instructions")
    images = windows(2, 1, 16, 16, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        [(name, make)] = ways(network, CPU, [images], CONVERSION + 1).items()
        assert name == ("OpenVINO bfloat16" if mixed else "OpenVINO float32")
        forward = make()
        outputs = [forward(given) for given in (images, images[:1])]  # the last batch is smaller
    for given, found in zip((images, images[:1]), outputs, strict=True):
        assert found.dtype == torch.float32
        assert equal_labels(found, network(given)) >= AGREEMENT
        assert (found - network(given)).abs().max() < 0.05 * network(given).abs().max()


def slices_network() -> S2aNet:
    """As tiny as that of the quick runs, with logits that are not all alike."""
    torch.manual_seed(0)
    network = S2aNet(feature_scale=TINY["s2anet"].options["feature_scale"], out_channels=4).eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.requires_grad_(False)


@pytest.mark.parametrize("way", ["float32", "OpenVINO float32"])
@torch.inference_mode()
def test_slices_are_labelled_as_by_the_network(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way.startswith("OpenVINO"):
        pytest.importorskip("openvino")
    plain = slices_network()
    scan = MetaTensor(torch.rand(1, 1, 40, 44, 9, generator=torch.Generator().manual_seed(4)) * 900)
    inferer = SliceStackInferer(TINY["s2anet"].options["patch_size"], batch_size=4)
    fast_one = FastSlices(plain, CPU)
    fast_one.calls = 9
    monkeypatch.setattr(fast_slices, "_TRIAL", 0.0 if way.startswith("OpenVINO") else 600.0)
    timed: Any = FastSlices._trial
    seconds = iter([3.0, 2.0, 1.0])  # float32 as what is held to, and as the bundle's own; OpenVINO
    monkeypatch.setattr(FastSlices, "_trial", lambda self, *given: (timed(self, *given)[0], next(seconds)))
    wanted = inferer(scan, plain)
    with frugal():  # as in a prediction
        found = inferer(scan, fast_one)
    assert len(wanted.unique()) > 1
    assert (found == wanted).float().mean() >= AGREEMENT
    assert told(fast_one)["ways"] == [way]
    if way == "float32":
        assert torch.equal(found, wanted)
        assert told(fast_one)["agreement"] is None
    else:
        assert told(fast_one)["agreement"] >= AGREEMENT
    assert fast_one.num_slices == plain.num_slices


def opened(network: nn.Module, *postprocessing: Any) -> Any:
    """A stand-in with what `made_fast` looks at; `replace` needs a data class."""

    @dataclass(frozen=True)
    class Opened:
        network: nn.Module
        device: torch.device
        inferer: Any
        postprocessing: list[Any]

    return Opened(network, CPU, MixedPrecisionInferer(SpineInferer()), list(postprocessing))


@torch.inference_mode()
def test_the_second_stage_of_a_spine_is_made_fast(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sees slice after slice, where the first one sees the volume once."""
    volume = 466 + 379 * torch.randn(1, 1, 6, 24, 36, generator=torch.Generator().manual_seed(5))
    wanted = SpineInferer()(volume, small())
    network = small()
    refinement, seen = network.refinement, SimpleNamespace(calls=0)

    def way(*inputs: Tensor) -> Tensor:
        seen.calls += 1
        return refinement(*inputs)  # type: ignore[misc]

    there = {"counts": lambda: way}
    inject(monkeypatch, there)
    ticks = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) ** 0.5)  # each call takes less than those before
    model = made_fast(opened(network))
    assert model.network is network
    assert isinstance(network.refinement, FastForward)
    found = SpineInferer()(volume, model.network)
    assert torch.equal(found, wanted)
    assert seen.calls > 2
    assert told(model.network)["ways"] == ["counts"]


def test_every_member_of_an_ensemble_is_made_fast(clock: Clock) -> None:
    members = [Layer(clock), slices_network()]
    made: Any = made_fast(opened(Ensemble(members), RegionsFromLogitsd("pred"))).network
    assert [type(one) for one in made.members] == [FastForward, FastSlices]
    assert made.members[0].same is equal_regions
    made = made_fast(opened(Layer(clock))).network
    assert made.same is equal_labels
