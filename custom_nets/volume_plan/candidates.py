# SPDX-License-Identifier: Apache-2.0
"""The crop sizes that are compared: a share of the volume, in the volume's proportions or as a cube."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from custom_nets.errors import InputError

Size = tuple[int, int, int]

#: The sizes of the published ATLAS runs (paper, section 3.1).
PAPER_SIZES: dict[str, Size] = {"the paper's zoom-in": (128, 128, 128), "the paper's zoom-out": (144, 172, 168)}


@dataclass(frozen=True)
class Candidate:
    """A crop size to judge.

    Attributes:
        size: voxels along R, A, S.
        origins: in words, how the size came about; several when several rules give the same size.
    """

    size: Size
    origins: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """Voxels of the crop."""
        return math.prod(self.size)

    @property
    def name(self) -> str:
        """``128x128x128``."""
        return size_name(self.size)


def size_name(size: Sequence[int]) -> str:
    """``(144, 172, 168)`` as ``144x172x168``."""
    return "x".join(map(str, size))


def proportional_size(shape: Sequence[int], share: float, multiple: int, limit: Sequence[int] | None = None) -> Size:
    """The crop in the volume's own proportions: m · round_half_up(φ^(1/3) · N_a / m) on each axis.

    Args:
        shape: N, the voxels of the volume along its axes.
        share: φ, of the volume's voxels, above 0 and at most 1.
        multiple: m, every axis is a multiple of it.
        limit: the crop may not exceed it; left out, the shape.

    Returns:
        The size, at least m and at most m · ⌊limit_a / m⌋ on each axis.

    Raises:
        InputError: share or multiple out of range, or an axis shorter than the multiple.
    """
    return _rounded([share ** (1 / 3) * length for length in shape], share, multiple, limit or shape)


def cubic_size(shape: Sequence[int], share: float, multiple: int, limit: Sequence[int] | None = None) -> Size:
    """The cube of that share: m · round_half_up((φ · ΠN)^(1/3) / m) on all axes; otherwise as `proportional_size`."""
    edge = (share * math.prod(shape)) ** (1 / 3)
    return _rounded([edge] * 3, share, multiple, limit or shape)


def candidate_sizes(
    shape: Sequence[int], shares: Iterable[float], multiple: int, limit: Sequence[int] | None = None
) -> list[Candidate]:
    """All sizes to compare: proportional and cubic for each share, and the paper's own where they fit.

    Args:
        shape: voxels of the (typical) volume along R, A, S.
        shares: of the volume's voxels.
        multiple: every axis is a multiple of it; with 8 the network never has to interpolate between its levels.
        limit: voxels of the smallest volume along each axis; left out, the shape.

    Returns:
        The candidates, smallest first, each size once.

    Raises:
        InputError: a share or the multiple is out of range, or an axis is shorter than the multiple.
    """
    limit = limit or shape
    origins: dict[Size, list[str]] = {}
    for share in shares:
        rules = {"proportional": proportional_size, "cubic": cubic_size}
        for rule, size_of in rules.items():
            origins.setdefault(size_of(shape, share, multiple, limit), []).append(f"{100 * share:g} % {rule}")
    for name, size in PAPER_SIZES.items():
        if all(cut <= length for cut, length in zip(size, limit, strict=True)):
            origins.setdefault(size, []).append(name)
    return [
        Candidate(size, tuple(names))
        for size, names in sorted(origins.items(), key=lambda entry: (math.prod(entry[0]), entry[0]))
    ]


def _rounded(wanted: Sequence[float], share: float, multiple: int, limit: Sequence[int]) -> Size:
    if not 0 < share <= 1:
        raise InputError(f"shares holds {share!r}: give shares of the volume above 0 and at most 1, such as 0.25")
    if multiple < 1:
        raise InputError(f"multiple is {multiple!r}: give a whole number of at least 1, such as 8")
    if min(limit) < multiple:
        raise InputError(f"multiple is {multiple}, but a volume has {size_name(limit)} voxels: give a smaller multiple")
    x, y, z = (
        min(max(multiple * math.floor(length / multiple + 0.5), multiple), multiple * (most // multiple))
        for length, most in zip(wanted, limit, strict=True)
    )
    return x, y, z
