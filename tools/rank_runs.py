# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.rank_runs FOLDER`: finished zoom-in&out runs, best full-volume validation Dice first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from custom_nets.datasets.problems import text_table
from custom_nets.files import write_json, write_text
from custom_nets.volume_plan.ranking import RankedRun, rank_runs, ranking_csv
from tools._command import run

_HEADER = (
    *("rank", "run", "Dice", "95 % interval", "micro Dice", "zoom-in alone"),
    *("zoom-in", "zoom-out", "epochs", "hours"),
)


def main(folder: str) -> None:
    """Rank the finished zoom-in&out runs below a folder by their Dice on whole validation volumes.

    Prints the table, lists unfinished and broken runs with the reason, writes ranking.csv and ranking.json into FOLDER.

    Args:
        folder: holds the runs, each as python -m tools.zoom_in_out writes it.
    """
    root = Path(str(folder))
    ranked, broken = rank_runs(root)
    print(text_table(_HEADER, [_row(one) for one in ranked]) if ranked else "no run is finished")
    if broken:
        print("\nnot ranked:")
        print(text_table(("run", "reason"), [(one.run, one.reason) for one in broken]))
    content = {"ranked": [asdict(one) for one in ranked], "not_ranked": [asdict(one) for one in broken]}
    for path in (write_text(root / "ranking.csv", ranking_csv(ranked)), write_json(root / "ranking.json", content)):
        print(f"wrote {path}")


def _row(one: RankedRun) -> tuple[str, ...]:
    interval = "-" if one.dice_low is None or one.dice_high is None else f"{one.dice_low:.4f} to {one.dice_high:.4f}"
    micro, zoom_in = ("-" if value is None else f"{value:.4f}" for value in (one.micro_dice, one.zoom_in_dice))
    epochs, hours = f"{one.zoom_in_epochs}+{one.zoom_out_epochs}", f"{one.seconds / 3600:.2f}"
    sizes = (one.zoom_in_size, one.zoom_out_size)
    return (str(one.rank), one.run, f"{one.dice:.4f}", interval, micro, zoom_in, *sizes, epochs, hours)


if __name__ == "__main__":
    run(main)
