# SPDX-License-Identifier: Apache-2.0
"""Exports of all bundles in a fresh virtual environment that holds what their metadata name, and nothing else.

`make test-export` runs this; it installs PyTorch once more, so `make test` leaves it out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import save_weights
from custom_nets.model_zoo.model_options import read_configs, with_options
from custom_nets.phantoms import write_dataset
from custom_nets.registry import available
from tests.bundle_runs import run_here
from tests_label.small_bundles import OPTIONS, SPACING
from tools.export_bundle import export_bundle

RUN = {"device": "cpu", "amp": False, "num_workers": 0, "pictures": 0, "section": "testing"}


@pytest.fixture(scope="module", params=OPTIONS)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a bundle's export, all of its forms and checks included, beside its checkpoint."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    parser = ConfigParser(with_options(read_configs(available()[name].folder), OPTIONS[name])["inference"])
    torch.manual_seed(0)
    save_weights(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    export_bundle(name, str(folder), checkpoint=str(folder / "model.pt"), **OPTIONS[name])
    return folder / f"{name}_v{available()[name].version}.zip"


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the versions that the metadata of the bundles name, PyTorch first."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    needed: dict[str, str] = {}
    for entry in available().values():
        metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text())
        needed |= {"torch": metadata["pytorch_version"], "monai": metadata["monai_version"]}
        needed |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    for packages in (["torch"], sorted(needed)):
        pinned = [f"{package}=={needed[package]}" for package in packages]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned], check=True)
    return python


def test_an_export_has_forms_that_agree(archive: Path) -> None:
    """The export refuses forms that do not; here they are all there, and told of."""
    with zipfile.ZipFile(archive) as packed:
        name, files = archive.name.partition("_v")[0], set(packed.namelist())
        parity = json.loads(packed.read(f"{name}/docs/parity.json"))
        card = packed.read(f"{name}/docs/README.md").decode()
    forms = {form["file"] for form in parity["forms"]}
    parts = ("coarse", "refinement") if name == "spineparsenet" else ("model",)
    assert forms == {f"models/{part}.{suffix}" for part in parts for suffix in ("ts", "onnx")}
    assert {f"{name}/{form}" for form in forms} < files
    assert all(f"`{form}`" in card for form in forms)


def test_an_export_runs_without_the_repository(archive: Path, interpreter: Path, tmp_path: Path) -> None:
    """Unpacked in an empty folder it makes the label map that the repository makes, voxel for voxel."""
    name = archive.name.partition("_v")[0]
    data, place = tmp_path / "data", tmp_path / "empty"
    write_dataset(name, data, cases=4, spacing=SPACING[name])
    options = {**OPTIONS[name], **RUN, "dataset_dir": str(data), "output_dir": str(tmp_path / "here")}
    known = {key: value for key, value in options.items() if key in read_configs(available()[name].folder)["inference"]}
    run_here(name, ["inference"], {**known, "checkpoint": str(archive.parent / "model.pt")})
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(place)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    absent = subprocess.run(
        [interpreter, "-c", "import custom_nets"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert absent.returncode and b"No module named 'custom_nets'" in absent.stderr
    options = {**RUN, "dataset_dir": data, "output_dir": tmp_path / "there"}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    command = ["-W", "ignore", "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *words]
    ended = subprocess.run(
        [interpreter, *command], cwd=place / name, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (path,) = (tmp_path / "here").glob("*.nii.gz")
    here, there = nibabel.load(path), nibabel.load(tmp_path / "there" / path.name)
    np.testing.assert_array_equal(there.dataobj, here.dataobj)
    np.testing.assert_array_equal(there.affine, here.affine)
    assert len(np.unique(here.dataobj)) > 1, "there are labels to be compared"
