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
