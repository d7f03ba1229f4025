# SPDX-License-Identifier: Apache-2.0
"""Cleaning of predicted regions against golden volumes, voxel for voxel, and its rules one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.tumours.cleaning import (
    labels_from_regions,
    remove_small_regions,
    suppress_small_enhancing,
    suppress_small_enhancing_part,
)
from custom_nets.tumours.regions import converted
from tests.recipe import arrays, document

GOLDEN = arrays("s2ca_net")
POST = document("s2ca_net")["misc"]["post"]["values"]
INPUT = GOLDEN["post.input"][0]
FORMS = {"overlap": suppress_small_enhancing, "discrete": suppress_small_enhancing_part}


def regions(shape: tuple[int, int, int] = (6, 7, 8)) -> np.ndarray:
    """Four empty channels, the background's full."""
    return np.stack([np.ones(shape, np.uint8)] + [np.zeros(shape, np.uint8)] * 3)


@pytest.mark.parametrize("smallest", [10, 40])
def test_removal_gives_the_golden_regions(smallest: int) -> None:
    kept = remove_small_regions(INPUT, smallest)
    np.testing.assert_array_equal(kept, GOLDEN[f"post.remove_{smallest}"][0])
    assert kept.dtype == INPUT.dtype and kept.sum() == POST["sums"][f"post.remove_{smallest}"]


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threshold", [30, 400, 100000])
def test_suppression_gives_the_golden_regions(threshold: int, form: str, mode: Any) -> None:
    found = FORMS[form](INPUT, threshold, mode)
    np.testing.assert_array_equal(found, GOLDEN[f"post.suppress_{threshold}_{form}_{mode}"][0])
    assert found.dtype == INPUT.dtype


def test_the_inputs_are_not_changed() -> None:
    before = INPUT.copy()
    remove_small_regions(INPUT), suppress_small_enhancing(INPUT), labels_from_regions(INPUT, "nested")
    np.testing.assert_array_equal(INPUT, before)


@pytest.mark.parametrize(("size", "kept"), [(9, 0), (10, 10)])
def test_ten_voxels_stay_and_nine_go(size: int, kept: int) -> None:
    channels = regions((3, 3, 12))
    channels[:, 1, 1, :size] = 1
    assert remove_small_regions(channels).sum(axis=(1, 2, 3)).tolist() == [108, kept, kept, kept]


def test_voxels_that_meet_at_an_edge_are_two_components() -> None:
    channels = regions()
    channels[1, 0, 0, :2] = channels[1, 1, 1, :2] = 1
    assert remove_small_regions(channels, 3)[1].sum() == 0
    channels[1, 0, 1, 0] = 1  # now all five meet at faces
    assert remove_small_regions(channels, 3)[1].sum() == 5


def test_removal_leaves_the_background_and_does_not_nest_again() -> None:
    channels = regions()
    channels[0] = 0
    channels[0, 0, 0, 0] = 1  # a speck of background
    channels[1, 2, 2, :5] = 1
    channels[2, 2, 2, :2] = 1
    assert remove_small_regions(channels, 4).sum(axis=(1, 2, 3)).tolist() == [1, 5, 0, 0]


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize(("threshold", "left"), [(5, 5), (6, 0), (0, 5)])
def test_fewer_voxels_than_the_threshold_are_small(threshold: int, left: int, mode: Any) -> None:
    channels = regions()
    channels[1, 0, 0, :5] = 1
    found = suppress_small_enhancing(channels, threshold, mode)
    assert found.sum(axis=(1, 2, 3)).tolist() == [channels[0].sum(), left, 5 - left, 5 - left]


def test_local_suppression_spares_the_large_component() -> None:
    channels = regions()
    channels[1:, 0, 0, :2] = 1
    channels[1:, 3, 3, :6] = 1
    assert suppress_small_enhancing(channels, 4, "local")[1].sum() == 6
    assert suppress_small_enhancing(channels, 4, "global")[1].sum() == 8
    assert suppress_small_enhancing(channels, 4, "local")[2].sum() == 8


@pytest.mark.parametrize("form", ["coherent", "incoherent"])
def test_golden_labels_of_regions(form: str) -> None:
    channels = GOLDEN["labels.overlap"][0] if form == "coherent" else GOLDEN["labels.incoherent"]
    labels = labels_from_regions(channels)
    np.testing.assert_array_equal(labels, GOLDEN[f"labels.discretized_{form}"])
    assert labels.dtype == np.uint8
    if form == "coherent":
        np.testing.assert_array_equal(labels_from_regions(channels, "nested"), labels)
        np.testing.assert_array_equal(labels, converted(GOLDEN["labels.input"][0, 0], "brats2023"))


@pytest.mark.parametrize(
    ("et", "tc", "wt", "published", "nested"),
    [
        (0, 0, 0, 0, 0), (0, 0, 1, 2, 2), (0, 1, 0, 1, 1), (0, 1, 1, 1, 1),
        (1, 0, 0, 4, 4), (1, 0, 1, 2, 4), (1, 1, 0, 4, 4), (1, 1, 1, 4, 4),
    ],
)  # fmt: skip
def test_the_label_of_every_combination(et: int, tc: int, wt: int, published: int, nested: int) -> None:
    channels = np.array([0, et, tc, wt], np.uint8).reshape(4, 1, 1, 1)
    assert labels_from_regions(channels).item() == published
    assert labels_from_regions(channels, "nested").item() == nested


@pytest.mark.parametrize("threshold", [400, 30, 5000])
def test_the_golden_chain_from_logits_to_labels(threshold: int) -> None:
    binary = (1 / (1 + np.exp(-GOLDEN["chain.logits"][0])) >= 0.5).astype(np.uint8)
    cleaned = suppress_small_enhancing(remove_small_regions(binary), threshold)
    np.testing.assert_array_equal(cleaned, GOLDEN[f"chain.overlap_{threshold}"][0])
    labels = labels_from_regions(cleaned)
    np.testing.assert_array_equal(labels, GOLDEN[f"chain.labels_{threshold}"])
    assert np.bincount(labels.ravel(), minlength=5).tolist() == POST["chain_counts"][f"chain.labels_{threshold}"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: remove_small_regions(INPUT[:3]), r"shape \[3, 20, 22, 18\]: give 4 x D x H x W, the channels backg"),
        (lambda: labels_from_regions(INPUT[0]), "give 4 x D x H x W"),
        (lambda: suppress_small_enhancing(INPUT, mode="lokal"), "mode is 'lokal': choose global or local"),  # type: ignore[arg-type]
        (lambda: labels_from_regions(INPUT, "none"), "nesting is 'none': choose published or nested"),  # type: ignore[arg-type]
    ],
)
def test_wrong_use_is_answered_with_the_value_found(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
