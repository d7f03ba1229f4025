# SPDX-License-Identifier: Apache-2.0
"""The schedules of three papers against golden rates, and why a published loop is not run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from custom_nets.errors import InputError
from custom_nets.schedules import (
    CosineRestarts,
    DropsAtThirds,
    WarmPlateauCosine,
    drops_at_thirds,
    official,
    sgdr,
    warm_plateau_cosine,
)
from tests.recipe import document

SCHEDULE = document("zoom_resunet")["schedule"]
PLATEAU = document("s2ca_net")["misc"]["schedule"]
THIRDS = document("spineparsenet")["schedule"]
N, RESTART, EPOCHS, RATE = (SCHEDULE[key] for key in ("iterations_per_epoch", "restart", "epochs", "base_lr"))


def optimiser() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)


def published_loop() -> Iterator[float]:
    """Rates of the published script: PyTorch's cosine, stepped each iteration, its counter set back by hand."""
    stepped = optimiser()
    scheduler = CosineAnnealingLR(stepped, T_max=RESTART * N)
    for epoch in range(EPOCHS):
        for _ in range(N):
            yield stepped.param_groups[0]["lr"]
            stepped.step()
            scheduler.step()
        if epoch > RESTART and epoch % RESTART == 0:
            scheduler.last_epoch = -1


def rates(name: str) -> np.ndarray:
    """All rates of a run that is stepped as the bundle does it."""
    stepped = optimiser()
    scheduler = LambdaLR(stepped, CosineRestarts(name, N, RESTART))
    found = []
    for _ in range(EPOCHS * N):
        found.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "golden", "total"), [("official", "official", "sum_official"), ("sgdr", "intended_sgdr", "sum_intended")]
)
def test_golden_rates(name: str, golden: str, total: str) -> None:
    found = rates(name)
    np.testing.assert_allclose(found[SCHEDULE["k"]], SCHEDULE[golden], rtol=1e-9, atol=1e-15)
    assert found.sum() == pytest.approx(SCHEDULE[total], rel=1e-9)


def test_golden_means_of_epochs() -> None:
    means = rates("official").reshape(EPOCHS, N).mean(axis=1)[:: SCHEDULE["epoch_mean_official_stride"]]
    np.testing.assert_allclose(means, SCHEDULE["epoch_mean_official"], rtol=1e-9, atol=1e-15)


def test_the_published_loop_on_this_pytorch_freezes_at_the_third_restart() -> None:
    """Hence the rates are computed from the iteration and no scheduler's counter is touched."""
    found = np.array(list(published_loop()))
    np.testing.assert_allclose(found[SCHEDULE["k"]], SCHEDULE["official_on_torch_2_13"], rtol=1e-6, atol=1e-15)
    assert found.sum() == pytest.approx(SCHEDULE["sum_torch_2_13"], rel=1e-9)
    frozen = (3 * RESTART + 1) * N
    np.testing.assert_allclose(found[:frozen], rates("official")[:frozen], atol=1e-3 * RATE)
    assert found[frozen + 1 :].max() < 1e-3 * RATE < rates("official")[frozen + 1 :].max()


@pytest.mark.parametrize(("n", "restart"), [(4, 50), (1, 1), (7, 3), (208, 50)])
def test_shape_of_the_official_schedule(n: int, restart: int) -> None:
    period, first = restart * n, (2 * restart + 1) * n
    assert official(0, n, restart) == 1
    assert official(period, n, restart) == 0
    assert official(2 * period, n, restart) == 1
    for cycle in range(4):
        start = first + cycle * period
        assert official(start + 1, n, restart) == 1, "one iteration after a reset the rate is whole again"
        expected = (1 + np.cos(np.pi * ((2 * restart + 1) * n if cycle == 0 else period - 1) / period)) / 2
        assert official(start, n, restart) == pytest.approx(expected, abs=1e-12)
    assert all(0 <= official(k, n, restart) <= 1 for k in range(first + 2 * period))


@pytest.mark.parametrize("period", [1, 2, 200])
def test_sgdr_restarts_each_period(period: int) -> None:
    cycle = [sgdr(k, period) for k in range(period)]
    assert cycle[0] == 1
    assert cycle == sorted(cycle, reverse=True) and cycle[-1] > 0
    assert [sgdr(k + 3 * period, period) for k in range(period)] == cycle


@pytest.mark.parametrize("name", ["sgdr", "official"])
def test_a_resumed_run_goes_on_where_it_was(name: str) -> None:
    whole = rates(name)
    stepped = optimiser()
    scheduler = LambdaLR(stepped, CosineRestarts(name, N, RESTART))
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 406, "_step_count": 407})
    found = []
    for _ in islice(range(10), 10):
        stepped.step()
        scheduler.step()
        found.append(stepped.param_groups[0]["lr"])
    assert found == whole[407:417].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 4, 50), "schedule is 'cosine': choose sgdr"),
        (("sgdr", 4, 0), "restart_epochs is 0: give a whole number of at least 1"),
    ],
)
def test_unfit_options_are_refused(arguments: tuple[str, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CosineRestarts(*arguments)


def test_golden_rates_of_warm_up_plateau_and_cosine_through_the_scheduler() -> None:
    golden = PLATEAU["short"]
    stepped = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=golden["max_lr"])
    factor = WarmPlateauCosine(1, golden["warmup"], golden["plateau"], golden["cycle"])
    scheduler = LambdaLR(stepped, factor)
    found = []
    for _ in golden["lr_used_at_iteration"]:
        found.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    np.testing.assert_allclose(found, golden["lr_used_at_iteration"], rtol=1e-9)


def test_golden_rates_of_the_paper() -> None:
    golden = PLATEAU["paper"]
    factor = WarmPlateauCosine(golden["iterations_per_epoch"])  # the defaults are the paper's
    found = [golden["max_lr"] * factor(k) for k in golden["iteration"]]
    np.testing.assert_allclose(found, golden["lr"], rtol=1e-9)


def test_past_the_last_epoch_the_rate_rises_unless_clamped() -> None:
    options = {"iterations_per_epoch": 3, "warmup_epochs": 0, "plateau_epochs": 0, "epochs": 10, "lowest": 0.01}
    assert warm_plateau_cosine(0, **options) == 1, "without warm-up and plateau it begins to fall at once"
    assert warm_plateau_cosine(30, **options) == pytest.approx(0.01)
    assert warm_plateau_cosine(40, **options) == pytest.approx(warm_plateau_cosine(20, **options))
    clamped = WarmPlateauCosine(**options, clamp=True)
    assert [clamped(k) for k in range(30)] == [warm_plateau_cosine(k, **options) for k in range(30)]
    assert clamped(30) == clamped(40) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 55}, "warmup_epochs is 5, plateau_epochs 50 and epochs 55: give numbers of at least 0"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
        ({"lowest": 0.0}, "lowest is 0.0: give a share of the learning rate above 0"),
    ],
)
def test_an_unfit_plateau_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WarmPlateauCosine(4, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "rate", "epochs"),
    [("coarse_pretrain_1e-3_100", 1e-3, 100), ("coarse_gcsn_1e-3_50", 1e-3, 50), ("fine_1e-4_100", 1e-4, 100)],
)
@pytest.mark.parametrize("iterations", [1, 3])
def test_golden_rates_that_drop_at_thirds(name: str, rate: float, epochs: int, iterations: int) -> None:
    stepped = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = LambdaLR(stepped, DropsAtThirds(iterations, epochs))
    found = []
    for _ in range(epochs * iterations):
        found.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    np.testing.assert_allclose(found, np.repeat(THIRDS[name], iterations), rtol=1e-12)


@pytest.mark.parametrize(("epochs", "drops"), [(1, [2]), (2, [1, 2]), (3, [0, 1, 2]), (5, [0, 1, 1, 2, 2])])
def test_short_runs_drop_as_the_formula_says(epochs: int, drops: list[int]) -> None:
    found = [drops_at_thirds(epoch, 1, epochs, factor=0.5) for epoch in range(epochs)]
    assert found == [0.5**count for count in drops]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "epochs is 0: give a whole number"), ({"epochs": 9, "factor": 0}, "factor is 0: give a share")],
)
def test_unfit_drops_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DropsAtThirds(4, **options)  # type: ignore[arg-type]
