# SPDX-License-Identifier: Apache-2.0
"""Connected components: neighbourhoods, boxes and the removal of small lesions."""

from __future__ import annotations

import numpy as np
import pytest

from custom_nets.components import bounding_box, connected_components, neighbourhood, remove_small_components
from custom_nets.errors import InputError
from custom_nets.metrics import lesion_metrics
from tests.recipe import arrays, document

MASKS = arrays("rsanet")
REFERENCE = document("rsanet")["reference_not_official"]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_neighbourhood_has_as_many_neighbours_as_its_name_says(connectivity: int) -> None:
    assert neighbourhood(connectivity).sum() == connectivity + 1


@pytest.mark.parametrize("connectivity", [1, 3, 8, 27])
def test_unknown_connectivity_is_refused(connectivity: int) -> None:
    with pytest.raises(InputError, match=r"6 .*18 .*26"):
        neighbourhood(connectivity)


@pytest.mark.parametrize(("step", "joined_from"), [((0, 0, 1), 6), ((0, 1, 1), 18), ((1, 1, 1), 26)])
def test_two_voxels_join_from_their_connectivity_on(step: tuple[int, int, int], joined_from: int) -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[tuple(np.add(1, step))] = True
    for connectivity in (6, 18, 26):
        voxels = connected_components(mask, connectivity).voxels
        assert voxels.tolist() == ([2] if connectivity >= joined_from else [1, 1])


def test_bounding_box_holds_all_voxels_and_no_empty_border() -> None:
    mask = np.zeros((7, 8, 9), bool)
    mask[2, 3, 5] = mask[4, 6, 5] = True
    assert bounding_box(mask) == (slice(2, 5), slice(3, 7), slice(5, 6))


def test_bounding_box_of_nothing_is_empty() -> None:
    mask = np.zeros((3, 3, 3), bool)
    assert mask[bounding_box(mask)].size == 0
    assert not remove_small_components(mask, 3).any()


@pytest.mark.parametrize(("connectivity", "smallest"), [(26, 3), (26, 5), (6, 5)])
def test_removal_of_small_components_fulfils_the_golden_numbers(connectivity: int, smallest: int) -> None:
    golden = REFERENCE[f"remove_small_conn{connectivity}_min{smallest}"]
    kept = remove_small_components(MASKS["mask_pred"] != 0, smallest, connectivity=connectivity)
    assert kept.sum() == golden["voxels"]
    assert len(connected_components(kept, connectivity).voxels) == golden["lesions"]
    assert lesion_metrics(kept, MASKS["mask_ref"])["dice"] == pytest.approx(golden["metrics_dice"], abs=1e-12)


@pytest.mark.parametrize(("min_volume", "kept"), [(2.99, 3), (3.0, 3), (3.01, 0)])
@pytest.mark.parametrize("rounding", [1.0 - 1e-7, 1.0, 1.0 + 1e-7])
def test_component_of_exactly_the_smallest_volume_is_kept(min_volume: float, kept: int, rounding: float) -> None:
    mask = np.zeros((3, 3, 5), bool)
    mask[1, 1, 1:4] = True
    assert remove_small_components(mask, min_volume, voxel_volume=rounding).sum() == kept
