# SPDX-License-Identifier: Apache-2.0
"""A metric over scans: golden bootstrap, values that do not exist."""

from __future__ import annotations

import math

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.metrics import bootstrap_interval, distribution, mean_and_deviation
from tests.golden import draw
from tests.recipe import document

GOLDEN = document("zoom_resunet")["reference_not_official"]["bootstrap"]
VALUES = 1.0 / (1.0 + np.exp(-0.6 - draw("boot_dsc", (GOLDEN["n"],))))


def test_golden_distribution() -> None:
    found = distribution(VALUES, resamples=GOLDEN["resamples"], seed=0)
    for key, name in {"mean": "mean", "median": "median", "ci95": "ci95_percentile", "iqr": "iqr"}.items():
        assert found[key] == pytest.approx(GOLDEN[name], rel=1e-9), key
    assert found["std"] == pytest.approx(VALUES.std(ddof=1))


def test_interval_is_that_of_the_mean() -> None:
    """A quarter of the scans' spread cannot hold the mean of skewed values; about 1.96 standard errors do."""
    values = np.random.default_rng(0).exponential(size=400)
    low, high = bootstrap_interval(values, resamples=4000, seed=1)
    error = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), rel=0.02)
    assert (low, high) == bootstrap_interval(values, resamples=4000, seed=1) != bootstrap_interval(values, 4000, 2)


def test_undefined_values_are_left_out_and_counted() -> None:
    found = distribution([0.25, math.nan, 0.75, math.inf])
    assert found == distribution([0.25, 0.75]) | {"left_out": 2}
    assert (found["n"], found["mean"], found["iqr"]) == (2, 0.5, [0.375, 0.625])


def test_nothing_but_undefined_values() -> None:
    found = distribution([math.nan])
    assert found.pop("left_out") == 1 and found.pop("n") == 0
    assert set(found.values()) == {None}


def test_deviation_of_a_population_divides_by_n() -> None:
    found = mean_and_deviation([1.0, 3.0, math.nan], of_population=True)
    assert found == {"mean": 2.0, "std": 1.0, "n": 2, "left_out": 1}
    assert mean_and_deviation([1.0, 3.0])["std"] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(("values", "resamples"), [([], 10), ([1.0], 0)])
def test_bootstrap_of_nothing_is_refused(values: list[float], resamples: int) -> None:
    with pytest.raises(InputError, match=rf"{len(values)} values in {resamples} resamples"):
        bootstrap_interval(values, resamples)
