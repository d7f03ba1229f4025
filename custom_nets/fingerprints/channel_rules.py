# SPDX-License-Identifier: Apache-2.0
"""Whether each modality looks like itself: by its histogram, and by how it goes with the others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from custom_nets.fingerprints.content import Fingerprint, Range
from custom_nets.fingerprints.findings import Finding, Subject, span
from custom_nets.fingerprints.measuring import CaseMeasures, Scan

#: Per quantity, how far outside of the training's range is as much as the spread of one modality among scanners.
_SPREAD = {"contrast_middle": 0.12, "contrast_skewness": 0.6}
_CORRELATION_SPREAD = 0.2
_MOST = 9.0  # three spreads: further out is not more unusual
_ADVANTAGE = 12.0  # in cost, that another order has over the given one if that is wrong
_BETTER = 0.65  # of the given order's cost that the other one may have at most
_MOVING = 0.5  # cost of a modality that changes places: of two orders like one another the nearer is meant
_MOST_MODALITIES = 5  # whose orders are all tried
_OTHER_CONTRAST = 2.4  # spreads, in both quantities, from which on a modality is called another one


def swapped_finding(fingerprint: Fingerprint, names: Sequence[str], case: CaseMeasures) -> Finding | None:
    """The modalities would be as usual in another order.

    Args:
        fingerprint: what the model was trained on.
        names: of the modalities for people, in the order of the fingerprint.
        case: measured, with the fingerprint's modalities as keys.
    """
    given = fingerprint.modalities
    if not 2 <= len(given) <= _MOST_MODALITIES:
        return None
    costs = {order: _cost(fingerprint, case, order) for order in itertools.permutations(given)}
    best = min(costs, key=lambda order: (costs[order] + _MOVING * _moved(given, order), order))
    if costs[best] > min(costs[given] - _ADVANTAGE, _BETTER * costs[given]):
        return None
    called = dict(zip(given, names, strict=True))
    moved = [(called[one], called[other]) for one, other in zip(given, best, strict=True) if one != other]
    if len(moved) == 2:
        text = f"{moved[0][0]} and {moved[0][1]} look swapped: each has the contrast that the other had in training."
    else:
        looks = ", ".join(f"{one} looks like {other}" for one, other in moved)
        text = f"the order of the images looks wrong: {looks}, by their contrast in training."
    return Finding(text, "Give each file under its own modality, or correct the file names.", "channels")


def contrast_finding(subject: Subject, scan: Scan) -> Finding | None:
    """A modality has another contrast than in training, in both of its measures."""
    far = [_outside(scan, subject.fingerprint.seen[subject.modality].ranges, name) for name in _SPREAD]
    if any(one is None or one < _OTHER_CONTRAST for one in far):
        return None
    middle, seen = scan.values["contrast_middle"], subject.seen("contrast_middle")
    assert seen is not None
    return Finding(
        f"{subject.name}: half of the tissue is darker than {middle:.2g} of the range, in training than {span(seen)}.",
        f"This seems to be another sequence than {subject.modality}, or inverted: check which scan it is.",
        "contrast",
    )


def _cost(fingerprint: Fingerprint, case: CaseMeasures, order: Sequence[str]) -> float:
    """How unusual a case is if the scan given as the first modality is that of ``order[0]``, and so on."""
    total = 0.0
    taken = dict(zip(fingerprint.modalities, order, strict=True))
    for given, really in taken.items():
        for name in _SPREAD:
            total += min(_MOST, (_outside(case.scans[given], fingerprint.seen[really].ranges, name) or 0.0) ** 2)
    for pair, value in case.correlations.items():
        one, other = (taken[name] for name in pair.split("/"))
        seen = fingerprint.correlations.get(f"{one}/{other}") or fingerprint.correlations.get(f"{other}/{one}")
        if seen is not None:
            total += min(_MOST, (_distance(value, seen) / _CORRELATION_SPREAD) ** 2)
    return total


def _outside(scan: Scan, ranges: Mapping[str, Range], name: str) -> float | None:
    """By how many spreads a quantity lies outside of the training's range."""
    if name not in scan.values or name not in ranges:
        return None
    return _distance(scan.values[name], ranges[name]) / _SPREAD[name]


def _distance(value: float, seen: Range) -> float:
    return max(seen[0] - value, value - seen[2], 0.0)


def _moved(given: Sequence[str], order: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(given, order, strict=True))
