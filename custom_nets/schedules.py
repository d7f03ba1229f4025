# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions of the iteration, so that a resumed run cannot lose its place."""

from __future__ import annotations

import math

from custom_nets.errors import InputError


def sgdr(step: int, period: int) -> float:
    """Cosine with warm restarts (Loshchilov and Hutter 2017), as a share of the initial rate.

    Args:
        step: iteration, counted from 0.
        period: T, iterations from one restart to the next.

    Returns:
        (1 + cos(π (step mod T) / T)) / 2, above 0 up to 1.
    """
    return _cosine(step % period, period)


def official(step: int, iterations_per_epoch: int, restart_epochs: int) -> float:
    """The rate that zoom-in&out training's script gives on the PyTorch of its time, as a share of the initial rate.

    Its first reset comes at the end of epoch 2R in place of R: the rate falls for R epochs, climbs back for R epochs
    along the same cosine and stays near 1 in epoch 2R. Every later cycle takes R epochs; its first iteration still has
    the rate left over from before the reset. (Since PyTorch 1.10 the same script freezes the rate near 0 at epoch 3R.)

    Args:
        step: iteration, counted from 0.
        iterations_per_epoch: n, iterations an epoch.
        restart_epochs: R.

    Returns:
        0 to 1.
    """
    period = restart_epochs * iterations_per_epoch
    first_reset = (2 * restart_epochs + 1) * iterations_per_epoch
    if step <= first_reset:
        return _cosine(step, period)
    since = (step - first_reset) % period
    return _cosine(since - 1 if since else period - 1, period)


def warm_plateau_cosine(
    step: int,
    iterations_per_epoch: int,
    warmup_epochs: int,
    plateau_epochs: int,
    epochs: int,
    lowest: float,
    clamp: bool = False,
) -> float:
    """S2CA-Net's schedule, as a share of the initial rate: a linear rise, a plateau at 1, half a cosine.

    With W, M and T the warm-up, the plateau and the whole run in iterations: lowest + (1 - lowest) s, where s is k / W
    for k < W, 1 for k < W + M and (1 + cos(π (k - W - M) / (T - W - M))) / 2 from there on.

    Args:
        step: k, iteration, counted from 0.
        iterations_per_epoch: iterations an epoch.
        warmup_epochs: 0 begins on the plateau.
        plateau_epochs: may be 0.
        epochs: of the run, more than both together.
        lowest: share at the very beginning and at the end.
        clamp: stay at the lowest share after T; as published the cosine rises again.

    Returns:
        lowest to 1.
    """
    warmup, end = warmup_epochs * iterations_per_epoch, epochs * iterations_per_epoch
    fall = (warmup_epochs + plateau_epochs) * iterations_per_epoch
    if step < warmup:
        share = step / warmup
    elif step < fall:
        share = 1.0
    else:
        share = _cosine((min(step, end) if clamp else step) - fall, end - fall)
    return lowest + (1 - lowest) * share


def _cosine(step: int, period: int) -> float:
    return (1 + math.cos(math.pi * step / period)) / 2


class CosineRestarts:
    """Factor of the learning rate for `torch.optim.lr_scheduler.LambdaLR`, stepped once an iteration.

    Args:
        schedule: "sgdr" or "official"; see the functions of these names.
        iterations_per_epoch: iterations an epoch, all processes of a distributed run counted once.
        restart_epochs: epochs from one restart to the next.

    Raises:
        InputError: for an unknown schedule, or less than one iteration or epoch.
    """

    def __init__(self, schedule: str, iterations_per_epoch: int, restart_epochs: int = 50) -> None:
        if schedule not in ("sgdr", "official"):
            raise InputError(
                f"schedule is {schedule!r}: choose sgdr (warm restarts) or official (the published script)"
            )
        if min(iterations_per_epoch, restart_epochs) < 1:
            raise InputError(f"restart_epochs is {restart_epochs!r}: give a whole number of at least 1")
        self.schedule = schedule
        self.iterations_per_epoch = iterations_per_epoch
        self.restart_epochs = restart_epochs

    def __call__(self, step: int) -> float:
        """The factor of iteration ``step``, counted from 0."""
        if self.schedule == "sgdr":
            return sgdr(step, self.restart_epochs * self.iterations_per_epoch)
        return official(step, self.iterations_per_epoch, self.restart_epochs)


class WarmPlateauCosine:
    """Factor of the learning rate for `torch.optim.lr_scheduler.LambdaLR`; see :func:`warm_plateau_cosine`.

    Args:
        iterations_per_epoch: iterations an epoch, all processes of a distributed run counted once.
        warmup_epochs: of the linear rise.
        plateau_epochs: at the full rate.
        epochs: of the run.
        lowest: share of the rate at the very beginning and at the end, above 0 and at most 1.
        clamp: stay at the lowest share after the last epoch; as published the rate rises again.

    Raises:
        InputError: for a negative number of epochs, or if nothing is left of the run behind warm-up and plateau.
    """

    def __init__(
        self,
        iterations_per_epoch: int,
        warmup_epochs: int = 5,
        plateau_epochs: int = 50,
        epochs: int = 400,
        lowest: float = 0.001,
        clamp: bool = False,
    ) -> None:
        if min(warmup_epochs, plateau_epochs) < 0 or warmup_epochs + plateau_epochs >= epochs:
            raise InputError(
                f"warmup_epochs is {warmup_epochs!r}, plateau_epochs {plateau_epochs!r} and epochs {epochs!r}: give"
                " numbers of at least 0 whose sum is below epochs"
            )
        if not 0 < lowest <= 1:
            raise InputError(f"lowest is {lowest!r}: give a share of the learning rate above 0, such as 0.001")
        self.iterations_per_epoch = iterations_per_epoch
        self.warmup_epochs = warmup_epochs
        self.plateau_epochs = plateau_epochs
        self.epochs = epochs
        self.lowest = lowest
        self.clamp = clamp

    def __call__(self, step: int) -> float:
        """The factor of iteration ``step``, counted from 0."""
        return warm_plateau_cosine(
            step,
            self.iterations_per_epoch,
            self.warmup_epochs,
            self.plateau_epochs,
            self.epochs,
            self.lowest,
            self.clamp,
        )


def drops_at_thirds(step: int, iterations_per_epoch: int, epochs: int, factor: float = 0.2) -> float:
    """SpineParseNet's schedule, as a share of the initial rate: factor^([e >= floor(E / 3)] + [e >= floor(E / 1.5)]).

    Args:
        step: iteration, counted from 0; e = step // iterations_per_epoch is its epoch.
        iterations_per_epoch: iterations an epoch.
        epochs: E, of the run. With fewer than three both drops may come at once, in the first epoch.
        factor: of each drop.
    """
    epoch = step // iterations_per_epoch
    return factor ** sum(epoch >= drop for drop in (epochs // 3, math.floor(epochs / 1.5)))


class DropsAtThirds:
    """Factor of the learning rate for `torch.optim.lr_scheduler.LambdaLR`; see :func:`drops_at_thirds`.

    Args:
        iterations_per_epoch: iterations an epoch, all processes of a distributed run counted once; 1 if the scheduler
            is stepped once an epoch.
        epochs: of the run.
        factor: of each drop, above 0 and at most 1.

    Raises:
        InputError: for less than one iteration or epoch, or a factor out of range.
    """

    def __init__(self, iterations_per_epoch: int, epochs: int, factor: float = 0.2) -> None:
        if min(iterations_per_epoch, epochs) < 1:
            raise InputError(f"epochs is {epochs!r}: give a whole number of at least 1")
        if not 0 < factor <= 1:
            raise InputError(f"factor is {factor!r}: give a share of the learning rate above 0, such as 0.2")
        self.iterations_per_epoch = iterations_per_epoch
        self.epochs = epochs
        self.factor = factor

    def __call__(self, step: int) -> float:
        """The factor of iteration ``step``, counted from 0."""
        return drops_at_thirds(step, self.iterations_per_epoch, self.epochs, self.factor)
