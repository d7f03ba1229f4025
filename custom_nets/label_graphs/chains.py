# SPDX-License-Identifier: Apache-2.0
"""Graphs of spines: vertebrae and discs in a chain, and a canal along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import Label, LabelGraph

#: The vertebrae of MRSpineSeg from the sacrum upwards, as its labels 1 to 10 have them.
MRSPINESEG_VERTEBRAE = ("S", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9")


def spine_graph(
    vertebrae: Sequence[Label],
    discs: Sequence[Label],
    canal: Label | None = None,
    self_loop: float = 2.0,
    normalization: str = "symmetric",
) -> LabelGraph:
    """Join each disc to the vertebra below and the one above; the canal, if there is one, to all vertebrae.

    Args:
        vertebrae: n, from the bottom upwards.
        discs: n - 1, from the bottom upwards.
        canal: its label.
        self_loop: see `LabelGraph`.
        normalization: see `LabelGraph`.

    Returns:
        The graph; its nodes are background, vertebrae, discs, canal.

    Raises:
        InputError: if the numbers do not fit, or as `LabelGraph` does.
    """
    if len(discs) != len(vertebrae) - 1:
        raise InputError(f"{len(vertebrae)} vertebrae and {len(discs)} discs: a chain has one disc fewer.")
    first_disc = 1 + len(vertebrae)
    edges = [
        pair for disc in range(len(discs)) for pair in ((1 + disc, first_disc + disc), (2 + disc, first_disc + disc))
    ]
    labels = [Label(0, "background"), *vertebrae, *discs]
    if canal is not None:
        edges += [(1 + vertebra, len(labels)) for vertebra in range(len(vertebrae))]
        labels.append(canal)
    return LabelGraph(tuple(labels), tuple(sorted(edges)), self_loop, normalization)


def mrspineseg(vertebrae: int = len(MRSPINESEG_VERTEBRAE)) -> LabelGraph:
    """Return the published graph: sacrum to T9 are labels 1 to 10, the discs between them 11 to 19; 18 edges.

    Args:
        vertebrae: how many, from the sacrum upwards; 2 to 10. The discs' values stay 11 and on.

    Raises:
        InputError: for another number.
    """
    if not 2 <= vertebrae <= len(MRSPINESEG_VERTEBRAE):
        raise InputError(f"{vertebrae} vertebrae: MRSpineSeg has 2 to {len(MRSPINESEG_VERTEBRAE)}.")
    names = MRSPINESEG_VERTEBRAE[:vertebrae]
    bones = [Label(value, name, "vertebra") for value, name in enumerate(names, start=1)]
    return spine_graph(bones, [Label(11 + disc, name, "disc") for disc, name in enumerate(disc_names(names))])


def spider(vertebrae: int = 9) -> LabelGraph:
    """Return a graph for SPIDER: vertebrae 1 (L5) upwards, discs 201 (L5/S1) upwards, the canal 100.

    The sacrum has no label, so that the lowest disc touches L5 alone. Vertebrae that the scan shows in part, 101
    upwards, count as vertebrae.

    Args:
        vertebrae: how many, 1 to 25; the data set's lumbar scans show up to 9 or so.

    Raises:
        InputError: for another number.
    """
    if not 1 <= vertebrae <= 25:
        raise InputError(f"{vertebrae} vertebrae: SPIDER's labels have 1 to 25.")
    names = [
        *(f"L{n}" for n in range(5, 0, -1)),
        *(f"T{n}" for n in range(12, 0, -1)),
        *(f"C{n}" for n in range(7, -1, -1)),
    ]
    names = names[:vertebrae]
    bones = [Label(1 + n, name, "vertebra", also=(101 + n,)) for n, name in enumerate(names)]
    discs = [Label(201 + n, name, "disc") for n, name in enumerate(disc_names(["S1", *names]))]
    edges = [(n + step, 1 + vertebrae + n) for n in range(vertebrae) for step in (0, 1) if n + step > 0]
    canal = 1 + 2 * vertebrae
    edges += [(1 + n, canal) for n in range(vertebrae)]
    labels = (Label(0, "background"), *bones, *discs, Label(100, "spinal canal", "canal"))
    return LabelGraph(labels, tuple(sorted(edges)))


#: Graphs that have a name.
NAMED: dict[str, Callable[[], LabelGraph]] = {"mrspineseg": mrspineseg, "spider": spider}


def disc_names(vertebrae: Sequence[str]) -> list[str]:
    """Name the discs between vertebrae listed from the bottom upwards: "L4/L5" lies between L5 and L4."""
    return [f"{upper}/{lower}" for lower, upper in pairwise(vertebrae)]
