# SPDX-License-Identifier: Apache-2.0
"""The systematic search over pairs of sizes as command lines, one a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_nets.errors import InputError
from custom_nets.volume_plan.candidates import Candidate, Size
from custom_nets.volume_plan.plan import VolumePlan


@dataclass(frozen=True)
class RunOptions:
    """What all runs of the search share.

    Attributes:
        dataset_dir: the folder of the data set.
        output_dir: each run gets a folder in it.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        zoom_in_epochs: budget of the first stage; a tenth of the published one unless given.
        zoom_out_epochs: budget of the second stage; likewise.
    """

    dataset_dir: Path
    output_dir: Path
    datalist: str = "datalist.json"
    zoom_in_epochs: int = 120
    zoom_out_epochs: int = 15

    def __post_init__(self) -> None:
        """Refuse budgets that cannot be meant.

        Raises:
            InputError: naming the option.
        """
        for name in ("zoom_in_epochs", "zoom_out_epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}: give a whole number of at least 1")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the search.

    Attributes:
        zoom_in_size: crop of the first stage.
        zoom_out_size: crop of the second stage.
        accepted: whether both sizes are.
        command: the command line, quoted for the shell.
    """

    zoom_in_size: Size
    zoom_out_size: Size
    accepted: bool
    command: str


def planned_runs(plan: VolumePlan, options: RunOptions) -> list[PlannedRun]:
    """One run for each pair of candidates, pairs of two accepted sizes first."""
    return [
        PlannedRun(
            zoom_in.candidate.size,
            zoom_out.candidate.size,
            zoom_in.accepted and zoom_out.accepted,
            _command(zoom_in.candidate, zoom_out.candidate, options),
        )
        for zoom_in, zoom_out in plan.pairs
    ]


def script(runs: Sequence[PlannedRun], output_dir: Path) -> str:
    """The runs as a shell script, one a line, those of accepted sizes under a heading of their own."""
    lines = [
        "# One run a line. Rank the finished ones by full-volume validation Dice with:",
        f"# {shlex.join(['python', '-m', 'tools.rank_runs', str(output_dir)])}",
    ]
    for accepted, heading in ((True, "both sizes accepted"), (False, "at least one size rejected")):
        commands = [run.command for run in runs if run.accepted == accepted]
        lines += [f"# {heading}: {len(commands)}", *commands]
    return "\n".join(lines) + "\n"


def _command(zoom_in: Candidate, zoom_out: Candidate, options: RunOptions) -> str:
    words = ["python", "-m", "tools.zoom_in_out", str(options.dataset_dir)]
    if options.datalist != "datalist.json":
        words += ["--datalist", options.datalist]
    words += ["--output_dir", str(options.output_dir / f"in_{zoom_in.name}_out_{zoom_out.name}")]
    words += ["--zoom_in_size", _brackets(zoom_in), "--zoom_out_size", _brackets(zoom_out)]
    words += ["--zoom_in_epochs", str(options.zoom_in_epochs), "--zoom_out_epochs", str(options.zoom_out_epochs)]
    return shlex.join(words)


def _brackets(candidate: Candidate) -> str:
    return "[" + ",".join(map(str, candidate.size)) + "]"
