# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.plan_volume DATASET_DIR`: which crop sizes to train zoom-in and zoom-out with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import nibabel

from custom_nets.files import write_json, write_text, written_whole
from custom_nets.option_checks import require_writable
from custom_nets.volume_plan.advice import Thresholds
from custom_nets.volume_plan.figure import projections
from custom_nets.volume_plan.plan import PlanOptions, VolumePlan, plan_volume
from custom_nets.volume_plan.report import document, scans_csv, table
from custom_nets.volume_plan.runs import RunOptions, planned_runs, script
from tools._arguments import number, numbers, whole
from tools._command import run


def main(
    dataset_dir: str,
    *,
    datalist: str = "datalist.json",
    output_dir: str | None = None,
    shares: str | float | Sequence[float] = (0.25, 0.5, 0.75),
    multiple: int = 8,
    gpu_gib: str | float | Sequence[float] = (12, 24),
    least_dice_ceiling: float = 0.99,
    least_hit_probability: float = 0.5,
    zoom_in_epochs: int = 120,
    zoom_out_epochs: int = 15,
) -> None:
    """Advise on the crop sizes of zoom-in and zoom-out from the training labels; images and other cases stay unread.

    Prints a table of all candidates and writes it (table.md) with everything in numbers (plan.json, scans.csv), the
    commands of a systematic search (plan_of_runs.txt) and, where all scans lie on one grid, where lesions occur
    (occurrence.nii.gz, projections.png).

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list of cases, in dataset_dir.
        output_dir: where results are written; left out, volume_plan in dataset_dir.
        shares: of the volume that crops are made for.
        multiple: every axis of a crop is a multiple of it; with 8 the network needs no interpolation.
        gpu_gib: memory in GiB of the GPUs that you have.
        least_dice_ceiling: least mean Dice that perfect inference on the centred crop must be able to reach.
        least_hit_probability: least mean probability that a random crop must have to hold lesion.
        zoom_in_epochs: epochs of a run of the search; a tenth of the published number unless given.
        zoom_out_epochs: likewise for the second stage.
    """
    root = Path(str(dataset_dir))
    folder = root / "volume_plan" if output_dir is None else Path(str(output_dir))
    thresholds = Thresholds(
        number("least_dice_ceiling", least_dice_ceiling), number("least_hit_probability", least_hit_probability)
    )
    options = PlanOptions(
        numbers("shares", shares), whole("multiple", multiple), numbers("gpu_gib", gpu_gib), thresholds
    )
    runs = RunOptions(root, folder / "runs", str(datalist), zoom_in_epochs, zoom_out_epochs)
    if root.is_dir():  # otherwise the data list's reader says what is missing
        require_writable(output_dir=folder)
    plan = plan_volume(root, str(datalist), options)
    print(table(plan))
    for path in _write(plan, runs, folder):
        print(f"wrote {path}")
    if not plan.one_grid:
        print("no occurrence.nii.gz and no projections.png: the scans lie on different grids")


def _write(plan: VolumePlan, options: RunOptions, folder: Path) -> list[Path]:
    runs = planned_runs(plan, options)
    paths = [
        write_json(folder / "plan.json", {**document(plan), "runs": [asdict(one) for one in runs]}),
        write_text(folder / "table.md", table(plan)),
        write_text(folder / "scans.csv", scans_csv(plan)),
        write_text(folder / "plan_of_runs.txt", script(runs, options.output_dir)),
    ]
    occurrence, grid = plan.surveyed.occurrence, plan.grids[0]
    if occurrence is not None:
        paths.append(folder / "occurrence.nii.gz")
        with written_whole(paths[-1]) as temporary:
            nibabel.save(nibabel.Nifti1Image(occurrence.share, grid.affine), temporary)
        paths.append(projections(occurrence.share, grid.spacing, plan.judged, folder / "projections.png"))
    return paths


if __name__ == "__main__":
    run(main)
