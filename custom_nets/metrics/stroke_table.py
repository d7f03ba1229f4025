# SPDX-License-Identifier: Apache-2.0
"""The result table of an evaluation of stroke lesions, with the columns of the 3D-ResU-Net paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from custom_nets.metrics.reports import markdown_table
from custom_nets.metrics.statistics import left_out_note
from custom_nets.metrics.table_cells import DESCRIPTION, description, with_interval

#: Heading of the paper's column -> (metric, digits after the point). microDSC, without an interval, comes before them.
PAPER_COLUMNS: dict[str, tuple[str, int]] = {
    "DSC": ("dice", 2),
    "HD mm": ("hd", 1),
    "ASSD mm": ("assd", 1),
    "TPR": ("tpr", 2),
    "precision": ("precision", 2),
}


def stroke_table(summary: Mapping[str, Any]) -> str:
    """Write a summary as Markdown: one line in the paper's form, and everything that was measured.

    Args:
        summary: of :func:`~custom_nets.metrics.summarise_stroke`.

    Returns:
        Markdown. A dash stands for what does not exist or was not computed.
    """
    metrics, bootstrap = summary["metrics"], summary["bootstrap"]
    headline = [format(summary["micro_dice"], ".2f")]
    headline += [with_interval(metrics.get(key), digits) for key, digits in PAPER_COLUMNS.values()]
    note = left_out_note(metrics, summary["cases"]) or "no scan was left out of a mean"
    return "\n".join(
        [
            *markdown_table(["scans", "microDSC", *PAPER_COLUMNS], [[str(summary["cases"]), *headline]]),
            "",
            "microDSC: Dice over the voxels of all scans together. The others: mean over scans"
            " (95 % confidence interval of the mean: percentile bootstrap,"
            f" {bootstrap['resamples']} resamples, seed {bootstrap['seed']}).",
            f"{note[0].upper()}{note[1:]}.",
            "",
            *markdown_table(("metric", *DESCRIPTION), [[key, *description(value)] for key, value in metrics.items()]),
            "",
        ]
    )
