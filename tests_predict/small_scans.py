# SPDX-License-Identifier: Apache-2.0
"""Small scans of any number, a small network for them, and `python -m tools.predict` with both."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import save_weights
from custom_nets.registry import available
from tests.bundle_runs import TINY, blobs, scan, write
from tests.forked_commands import ROOT
from tools._command import run
from tools.predict import main


@dataclass(frozen=True)
class SmallScans:
    """A folder of scans CASE_MODALITY.nii.gz with a network of random weights, which finds something everywhere.

    Attributes:
        name: of the bundle.
        folder: of everything.
    """

    name: str
    folder: Path

    @property
    def scans(self) -> Path:
        return self.folder / "scans"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(available()[self.name].modalities)

    def make(self, cases: int) -> SmallScans:
        """Write the scans c00, c01, ... and the weights."""
        bundle, tiny, rng = available()[self.name], TINY[self.name], np.random.default_rng(0)
        for number in range(cases):
            label = blobs(rng, tuple(bundle.labels), tiny.shape, tiny.spacing)
            for modality in bundle.modalities:
                voxels = scan(rng, label, spacing=tiny.spacing)
                write(self.scans / f"c{number:02d}_{modality}.nii.gz", voxels, np.diag([*tiny.spacing, 1]))
        assert bundle.folder is not None
        parser = ConfigParser()
        parser.read_config(bundle.folder / "configs" / "inference.json")
        parser.update({key: value for key, value in self.options().items() if key in parser.config})
        torch.manual_seed(0)
        save_weights(parser.get_parsed_content("network_def").state_dict(), self.model)
        return self

    def options(self) -> dict[str, object]:
        return {"spacing": False, "overlap": 0.25, **TINY[self.name].options}

    def words(self, source: Path, out_dir: Path, *more: str) -> list[str]:
        """What is typed behind `python -m tools.predict`."""
        options = [word for key, value in self.options().items() for word in (f"--{key}", str(value).replace(" ", ""))]
        words = [self.name, str(source), str(out_dir), "--checkpoint", str(self.model), "--device", "cpu"]
        return [*words, *options, *more]

    def start(self, out_dir: Path, *more: str) -> subprocess.Popen[str]:
        """The command in a process group of its own."""
        command = [sys.executable, "-W", "ignore", "-m", "tools.predict", *self.words(self.scans, out_dir, *more)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]


def status(words: list[str]) -> int:
    """Run the command with these words in this process; return its exit status."""
    try:
        run(main, words)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    return 0


def records(out_dir: Path) -> set[str]:
    """Names of the cases that are complete."""
    return {path.stem for path in (out_dir / "cases").glob("[!.]*.json")}


def hidden(out_dir: Path) -> list[Path]:
    """Half-written files."""
    return sorted(out_dir.rglob(".*"))


def voxels_and_affines(out_dir: Path) -> dict[str, str]:
    """Name of each NIfTI file -> SHA-256 of its voxels, as they are stored, and its affine."""
    digests = {}
    for path in sorted(out_dir.glob("[!.]*.nii.gz")):
        image = nibabel.load(path)
        voxels = np.ascontiguousarray(image.dataobj)
        content = str((voxels.shape, voxels.dtype.str)).encode() + voxels.tobytes() + image.affine.tobytes()
        digests[path.name] = hashlib.sha256(content).hexdigest()
    return digests


def volumes(out_dir: Path) -> list[list[str]]:
    """Rows of volumes.csv."""
    with (out_dir / "volumes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))
