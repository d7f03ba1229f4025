# SPDX-License-Identifier: Apache-2.0
"""The parts of a brain tumour as label values, in each challenge's convention, and the regions that they make up.

A label map says for each voxel which part it is. Networks and scores speak of three nested regions instead: enhancing
tumour (ET), tumour core (TC: ET and the necrotic and non-enhancing core) and whole tumour (WT: TC and the oedema).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_nets.errors import InputError

#: The parts, in the order of BraTS' label values.
CORE, OEDEMA, ENHANCING = "core", "oedema", "enhancing"

#: Convention -> value of each part in a label map; 0 is background in all of them.
CONVENTIONS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "brats": {CORE: 1, OEDEMA: 2, ENHANCING: 4},  # BraTS 2012 to 2021; the bundle's own, inside and by default
        "brats2023": {CORE: 1, OEDEMA: 2, ENHANCING: 3},  # BraTS 2023 and 2024
        "msd": {CORE: 2, OEDEMA: 1, ENHANCING: 3},  # Medical Segmentation Decathlon, Task01
    }
)

#: The network's output channels, background first.
CHANNELS = ("background", "ET", "TC", "WT")

#: Region -> its parts.
REGIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ET": (ENHANCING,), "TC": (CORE, ENHANCING), "WT": (CORE, OEDEMA, ENHANCING)}
)


def values_of(convention: str) -> Mapping[str, int]:
    """Return the value of each part.

    Raises:
        InputError: for an unknown convention, naming those that are known.
    """
    if convention not in CONVENTIONS:
        known = "; ".join(
            f"{name} ({', '.join(f'{value} {part}' for part, value in sorted(parts.items(), key=lambda p: p[1]))})"
            for name, parts in CONVENTIONS.items()
        )
        raise InputError(f"the label convention is {convention!r}: choose one of {known}")
    return CONVENTIONS[convention]


def converted(label: ArrayLike, convention: str, to: str = "brats") -> NDArray[np.uint8]:
    """Return a label map in another convention; values that are no part become 0.

    Args:
        label: of any shape.
        convention: of ``label``.
        to: wanted.

    Raises:
        InputError: for an unknown convention.
    """
    label = np.asarray(label)
    result = np.zeros(label.shape, np.uint8)
    wanted = values_of(to)
    for part, value in values_of(convention).items():
        result[label == value] = wanted[part]
    return result


def region_masks(label: ArrayLike, convention: str = "brats") -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each region of ``REGIONS``, of the label map's shape.

    Raises:
        InputError: for an unknown convention.
    """
    label, values = np.asarray(label), values_of(convention)
    return {region: np.isin(label, [values[part] for part in parts]) for region, parts in REGIONS.items()}
