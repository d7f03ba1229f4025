# SPDX-License-Identifier: Apache-2.0
"""The preparation of slices as a whole, against golden arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_nets.errors import InputError
from custom_nets.slices.preparation import SlicePreparation
from tests.recipe import arrays
from tests.slices.test_intensity import golden_volume, windows

GOLDEN = arrays("s2anet")


@pytest.mark.parametrize(("rule", "scaled"), [("accumulated", "prep_pil_nearest"), ("endpoints", "prep_zoom_order0")])
def test_golden_windows(rule: str, scaled: str) -> None:
    preparation = SlicePreparation([16, 16], index_rule=rule)
    assert np.array_equal(windows(preparation.scaled(golden_volume())), GOLDEN[scaled])
    if rule == "accumulated":
        prepared = preparation(golden_volume())
        assert prepared.dtype == torch.float32
        np.testing.assert_allclose(windows(prepared), GOLDEN["prep_normalised"], rtol=1e-5, atol=1e-6)


def test_without_a_size_slices_keep_theirs() -> None:
    scaled = SlicePreparation(None).scaled(golden_volume())
    assert np.array_equal(windows(scaled), GOLDEN["prep_uint8"])


def test_options_reach_the_slices() -> None:
    volume = golden_volume().float()
    volume[0, 0, 0] = 1e5
    published, robust = (
        SlicePreparation((10, 12), mean=0.5, std=0.25, intensity=rule)(volume)[0] for rule in ("minmax", "percentile")
    )
    assert published.amax() == robust.amax() == 2 and published.amin() == robust.amin() == -2
    assert published.median() == -2 < robust.median()


def test_it_works_from_a_config() -> None:
    config = {
        "preparation": {"_target_": "custom_nets.slices.preparation.SlicePreparation", "size": [8, 8], "std": 0.1}
    }
    assert ConfigParser(config).get_parsed_content("preparation")(golden_volume()).shape == (4, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 512}, "size is 512: give two whole numbers"),
        ({"size": [512]}, "size is"),
        ({"size": [512, 0]}, "size is"),
        ({"size": [512, 51.2]}, "size is"),
        ({"size": "64"}, "size is '64'"),
        ({"mean": float("nan")}, "mean is nan"),
        ({"std": 0.0}, "std is 0.0"),
        ({"std": float("inf")}, "std is inf"),
        ({"intensity": "zscore"}, "intensity is 'zscore'"),
        ({"index_rule": "floor"}, "index_rule is 'floor'"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SlicePreparation(**options)
