# SPDX-License-Identifier: Apache-2.0
"""Weights towards borders against golden maps, and where there is no border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ConcatItemsd
from scipy.ndimage import distance_transform_edt

from custom_nets.errors import InputError
from custom_nets.spine.border_weights import BorderWeightsd, slice_border_weights, volume_border_weights
from tests.golden import draw
from tests.recipe import arrays

GOLDEN = arrays("spineparsenet")


def golden_mask() -> np.ndarray:
    labels = np.clip(np.rint(5 * draw("weight_mask", (2, 4, 5)) + 9.5), 0, 19).astype(np.uint8)
    for axis, times in enumerate((2, 3, 2)):
        labels = labels.repeat(times, axis)
    return np.where(labels < 8, 0, labels)


def test_golden_weights() -> None:
    np.testing.assert_allclose(volume_border_weights(golden_mask()), GOLDEN["weight_coarse"], atol=1e-5)
    np.testing.assert_allclose(slice_border_weights(golden_mask()), GOLDEN["weight_fine"], atol=1e-5)


def test_distances_of_a_full_mask_are_those_of_the_library_that_made_the_goldens() -> None:
    labels = np.stack([np.full((5, 6), 1), np.full((5, 6), 2)])
    expected = 1 + 40 * np.exp(-np.square(distance_transform_edt(np.ones((5, 6))) / 6))
    np.testing.assert_allclose(slice_border_weights(labels)[0], expected)
    np.testing.assert_array_equal(slice_border_weights(labels, absent="none"), np.ones((2, 5, 6)))


def test_borders_weigh_most_and_labels_that_a_slice_lacks_can_be_left_out() -> None:
    labels = np.zeros((2, 20, 30), np.uint8)
    labels[0, 5:15, 10:20] = 3
    weights = slice_border_weights(labels, absent="none")
    assert weights[0, 5, 10] == weights[0].max() and weights[0, 5, 10] > 1.5 * weights[0, 10, 15]
    assert (weights[1] == 1).all(), "the second slice shows no border"
    assert (slice_border_weights(labels)[1] > 1).any()


@pytest.mark.parametrize("label", [0, 4])
def test_a_volume_without_a_border_weighs_alike(label: int) -> None:
    np.testing.assert_array_equal(volume_border_weights(np.full((3, 4, 5), label), alpha=2), np.full((3, 4, 5), 2.0))


@pytest.mark.parametrize("stage", ["coarse", "refinement"])
def test_the_transform_makes_a_second_channel_for_the_loss(stage: str) -> None:
    label = MetaTensor(torch.from_numpy(golden_mask())[None], meta={"filename_or_obj": "a.nii.gz"})
    chain = Compose([BorderWeightsd("label", "weight", stage), ConcatItemsd(["label", "weight"], "label")])
    found = chain({"label": label})
    expected = GOLDEN["weight_coarse" if stage == "coarse" else "weight_fine"]
    np.testing.assert_array_equal(found["label"][0], golden_mask())
    np.testing.assert_allclose(found["label"][1], expected, atol=1e-5)
    assert found["weight"].meta["filename_or_obj"] == "a.nii.gz" and found["weight"].dtype == torch.float32


def test_unknown_words_are_refused() -> None:
    with pytest.raises(InputError, match="the stage of border weights is 'fine': choose coarse or refinement"):
        BorderWeightsd("label", stage="fine")
    with pytest.raises(InputError, match="absent is 'zero': choose published or none"):
        slice_border_weights(np.zeros((1, 2, 2)), absent="zero")
