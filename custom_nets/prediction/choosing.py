# SPDX-License-Identifier: Apache-2.0
"""The fastest of several ways to compute that gives float32's labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from custom_nets.prediction.agreement import AGREEMENT

_logger = logging.getLogger(__name__)

Way = TypeVar("Way")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """How a network is computed.

    Attributes:
        name: of the way.
        way: what computes.
        agreement: share of equal labels on what it was tried on; None where nothing was compared.
    """

    name: str
    way: Way
    agreement: float | None = None


def chosen(
    own: Choice[Way],
    tried: tuple[Found, float],
    there: Mapping[str, Callable[[], Way]],
    trial: Callable[[Way], tuple[Found, float]],
    share: Callable[[Found], float],
) -> Choice[Way]:
    """Try what there is on a few windows.

    Args:
        own: the way that the bundle takes by itself; kept unless another one is faster.
        tried: what a trial of it found, and its seconds.
        there: name -> makes a way, which may take a while or fail.
        trial: computes by a way; returns what it found, and the seconds that it took when warm.
        share: of labels that are float32's in what was found.

    Returns:
        The fastest way of those that give float32's labels in at least `AGREEMENT` of the voxels, or ``own``.
    """
    found, seconds = tried
    best = Choice(own.name, own.way, share(found))
    _logger.info("%s: %.2f s, %.4f of the labels as in float32", own.name, seconds, best.agreement)
    for name, make in there.items():
        try:
            way = make()
            found, taken = trial(way)
        except Exception as error:  # a back end that cannot take this network is no reason to stop
            _logger.info("%s: does not run here (%s)", name, (str(error).splitlines() or [repr(error)])[0])
            continue
        agreement = share(found)
        _logger.info("%s: %.2f s, %.4f of the labels as in float32", name, taken, agreement)
        if agreement >= AGREEMENT and taken < seconds:
            best, seconds = Choice(name, way, agreement), taken
    return best
