# SPDX-License-Identifier: Apache-2.0
"""Whole predictions of one case: `tools.predict`, exact and fast, against the bundle's own inference.json."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom_nets.benchmarking import conditions
from custom_nets.checkpoints import save_weights
from custom_nets.errors import InputError
from custom_nets.phantoms import write_dataset
from custom_nets.registry import ROOT, bundle
from tools._arguments import whole
from tools._command import run
from tools._process_cost import Cost, cost_of

#: The case of a bundle: voxels, their size as the phantoms take it, and most of the plain run's time and memory.
_CASES: dict[str, tuple[tuple[int, int, int], float]] = {
    "rsanet": ((182, 218, 182), 1.0),
    "zoom_resunet": ((182, 218, 182), 1.0),
    "s2anet": ((512, 512, 96), 1.0),
    "s2ca_net": ((240, 240, 155), 1.0),
    "spineparsenet": ((18, 320, 320), 4.4),
}
_GOALS = {"exact": (0.6, 0.5), "fast": (0.35,)}


def main(
    name: str,
    *,
    runs: int = 3,
    checkpoint: str | None = None,
    dataset_dir: str | None = None,
    shape: Sequence[int] | None = None,
    fast: bool = True,
    **options: Any,
) -> None:
    """Time whole runs, from start to end of a process, in turn, and compare their labels.

    Args:
        name: of the bundle.
        runs: of each side; medians are shown.
        checkpoint: weights; random ones of the published network if left out.
        dataset_dir: a data set whose first testing case is taken; a synthetic case if left out.
        shape: voxels of the synthetic case, x,y,z.
        fast: run --fast as well.
        options: of the bundle's inference.json, for both sides.
    """
    entry = bundle(str(name))
    runs = whole("--runs", runs)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as scratch:
        folder = Path(scratch)
        data = Path(dataset_dir) if dataset_dir else _synthetic(entry.name, folder / "data", shape)
        weights = Path(checkpoint) if checkpoint else _random_weights(entry.name, folder / "model.pt", options)
        commands = _commands(entry.name, data, weights.absolute(), folder, options)
        if not fast:
            commands.pop("fast")
        costs: dict[str, list[Cost]] = {side: [] for side in commands}
        for number in range(runs):
            for side, command in commands.items():
                given = [word.replace("RUN", str(number)) for word in command]
                costs[side].append(cost_of(given, ROOT))
                print(f"run {number + 1}, {side}: {costs[side][-1].seconds:.1f} s", file=sys.stderr)
        for key, value in conditions().items():
            print(f"- {key}: {value}")
        print(f"- {entry.name}, {_told_shape(folder)}, {runs} runs of each, medians\n")
        print(
            "| side | time | of plain (goal) | processor time | of plain | peak memory | of plain (goal) "
            "| equal labels |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for side in commands:
            print(_row(side, costs, folder))


def _commands(name: str, data: Path, weights: Path, folder: Path, options: dict[str, Any]) -> dict[str, list[str]]:
    words = [word for key, value in options.items() for word in (f"--{key}", str(value).replace(" ", ""))]
    config = str(bundle(name).folder / "configs" / "inference.json")
    python = [sys.executable, "-W", "ignore", "-m"]
    plain = [*python, "monai.bundle", "run", "--config_file", config, "--dataset_dir", str(data.absolute())]
    ours = [*python, "tools.predict", name, str(data.absolute())]
    return {
        "plain": [*plain, "--checkpoint", str(weights), "--output_dir", f"{folder}/plain_RUN", *words],
        "exact": [*ours, f"{folder}/exact_RUN", "--checkpoint", str(weights), *words],
        "fast": [*ours, f"{folder}/fast_RUN", "--checkpoint", str(weights), "--fast", *words],
    }


def _row(side: str, costs: dict[str, list[Cost]], folder: Path) -> str:
    seconds, processor, memory = (
        [median(getattr(cost, figure) for cost in costs[one]) for one in ("plain", side)]
        for figure in ("seconds", "processor_seconds", "peak_mib")
    )
    goals = [*(f" ({goal})" for goal in _GOALS.get(side, ())), "", ""]
    return (
        f"| {side} | {seconds[1]:.1f} s | {seconds[1] / seconds[0]:.2f}{goals[0]} "
        f"| {processor[1]:.1f} s | {processor[1] / processor[0]:.2f} "
        f"| {memory[1]:.0f} MiB | {memory[1] / memory[0]:.2f}{goals[1]} | {_equal(side, folder):.6f} |"
    )


def _equal(side: str, folder: Path) -> float:
    """Share of voxels with the plain run's label."""
    wanted, found = (_labels(folder / f"{one}_0") for one in ("plain", side))
    if wanted.shape != found.shape:
        raise InputError(f"labels of {found.shape} voxels, of the plain run {wanted.shape}: the grids differ")
    return float((wanted == found).mean())


def _labels(folder: Path) -> np.ndarray:
    [file] = sorted(folder.rglob("*_seg.nii.gz"))
    image: Any = nibabel.load(file)
    return np.asarray(image.dataobj)


def _told_shape(folder: Path) -> str:
    return " x ".join(map(str, _labels(folder / "plain_0").shape)) + " voxels"


def _synthetic(name: str, folder: Path, shape: Sequence[int] | None) -> Path:
    voxels, spacing = _CASES[name]
    write_dataset(name, str(folder), 3, 0, spacing, tuple(shape or voxels), overwrite=False, progress=True)
    return folder


def _random_weights(name: str, path: Path, options: dict[str, Any]) -> Path:
    """Weights of the network as the bundle has it, drawn with a fixed seed."""
    parser = ConfigParser()
    parser.read_config(str(bundle(name).folder / "configs" / "inference.json"))
    for key, value in options.items():
        parser[key] = value
    torch.manual_seed(0)
    save_weights(parser.get_parsed_content("network_def").state_dict(), path)
    return path


if __name__ == "__main__":
    run(main)
