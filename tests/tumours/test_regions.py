# SPDX-License-Identifier: Apache-2.0
"""Label conventions and the regions made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.tumours.regions import CHANNELS, CONVENTIONS, REGIONS, converted, region_masks, values_of
from tests.recipe import arrays

#: Background, core, oedema and enhancing tumour in each convention.
PARTS = {"brats": [0, 1, 2, 4], "brats2023": [0, 1, 2, 3], "msd": [0, 2, 1, 3]}


@pytest.mark.parametrize("to", PARTS)
@pytest.mark.parametrize("convention", PARTS)
def test_conversion_keeps_the_parts(convention: str, to: str) -> None:
    label = np.array(PARTS[convention]).reshape(1, 2, 2)
    found = converted(label, convention, to)
    assert found.ravel().tolist() == PARTS[to] and found.shape == label.shape and found.dtype == np.uint8
    np.testing.assert_array_equal(converted(found, to, convention), label)


def test_values_that_are_no_part_become_background() -> None:
    assert converted([0, 1, 2, 3, 4, 5, 255], "brats").tolist() == [0, 1, 2, 0, 4, 0, 0]


@pytest.mark.parametrize("convention", PARTS)
def test_regions_are_nested_and_hold_their_parts(convention: str) -> None:
    masks = region_masks(PARTS[convention], convention)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "ET": [False, False, False, True],
        "TC": [False, True, False, True],
        "WT": [False, True, True, True],
    }
    assert tuple(masks) == CHANNELS[1:] == tuple(REGIONS)


def test_regions_are_the_goldens() -> None:
    golden = arrays("s2ca_net")
    for channel, mask in enumerate(region_masks(golden["labels.input"][:, 0], "brats2023").values(), 1):
        np.testing.assert_array_equal(mask, golden["labels.overlap"][:, channel])


def test_the_bundle_speaks_of_the_same_labels() -> None:
    assert bundle("s2ca_net").modalities == ("T1", "T2", "T1CE", "FLAIR")
    assert set(CONVENTIONS) == set(PARTS)


@pytest.mark.parametrize("use", [values_of, lambda name: converted([0], name), lambda name: region_masks([0], name)])
def test_an_unknown_convention_is_refused_and_the_known_ones_named(use: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"'brats2020': choose one of brats \(1 core, 2 oedema, 4 enhancing\)"):
        use("brats2020")
