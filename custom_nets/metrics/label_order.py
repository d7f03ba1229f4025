# SPDX-License-Identifier: Apache-2.0
"""Errors of order: a vertebra, or a disc, that is called another one, most often its neighbour.

Vertebrae look alike, so that a network may outline one well and give it the name of the next. Dice then says 0 and not
why; these counts do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_nets.label_graphs.graph import LabelGraph

#: The groups whose labels stand in a row, from the bottom upwards.
CHAINS = ("vertebra", "disc")

#: What a structure of the reference is called, by the label that most of its voxels carry: its own, that of its
#: neighbour below or above in its chain, another structure's, or none.
CALLS = ("correct", "below", "above", "other", "missed")


@dataclass(frozen=True)
class Call:
    """What one structure of the reference is called in the prediction.

    Attributes:
        node: of the structure.
        called: node of the label that most of its voxels carry, its own in a tie; 0 is the background, which misses it.
        shift: places from its own to that label in their chain, upwards positive; None if it is in no chain or the
            label in none or another.
        neighbour_share: of its voxels, those that carry the label of a neighbour in its chain; NaN without a chain.
    """

    node: int
    called: int
    shift: int | None
    neighbour_share: float

    @property
    def kind(self) -> str:
        """One of `CALLS`."""
        if self.called == self.node:
            return "correct"
        if not self.called:
            return "missed"
        return {-1: "below", 1: "above"}.get(self.shift or 0, "other")


def label_calls(joint: NDArray[np.int64], graph: LabelGraph) -> list[Call]:
    """Say what every structure of the reference is called.

    Args:
        joint: K x K voxels by predicted (row) and true (column) node.
        graph: of these nodes.

    Returns:
        One call for each node but the background that the reference has, in their order.
    """
    chains = [graph.nodes(group) for group in CHAINS]
    calls = []
    for node in range(1, len(graph)):
        voxels = joint[:, node]
        if not voxels.any():
            continue
        called = node if voxels[node] == voxels.max() else int(voxels.argmax())
        chain = next((chain for chain in chains if node in chain), [])
        place = chain.index(node) if chain else 0
        shift = chain.index(called) - place if called in chain else None
        neighbours = [other for at, other in enumerate(chain) if abs(at - place) == 1]
        share = float(voxels[neighbours].sum() / voxels.sum()) if chain else math.nan
        calls.append(Call(node, called, shift, share))
    return calls


def call_counts(calls: Iterable[Call]) -> dict[str, int]:
    """Count calls by their kind, all of `CALLS`."""
    counts = Counter(call.kind for call in calls)
    return {kind: counts[kind] for kind in CALLS}


def chain_shift(calls: Sequence[Call], chain: Sequence[int]) -> int:
    """Return by how many places a whole chain is shifted, 0 if it is not.

    A chain is shifted by n if at least two of its structures are called structures of the chain, all of them n places
    further up (down, if n is negative). Those that have no label n places further do not count, nor those missed.

    Args:
        calls: of one case.
        chain: nodes from the bottom upwards.
    """
    shifts = {chain.index(call.node): call.shift for call in calls if call.node in chain and call.shift is not None}
    moved = Counter(shift for shift in shifts.values() if shift)
    if not moved:
        return 0
    shift = moved.most_common(1)[0][0]
    able = [own for place, own in shifts.items() if 0 <= place + shift < len(chain)]
    return shift if len(able) > 1 and all(own == shift for own in able) else 0
