# SPDX-License-Identifier: Apache-2.0
"""The cases of a data list that is about to be written, for people."""

from __future__ import annotations

from collections.abc import Sequence

from custom_nets.datasets.building import Examined
from custom_nets.datasets.problems import text_table


def case_table(
    examined: Sequence[Examined], splits: Sequence[Sequence[str | None]], fold: int | None, own_part: str = "validation"
) -> str:
    """The cases as a table: grid, spacing, label volume, and the part or the fold of each.

    Args:
        examined: the cases.
        splits: the part of each case, of several folds one list each.
        fold: the fold that is shown; None = all, of which each case is of one.
        own_part: what makes a case one of a fold, see `fold_of`.
    """
    rows = []
    folds = fold_of(examined, splits, own_part)
    with_site = any(one.case.site for one in examined)
    for index, one in enumerate(examined):
        grid, spacing, label_ml = one.report.grid or (), one.report.spacing or (), one.report.foreground_ml
        if len(splits) > 1 and fold is None:
            part = f"fold {folds[one.case.name]}" if one.case.name in folds else str(splits[0][index])
        else:
            part = str(splits[fold or 0][index] or "left out")
        volume = "-" if label_ml is None else f"{label_ml:.2f}"
        shape, size = "x".join(map(str, grid)), "x".join(f"{mm:.3g}" for mm in spacing)
        rows.append((one.case.name, one.case.patient, *([one.case.site] * with_site), shape, size, volume, part))
    return text_table(("case", "patient", *(["site"] * with_site), "shape", "spacing mm", "label ml", "part"), rows)


def fold_of(
    examined: Sequence[Examined], splits: Sequence[Sequence[str | None]], own_part: str = "validation"
) -> dict[str, int]:
    """The fold in which each case is validated, or tested if that is ``own_part``."""
    return {
        one.case.name: fold
        for fold, parts in enumerate(splits)
        for one, part in zip(examined, parts, strict=True)
        if part == own_part
    }
