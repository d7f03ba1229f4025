# SPDX-License-Identifier: Apache-2.0
"""Clean-up: what MONAI's transform keeps, faster, and every label for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import KeepLargestConnectedComponent
from scipy.ndimage import gaussian_filter

from custom_nets.errors import InputError
from custom_nets.spine.clean_up import LargestComponentPerLabeld, largest_component_per_label


@pytest.mark.parametrize(("connectivity", "hops"), [(6, 1), (18, 2), (26, 3)])
def test_keeps_what_monai_keeps(connectivity: int, hops: int) -> None:
    scores = gaussian_filter(np.random.default_rng(0).standard_normal((5, 8, 20, 24)), (0, 1, 1, 1))
    labels = scores.argmax(0).astype(np.uint8)
    cleaned = largest_component_per_label(labels, connectivity)
    keep = KeepLargestConnectedComponent(is_onehot=False, independent=True, connectivity=hops)
    assert np.array_equal(cleaned, keep(torch.tensor(labels)[None])[0].numpy())
    assert (cleaned != labels).any() and cleaned.dtype == labels.dtype


def test_other_labels_stay_as_they_are() -> None:
    labels = np.zeros((3, 4, 9), dtype=np.int16)
    labels[1, 1, :3], labels[1, 1, 4:6], labels[1, 2, 4:6] = 1, 1, 7
    expected = labels.copy()
    expected[1, 1, 4:6] = 0
    assert np.array_equal(largest_component_per_label(labels), expected)
    assert labels[1, 1, 4] == 1  # the input is not changed


def test_transform_keeps_type_and_metadata() -> None:
    values = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    values[0, 0, 0, :2], values[0, 2, 2, 2] = 3, 3
    volume = MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])), meta={"filename_or_obj": "a"})
    result = LargestComponentPerLabeld("pred")({"pred": volume, "other": 1})
    assert result["pred"].sum() == 6 and result["pred"].dtype == torch.uint8 and result["other"] == 1
    assert torch.equal(result["pred"].affine, volume.affine) and result["pred"].meta["filename_or_obj"] == "a"
    assert volume.sum() == 9


def test_wrong_input() -> None:
    with pytest.raises(InputError, match="connectivity is 4"):
        LargestComponentPerLabeld("pred", connectivity=4)
    with pytest.raises(InputError, match=r"'pred' has the shape \(2, 3, 4, 5\)"):
        LargestComponentPerLabeld("pred")({"pred": torch.zeros(2, 3, 4, 5)})
    with pytest.raises(InputError, match="without channels"):
        largest_component_per_label(np.zeros((1, 2, 3, 4), dtype=int))
