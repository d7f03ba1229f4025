# SPDX-License-Identifier: Apache-2.0
"""Both index rules of nearest-neighbour resizing against golden maps, SciPy, and their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from custom_nets.errors import InputError
from custom_nets.slices.resize import nearest_indices, resize_nearest, source_position
from tests.recipe import arrays, document

GOLDEN = arrays("s2anet")
MAPS = document("s2anet")["preprocessing"]["index_maps"]
RULES = {"pil_nearest": "accumulated", "zoom0": "endpoints"}
SIZES = [
    (1, 5),
    (5, 1),
    (7, 7),
    (12, 16),
    (16, 12),
    (192, 512),
    (512, 192),
    (320, 512),
    (640, 512),
    (513, 511),
    (3, 64),
]


@pytest.mark.parametrize("name", MAPS)
def test_golden_index_maps(name: str) -> None:
    rule, n_in, n_out = name.replace("_to_", "_").rsplit("_", 2)
    assert nearest_indices(int(n_in), int(n_out), RULES[rule]).tolist() == MAPS[name]


@pytest.mark.parametrize(("name", "rule"), [("prep_pil_nearest", "accumulated"), ("prep_zoom_order0", "endpoints")])
def test_golden_slices(name: str, rule: str) -> None:
    resized = resize_nearest(torch.from_numpy(GOLDEN["prep_uint8"]), (16, 16), rule)
    assert np.array_equal(resized, GOLDEN[name])


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_endpoints_is_scipys_zoom(n_in: int, n_out: int) -> None:
    row = np.arange(n_in)
    assert nearest_indices(n_in, n_out, "endpoints").tolist() == ndimage.zoom(row, n_out / n_in, order=0).tolist()


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_accumulated_adds_up_one_after_the_other(n_in: int, n_out: int) -> None:
    expected, t = [], 0.5 * (n_in / n_out)
    for _ in range(n_out):
        expected.append(int(t))
        t += n_in / n_out
    assert nearest_indices(n_in, n_out).tolist() == expected


@pytest.mark.parametrize("rule", ["accumulated", "endpoints"])
@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_indices_rise_within_the_row_near_their_position(rule: str, n_in: int, n_out: int) -> None:
    indices = nearest_indices(n_in, n_out, rule)
    assert indices.dtype == torch.int64 and len(indices) == n_out
    assert indices.min() >= 0 and indices.max() < n_in and (indices.diff() >= 0).all()
    scale, offset = source_position(n_in, n_out, rule)
    assert (indices - (scale * torch.arange(n_out, dtype=torch.float64) + offset)).abs().max() <= 0.5 + 1e-9


@pytest.mark.parametrize("rule", ["accumulated", "endpoints"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.bool], ids=str)
def test_larger_and_back_is_lossless(rule: str, dtype: torch.dtype) -> None:
    label = torch.randint(0, 2, (3, 10, 14), generator=torch.Generator().manual_seed(0)).to(dtype)
    larger = resize_nearest(label, (64, 48), rule)
    assert larger.shape == (3, 64, 48) and larger.dtype == dtype
    assert torch.equal(resize_nearest(larger, (10, 14), rule), label)


def test_a_slice_of_the_wanted_size_is_itself() -> None:
    label = torch.zeros(2, 5, 6)
    assert resize_nearest(label, (5, 6)) is label


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 8, "nearest"), "index_rule is 'nearest': choose one of accumulated, endpoints"),
        ((0, 8), "cannot resize 0 pixels to 8"),
        ((4, 0), "cannot resize 4 pixels to 0"),
    ],
)
def test_unfit_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest_indices(*arguments)
