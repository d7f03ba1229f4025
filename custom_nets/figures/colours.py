# SPDX-License-Identifier: Apache-2.0
"""Colours for label maps with any number of structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, lab2lch, rgb2lab

from custom_nets.datasets.sides import left_right_pairs

Colour = tuple[float, float, float]

#: Greater values use the same colours again: no eye can tell more apart.
COLOURS = 255

_LEVELS = 14  # of red, green and blue that are chosen from
_LIGHTNESS, _LEAST_CHROMA = (42.0, 92.0), 38.0  # neither black nor white nor grey, which is the image
_PARTNER_HUE = np.radians(20.0)  # the most that left and right differ in hue


def structure_colours(values: Iterable[int], names: Mapping[int, str] | None = None) -> dict[int, Colour]:
    """Give each structure a colour that differs from the others', left and right partners alike in hue.

    Colours are chosen one after the other in the order of the label values, each as far from all before as can be
    (CIEDE2000; Glasbey et al., "Colour displays for categorical images", Color Research & Application 2007). A label
    therefore has the same colour in every picture with the same table of names, whatever else is drawn.

    Args:
        values: labels from 1.
        names: label value -> name; tells which labels are the left and right of one structure, as
            :func:`~custom_nets.datasets.sides.left_right_pairs` reads it. They share the hue and differ in lightness or
            saturation.

    Returns:
        Red, green and blue, 0 … 1, of every value.

    Raises:
        InputError: if two names are the same structure and side.
    """
    table = _table(tuple(left_right_pairs(names or {})))
    return {value: table[(value - 1) % COLOURS] for value in values}


@cache
def _table(pairs: tuple[tuple[int, int], ...]) -> list[Colour]:
    """The colours of labels 1 … COLOURS."""
    rgb, lab = _candidates()
    _, _, hue = np.moveaxis(lab2lch(lab), -1, 0)
    partner = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    distance = np.full(len(rgb), np.inf)  # to the nearest colour taken
    taken: dict[int, int] = {}
    for value in range(1, COLOURS + 1):
        allowed = np.ones(len(rgb), dtype=bool)
        if (first := taken.get(partner.get(value, 0))) is not None:
            turn = np.abs(hue - hue[first])
            allowed = np.minimum(turn, 2 * np.pi - turn) <= _PARTNER_HUE
        taken[value] = int(np.where(allowed, distance, -1.0).argmax())
        distance = np.minimum(distance, deltaE_ciede2000(lab, lab[None, taken[value]]))
    return [tuple(rgb[index].tolist()) for index in taken.values()]


def _candidates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colours that stand out from a grey image: (n, 3) red, green, blue, and (n, 3) CIELAB."""
    levels = np.linspace(0.0, 1.0, _LEVELS)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = rgb2lab(rgb)
    lightness, chroma, _ = np.moveaxis(lab2lch(lab), -1, 0)
    clear = (chroma >= _LEAST_CHROMA) & (lightness >= _LIGHTNESS[0]) & (lightness <= _LIGHTNESS[1])
    return rgb[clear], lab[clear]
