# SPDX-License-Identifier: Apache-2.0
"""The advice in writing: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from custom_nets.volume_crops import centre_start
from custom_nets.volume_plan.advice import Judged, Recommendation
from custom_nets.volume_plan.cost import PRECISIONS, fitting, macs, training_gib
from custom_nets.volume_plan.occurrence import BOX_LEVELS
from custom_nets.volume_plan.plan import VolumePlan
from custom_nets.volume_plan.survey import Lesions

#: Columns of the table of candidates -> what they mean.
COLUMNS = {
    "size": "voxels along R x A x S",
    "from": "share of the volume and rule, or the paper",
    "share": "of the volume's voxels",
    "coverage": "of the lesions by the centred crop: mean over scans / all voxels pooled",
    "inside / missed": "scans whose lesions are all inside the centred crop / all outside",
    "Dice ceiling": "the best that inference on the centred crop can reach: mean over scans / pooled",
    "hit": "probability that a random crop holds lesion, mean over scans: all starts / the published code's starts",
    "lesion in crop": "mean share of lesion voxels in a random crop",
    "GMACs": "10^9 multiply-accumulates of a forward pass",
    "GiB": "least memory of a training step, batch size 1: float32 / AMP",
    "fits": "which GPU holds it, in float32 / with AMP",
    "verdict": "accept, or what speaks against it",
}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table whose columns are aligned in plain text too."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def table(plan: VolumePlan) -> str:
    """The advice as Markdown: the data, the candidates, the recommendation, the meaning of the columns."""
    rows = [_row(one, plan.options.gpu_gib) for one in plan.judged]
    legend = "\n".join(f"- {name}: {meaning}" for name, meaning in COLUMNS.items())
    parts = (_data(plan), markdown_table(list(COLUMNS), rows), _recommended(plan.recommended), legend)
    return "\n\n".join(parts) + "\n"


def _data(plan: VolumePlan) -> str:
    surveyed = plan.surveyed
    volumes = sorted(lesions.volume_ml for lesions in surveyed.lesions)
    box = "; ".join(f"{100 * level:g} %: {_by(surveyed.box.size(level))}" for level in BOX_LEVELS)
    shape = _by(plan.shape) + (" voxels" if plan.one_grid else " voxels (median; the scans lie on several grids)")
    lines = [
        f"{len(plan.grids)} training scans, {shape}, {_by(f'{mm:.3g}' for mm in plan.grids[0].spacing)} mm"
        + ("" if plan.one_grid else " in the first"),
        f"lesions {volumes[0]:.3g} to {volumes[-1]:.3g} ml a scan, median {volumes[len(volumes) // 2]:.3g} ml",
        f"smallest centred lengths that hold this share of all lesion voxels, axis by axis: {box}",
    ]
    if surveyed.occurrence is not None:
        most = f"{surveyed.occurrence.largest} of {surveyed.occurrence.scans}"
        lines.append(f"most scans with lesion at one voxel: {most}; voxels with lesion: {surveyed.occurrence.support}")
    if surveyed.without_lesion:
        lines.append(f"left out, no lesion in the label: {', '.join(surveyed.without_lesion)}")
    return "\n".join(f"- {line}" for line in lines)


def _row(one: Judged, gpu_gib: Sequence[float]) -> list[str]:
    summary, size = one.summary, one.candidate.size
    official = summary.mean_hit_probability_official
    return [
        one.candidate.name,
        ", ".join(one.candidate.origins),
        f"{summary.share:.1%}",
        f"{summary.mean_coverage:.4f} / {summary.pooled_coverage:.4f}",
        f"{summary.fully_inside} / {summary.missed}",
        f"{summary.mean_dice_ceiling:.4f} / {summary.micro_dice_ceiling:.4f}",
        f"{summary.mean_hit_probability:.4f} / {'none' if official is None else f'{official:.4f}'}",
        f"{summary.mean_lesion_share:.3%}",
        f"{macs(size) / 1e9:.0f}",
        " / ".join(f"{training_gib(size, precision):.1f}" for precision in PRECISIONS),
        " / ".join(",".join(f"{gib:g}" for gib in fitting(size, gpu_gib, kind)) or "none" for kind in PRECISIONS),
        one.verdict,
    ]


def _recommended(recommended: Sequence[Recommendation]) -> str:
    rows = [
        [
            f"{one.gpu_gib:g} GiB, {one.precision}",
            one.zoom_in.candidate.name if one.zoom_in else "none",
            one.zoom_out.candidate.name if one.zoom_out else "none",
            one.remark,
        ]
        for one in recommended
    ]
    return "Recommended:\n\n" + markdown_table(("GPU", "zoom-in", "zoom-out", "remark"), rows)


def document(plan: VolumePlan) -> dict[str, Any]:
    """Everything as JSON-able values; lists over scans are in the order of ``scans``."""
    surveyed, occurrence = plan.surveyed, plan.surveyed.occurrence
    return {
        "scans": [lesions.name for lesions in surveyed.lesions],
        "without_lesion": surveyed.without_lesion,
        "one_grid": plan.one_grid,
        "shape": list(plan.shape),
        "options": asdict(plan.options),
        "lesions": [scan_row(lesions) for lesions in surveyed.lesions],
        "lesion_box": {f"{level:g}": list(surveyed.box.size(level)) for level in BOX_LEVELS},
        "occurrence": (
            None
            if occurrence is None
            else {
                "largest": occurrence.largest,
                "support_voxels": occurrence.support,
                "profiles": dict(zip("RAS", (profile.tolist() for profile in occurrence.profiles), strict=True)),
            }
        ),
        "candidates": [_candidate(one, plan) for one in plan.judged],
        "recommended": [
            {
                "gpu_gib": one.gpu_gib,
                "precision": one.precision,
                "zoom_in_size": one.zoom_in and list(one.zoom_in.candidate.size),
                "zoom_out_size": one.zoom_out and list(one.zoom_out.candidate.size),
                "remark": one.remark,
            }
            for one in plan.recommended
        ],
    }


def _candidate(one: Judged, plan: VolumePlan) -> dict[str, Any]:
    summary, size, scans = one.summary, one.candidate.size, one.summary.scans
    return {
        "size": list(size),
        "origins": list(one.candidate.origins),
        "share": summary.share,
        "centre_start": list(centre_start(plan.shape, size)) if plan.one_grid else None,
        "coverage": [scan.coverage for scan in scans],
        "mean_coverage": summary.mean_coverage,
        "pooled_coverage": summary.pooled_coverage,
        "fully_inside": summary.fully_inside,
        "missed": summary.missed,
        "dice_ceiling": [scan.dice_ceiling for scan in scans],
        "mean_dice_ceiling": summary.mean_dice_ceiling,
        "micro_dice_ceiling": summary.micro_dice_ceiling,
        "hit_probability": [scan.hit_probability for scan in scans],
        "mean_hit_probability": summary.mean_hit_probability,
        "hit_probability_official": [scan.hit_probability_official for scan in scans],
        "mean_hit_probability_official": summary.mean_hit_probability_official,
        "lesion_share": [scan.lesion_share for scan in scans],
        "mean_lesion_share": summary.mean_lesion_share,
        "macs": macs(size),
        "training_gib": {precision: training_gib(size, precision) for precision in PRECISIONS},
        "fits_gpu_gib": {precision: fitting(size, plan.options.gpu_gib, precision) for precision in PRECISIONS},
        "accepted": one.accepted,
        "verdict": one.verdict,
    }


def scan_row(lesions: Lesions) -> dict[str, Any]:
    """One scan's lesions: indices along R, A, S, volumes in ml."""
    row: dict[str, Any] = {"case": lesions.name, "volume_ml": lesions.volume_ml, "voxels": lesions.voxels}
    row["components"] = lesions.components
    for name, values in (
        ("shape", lesions.grid.shape),
        ("spacing_mm", lesions.grid.spacing),
        ("first", lesions.first),
        ("last", lesions.last),
        ("centroid", lesions.centroid),
    ):
        row |= {f"{name}_{axis}": value for axis, value in zip("RAS", values, strict=True)}
    return row


def scans_csv(plan: VolumePlan) -> str:
    """All scans with lesion as comma-separated text with a header."""
    rows = [scan_row(lesions) for lesions in plan.surveyed.lesions]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _by(values: Any) -> str:
    return "x".join(map(str, values))
