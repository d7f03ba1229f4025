# SPDX-License-Identifier: Apache-2.0
"""Flips at test time and windows: which passes are averaged, what the network sees, and where it is put back."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.inferers import CentreCropInferer, FlipTTAInferer, ForegroundInferer, VolumeInferer
from tests.golden import draw
from tests.recipe import arrays, document

ALL_FLIPS = list(chain.from_iterable(combinations((2, 3, 4), size) for size in range(4)))
WINDOW = (8, 8, 8)


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def network(kernel: int, symmetric: bool = False) -> nn.Module:
    """A convolution to 3 classes; flips change its result unless its kernel is symmetric."""
    torch.manual_seed(0)
    convolution = nn.Conv3d(2, 3, kernel, padding=kernel // 2)
    if symmetric:
        weight = convolution.weight.data
        convolution.weight.data = sum(weight.flip(axes) if axes else weight for axes in ALL_FLIPS)
    return convolution.eval().requires_grad_(False)


def sliding(**options: Any) -> SlidingWindowInferer:
    return SlidingWindowInferer(WINDOW, overlap=0.5, mode="gaussian", **options)


def test_one_pass_of_a_whole_volume_is_softmax() -> None:
    x, net = image(2, 2, 4, 5, 6), network(3)
    torch.testing.assert_close(FlipTTAInferer(SimpleInferer(), tta=False)(x, net), net(x).softmax(1))


@pytest.mark.parametrize(
    ("flips", "axes"), [("all", ALL_FLIPS), ([[], [0], [0, 2]], [(), (2,), (2, 4)]), ([[1]], [(3,)])]
)
def test_flips_give_the_mean_of_the_probabilities(flips: Any, axes: list[tuple[int, ...]]) -> None:
    x, net = image(1, 2, 6, 7, 8), network(3)
    passes = [net(x.flip(flip)).softmax(1).flip(flip) for flip in axes]
    result = FlipTTAInferer(SimpleInferer(), flips=flips)(x, net)
    torch.testing.assert_close(result, torch.stack(passes).mean(0))
    assert (result - FlipTTAInferer(SimpleInferer(), tta=False)(x, net)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(16, 16, 16), (11, 13, 18)])
@pytest.mark.parametrize(("kernel", "symmetric"), [(1, False), (3, True)])
def test_network_that_flips_do_not_change_gives_the_same_as_one_pass(
    shape: tuple[int, ...], kernel: int, symmetric: bool
) -> None:
    x, net = image(1, 2, *shape), network(kernel, symmetric)
    once, all_flips = (FlipTTAInferer(sliding(), tta=tta)(x, net) for tta in (False, True))
    torch.testing.assert_close(all_flips, once, rtol=0, atol=1e-6)


def test_windows_blend_probabilities_not_logits() -> None:
    x = image(1, 2, 12, 8, 8)
    factor = iter((1.0, 30.0))  # the second window is far more confident than the first

    def confident(windows: Tensor) -> Tensor:
        return torch.cat([windows[:1], -windows[:1]], dim=1)[:, ::3] * next(factor)

    result = FlipTTAInferer(SlidingWindowInferer(WINDOW, overlap=0.5), tta=False)(x, confident)
    common = torch.stack([x[:, 0, 4:8], -x[:, 1, 4:8]], dim=1)
    expected = (common.softmax(1) + (30.0 * common).softmax(1)) / 2
    torch.testing.assert_close(result[:, :, 4:8], expected)


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 6, 7), (4, 20, 9)])
@pytest.mark.parametrize("windows_a_batch", [1, 3])
def test_probabilities_sum_to_one_on_any_volume(shape: tuple[int, ...], windows_a_batch: int) -> None:
    x = image(2, 2, *shape)
    result = FlipTTAInferer(sliding(sw_batch_size=windows_a_batch), tta=True)(x, network(3))
    assert result.shape == (2, 3, *shape)
    torch.testing.assert_close(result.sum(1), torch.ones(2, *shape))
    assert result.min() >= 0


def test_low_precision_is_averaged_in_float32_and_metadata_are_kept() -> None:
    x = MetaTensor(image(1, 2, 9, 9, 9).bfloat16(), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    net = network(3).bfloat16()
    result = FlipTTAInferer(sliding())(x, lambda windows: net(windows.bfloat16()))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(1).as_tensor(), torch.ones(1, 9, 9, 9))
    assert torch.equal(result.affine, x.affine)


def test_all_flips_of_a_plane_are_four() -> None:
    calls: list[Tensor] = []

    def count(windows: Tensor) -> Tensor:
        calls.append(windows)
        return windows

    FlipTTAInferer(SimpleInferer())(image(1, 2, 5, 6), count)
    assert len(calls) == 4


@pytest.mark.parametrize("flips", ["some", [], [0, 1]])
def test_unreadable_flips_are_refused(flips: Any) -> None:
    with pytest.raises(InputError, match="flips is"):
        FlipTTAInferer(SimpleInferer(), flips=flips)


def test_axis_that_the_image_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"axis 3.*\[0, 1, 2\]"):
        FlipTTAInferer(SimpleInferer(), flips=[[], [3]])(image(1, 2, 4, 4, 4), network(1))


def test_sigmoid_of_each_channel() -> None:
    x, net = image(2, 2, 4, 5, 6), network(3)
    result = FlipTTAInferer(SimpleInferer(), tta=False, activation="sigmoid")(x, net)
    torch.testing.assert_close(result, net(x).sigmoid())
    passes = [net(x.flip(flip)).sigmoid().flip(flip) for flip in ALL_FLIPS]
    averaged = FlipTTAInferer(SimpleInferer(), activation="sigmoid")(x, net)
    torch.testing.assert_close(averaged, torch.stack(passes).mean(0))


def test_what_the_network_gives_is_not_changed() -> None:
    """Here it is the window itself, or a tensor that the network keeps."""
    x = image(1, 2, 4, 5, 6)
    before = x.clone()
    torch.testing.assert_close(FlipTTAInferer(SimpleInferer(), activation="none")(x, lambda window: window), before)
    assert torch.equal(x, before)


def test_another_activation_is_refused() -> None:
    with pytest.raises(InputError, match="activation is 'relu'; choose one of softmax, sigmoid, none"):
        FlipTTAInferer(SimpleInferer(), activation="relu")


class Seen:
    """A network of probabilities from 1 to 2, which notes the windows it is given."""

    def __init__(self, channels: int = 1) -> None:
        self.channels = channels
        self.windows: list[Tensor] = []

    def __call__(self, windows: Tensor) -> Tensor:
        self.windows.append(windows)
        return 1 + windows.sigmoid().expand(-1, self.channels, -1, -1, -1)


@pytest.mark.parametrize(
    ("shape", "roi", "start"),
    [
        ((20, 24, 22), (8, 8, 8), (6, 8, 7)),
        ((20, 24, 22), (9, 12, 7), (5, 6, 7)),
        ((20, 24, 22), (20, 24, 22), (0, 0, 0)),
        ((20, 24, 22), (5, 24, 6), (7, 0, 8)),
    ],
    ids=str,
)
def test_the_centred_crop_is_seen_and_put_back(
    shape: tuple[int, ...], roi: tuple[int, ...], start: tuple[int, ...]
) -> None:
    assert document("zoom_resunet")["crops"]["center"][str(roi)]["start"] == list(start)
    x, net = image(2, 1, *shape), Seen()
    result = CentreCropInferer(roi)(x, net)
    assert result.shape == x.shape
    inside = (..., *(slice(s, s + length) for s, length in zip(start, roi, strict=True)))
    assert [window.tolist() for window in net.windows] == [x[inside].tolist()]
    assert torch.equal(result[inside], 1 + x[inside].sigmoid())
    result[inside] = 0
    assert not result.any()


@pytest.mark.parametrize(
    ("shape", "roi"), [((5, 9, 8), (8, 8, 8)), ((5, 20, 3), (8, 8, 8)), ((4, 4, 4), (9, 8, 7))], ids=str
)
def test_a_volume_thinner_than_the_crop_is_padded_and_cut_back(shape: tuple[int, ...], roi: tuple[int, ...]) -> None:
    x, net = image(1, 1, *shape), Seen()
    result = CentreCropInferer(roi)(x, net)
    assert result.shape == x.shape
    (window,) = net.windows
    assert tuple(window.shape[2:]) == roi
    seen = x
    for axis, (n, s) in enumerate(zip(shape, roi, strict=True), start=2):
        seen = seen.narrow(axis, max((n - s) // 2, 0), min(n, s))
        start = max(-((n - s) // 2), 0)
        window = window.narrow(axis, start, min(n, s))
    assert torch.equal(window, seen), "the volume lies in the middle of the padded window"
    assert (net.windows[0] != 0).sum() == seen.numel(), "the rest is 0"
    assert (result > 0).sum() == seen.numel()


def test_outside_of_the_crop_the_first_of_several_channels_is_certain() -> None:
    x = image(1, 1, 12, 8, 8)
    result = CentreCropInferer(WINDOW)(x, lambda windows: torch.full((1, 3, *windows.shape[2:]), 1 / 3))
    outside = torch.cat([result[:, :, :2], result[:, :, 10:]], dim=2)
    assert (outside[:, 0] == 1).all() and not outside[:, 1:].any()
    torch.testing.assert_close(result.sum(1), torch.ones(1, 12, 8, 8))


@pytest.mark.parametrize("shape", [(12, 10, 9), (8, 8, 8), (5, 6, 20)], ids=str)
def test_the_whole_volume_in_one_pass(shape: tuple[int, ...]) -> None:
    x, net = image(1, 1, *shape), Seen()
    result = CentreCropInferer(None)(x, net)
    assert tuple(net.windows[0].shape[2:]) == tuple(max(n, 8) for n in shape)
    torch.testing.assert_close(result, 1 + x.sigmoid())


@pytest.mark.parametrize("roi", [(8, 8, 8), None], ids=str)
def test_crops_keep_metadata(roi: Any) -> None:
    x = MetaTensor(image(1, 1, 9, 10, 11), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    result = CentreCropInferer(roi)(x, lambda windows: torch.as_tensor(windows).sigmoid().half())
    assert isinstance(result, MetaTensor)
    assert result.dtype == torch.float16 and result.shape == x.shape
    assert torch.equal(result.affine, x.affine)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("centre", CentreCropInferer(WINDOW)),
        ("sliding", SlidingWindowInferer(WINDOW, 2, 0.25, mode="gaussian")),
        ("whole", CentreCropInferer(None)),
    ],
)
@pytest.mark.parametrize("shape", [(13, 16, 9), (6, 20, 8)], ids=str)
def test_the_ways_to_see_a_volume(windows: str, expected: Any, shape: tuple[int, ...]) -> None:
    x, net = image(1, 2, *shape), network(3)
    inferer = VolumeInferer(windows, WINDOW, sw_batch_size=2, overlap=0.25)
    torch.testing.assert_close(inferer(x, net), expected(x, net))
    averaged = FlipTTAInferer(inferer, activation="sigmoid")(x, net)
    assert averaged.shape == (1, 3, *shape) and averaged.max() <= 1


def test_another_way_is_refused() -> None:
    with pytest.raises(InputError, match="windows is 'center'; choose centre, sliding or whole"):
        VolumeInferer("center", WINDOW)


def test_golden_logits_of_the_published_windows() -> None:
    golden = document("s2ca_net")["misc"]["sliding"]
    volume = torch.from_numpy(draw("volume", golden["shape"]).astype(np.float32))
    inferer = FlipTTAInferer(SlidingWindowInferer(WINDOW, overlap=0.75, mode="constant"), tta=False, activation="none")
    result = inferer(volume, lambda windows: windows * (1 + windows.mean((1, 2, 3, 4), keepdim=True)))
    expected = torch.from_numpy(arrays("s2ca_net")["sw.output"])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_golden_starts_of_the_published_windows() -> None:
    golden = document("s2ca_net")["misc"]["windows"]
    roi, places = golden["roi"], []

    def note(windows: Tensor) -> Tensor:
        places.extend([round(float(value)) for value in window[:, 0, 0, 0]] for window in windows)
        return windows[:, :1]

    axes = (torch.arange(length) for length in golden["volume"])
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].float()
    SlidingWindowInferer([roi] * 3, sw_batch_size=4, overlap=0.75, mode="constant")(coordinates, note)
    assert places == golden["starts"] and len(places) == 50


def test_logits_are_averaged_over_flips() -> None:
    x, net = image(1, 2, 6, 7, 8), network(3)
    passes = [net(x.flip(flip)).flip(flip) if flip else net(x) for flip in ALL_FLIPS]
    result = FlipTTAInferer(SimpleInferer(), activation="none")(x, net)
    torch.testing.assert_close(result, torch.stack(passes).mean(0))
    assert result.min() < 0


OUTSIDE = [10.0, -10.0, -20.0]


def with_body(shape: tuple[int, ...], box: tuple[slice, ...], background: float = -0.7, samples: int = 1) -> Tensor:
    """A volume of one value, but for a box; of its two channels one has no body in it."""
    x = torch.full((samples, 2, *shape), background)
    x[(..., *box)] = image(*x[(..., *box)].shape)
    x[:, 1] = 0.3
    return x


class SeenShapes:
    """A network that notes the windows it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.network = network(3)

    def __call__(self, windows: Tensor) -> Tensor:
        self.shapes.append(tuple(windows.shape[2:]))
        return self.network(windows)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        # of (20, 24, 16): around the body, a window of 8 and as many steps of 4 as it takes, from an even voxel on
        (((3, 15), (5, 19), (2, 12)), ((3, 15), (4, 20), (0, 12))),
        (((9, 11), (5, 19), (2, 12)), ((6, 14), (4, 20), (0, 12))),
        (((9, 12), (5, 19), (2, 12)), ((6, 14), (4, 20), (0, 12))),
        (((4, 13), (0, 20), (2, 16)), ((2, 14), (0, 20), (0, 16))),
        (((1, 3), (21, 23), (15, 16)), ((0, 8), (16, 24), (8, 16))),
        (((0, 20), (0, 24), (0, 16)), ((0, 20), (0, 24), (0, 16))),
    ],
    ids=str,
)
@pytest.mark.parametrize("background", [0.0, -0.7])
def test_the_box_around_the_body(body: Any, seen: Any, background: float) -> None:
    x = with_body((20, 24, 16), tuple(slice(*pair) for pair in body), background)
    x[0, 0, 0, 0, 0] = background  # the corner tells what background is
    net = SeenShapes()
    result = ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE)(x, net)
    inside = (..., *(slice(*pair) for pair in seen))
    assert net.shapes == [tuple(stop - start for start, stop in seen)]
    torch.testing.assert_close(result[inside], network(3)(x[inside]))
    rest = torch.ones(x.shape[2:], dtype=torch.bool)
    rest[inside[1:]] = False
    assert torch.equal(result[0][:, rest].unique(dim=1), torch.tensor(OUTSIDE)[:, None][:, : int(rest.any())])


def test_windows_of_the_box_are_those_of_the_box_alone() -> None:
    x = with_body((30, 26, 22), (slice(4, 25), slice(6, 18), slice(3, 20)))
    result = ForegroundInferer(sliding(sw_batch_size=2), WINDOW, OUTSIDE)(x, network(3))
    box = (..., slice(2, 26), slice(6, 18), slice(0, 20))
    torch.testing.assert_close(result[box], sliding()(x[box], network(3)))


@pytest.mark.parametrize("kernel", [1, 3])
def test_inside_the_body_it_is_the_whole_volumes_result(kernel: int) -> None:
    """Of a network that sees no farther than a voxel, everywhere but at the border of the box."""
    x, net = with_body((24, 20, 18), (slice(4, 18), slice(5, 17), slice(3, 14))), network(kernel)
    whole = ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE, enabled=False)(x, net)
    torch.testing.assert_close(whole, net(x))
    result = ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE)(x, net)
    margin = kernel // 2
    inside = (..., *(slice(a + margin, b - margin) for a, b in ((4, 18), (5, 17), (3, 14))))
    torch.testing.assert_close(result[inside], whole[inside])
    assert (result != whole).any()


def test_the_box_holds_the_bodies_of_all_samples_and_channels() -> None:
    x = with_body((20, 20, 20), (slice(2, 4), slice(2, 4), slice(2, 4)), samples=2)
    x[1, 1, 12, 14, 17] = 5.0
    net = SeenShapes()
    assert ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE)(x, net).shape == (2, 3, 20, 20, 20)
    assert net.shapes == [(12, 16, 16)]


@pytest.mark.parametrize(("overlap", "seen"), [(0.0, 16), (0.5, 12), (0.75, 10)])
def test_the_box_has_whole_steps_of_the_windows(overlap: float, seen: int) -> None:
    x, net = with_body((24, 24, 24), (slice(7, 16),) * 3), SeenShapes()
    ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE, overlap)(x, net)
    assert net.shapes == [(seen,) * 3]


def test_a_volume_without_a_body_is_seen_through_one_window() -> None:
    net = SeenShapes()
    result = ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE)(torch.zeros(1, 2, 20, 24, 8), net)
    assert net.shapes == [WINDOW] and result.shape == (1, 3, 20, 24, 8)


def test_the_box_keeps_metadata_and_device() -> None:
    x = MetaTensor(with_body((12, 12, 12), (slice(2, 11),) * 3), affine=torch.diag(torch.tensor([1.0, 2, 3, 1])))
    result = ForegroundInferer(SimpleInferer(), WINDOW, OUTSIDE)(x, lambda windows: network(3)(windows).half())
    assert isinstance(result, MetaTensor)
    assert result.dtype == torch.float16 and result.device == x.device
    assert torch.equal(result.affine, x.affine)


def test_flips_of_the_box() -> None:
    x, net = with_body((20, 20, 20), (slice(3, 15),) * 3), network(3, symmetric=True)
    inferer = ForegroundInferer(sliding(), WINDOW, OUTSIDE)
    once, flipped = (FlipTTAInferer(inferer, tta=tta, activation="none")(x, net) for tta in (False, True))
    torch.testing.assert_close(flipped, once, rtol=0, atol=1e-5)
