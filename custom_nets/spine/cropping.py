# SPDX-License-Identifier: Apache-2.0
"""Where SpineParseNet looks in a scan: the central rows, and how few slices become enough."""

from __future__ import annotations

import math

from custom_nets.errors import InputError


def central_rows(height: int, share: float = 0.5) -> tuple[int, int]:
    """Rows that the central crop keeps: from floor(H (1 - share) / 2) up to, but not, H minus as much.

    For half of the rows that is int(H / 4) to H - int(H / 4), as published (section 3.2).

    Args:
        height: H, rows from posterior to anterior.
        share: of the rows that is kept, above 0 up to 1, which keeps all.

    Returns:
        The first row, and the one behind the last.

    Raises:
        InputError: for another share.
    """
    if not 0 < share <= 1:
        raise InputError(f"crop_share is {share!r}: give a share of the rows above 0, up to 1 (all of them).")
    first = math.floor(height * (1 - share) / 2 + 1e-9)  # 1 - 0.9 is a little less than a tenth
    return first, height - first


def slice_padding(count: int, slices: int = 18) -> tuple[int, int]:
    """Empty slices that go before and behind a scan of too few: ceil and floor of half of those that are missing.

    Args:
        count: D, slices of the scan.
        slices: the fewest wanted; a scan that has as many, or more, gets none.
    """
    missing = max(slices - count, 0)
    return (missing + 1) // 2, missing // 2
