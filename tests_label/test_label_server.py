# SPDX-License-Identifier: Apache-2.0
"""All bundles in one MONAI Label server: names of labels, inference and training over REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from custom_nets.files import file_digest
from custom_nets.registry import available
from tests_label.bundle_inference import by_the_bundle, label_map
from tests_label.server import Server, form, serving
from tests_label.small_bundles import CASES, OPTIONS, make_bundle, write_scans

torch.set_num_threads(1)
NAMES = sorted(available())
#: As 3D Slicer submits them: numbered without a gap.
TUMOUR_VALUES = {"necrotic and non-enhancing tumour core": 1, "peritumoural oedema": 2, "enhancing tumour": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles, studies of all of them, and their labels."""
    folder = tmp_path_factory.mktemp("label")
    for name in NAMES:
        make_bundle(name, folder / "bundles")
        write_scans(name, folder / "studies", folder / "labels")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """One server of all bundles."""
    with serving([folder / "bundles" / name for name in NAMES], folder / "studies", folder / "app") as server:
        yield server


def test_every_bundle_has_its_small_network() -> None:
    assert set(OPTIONS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_models_and_trainers_with_the_names_of_their_labels(name: str, server: Server) -> None:
    info = server.ask("GET", "/info/")
    labels = {label.lower(): value for value, label in available()[name].labels.items() if value}
    assert info["models"][name]["labels"] == (TUMOUR_VALUES if name == "s2ca_net" else labels)
    assert sorted(info["models"]) == sorted(info["trainers"]) == NAMES
    assert info["models"][name]["config"]["model_filename"] == ["model.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_that_of_the_bundle_on_the_grid_of_the_image(
    name: str, server: Server, folder: Path, tmp_path: Path
) -> None:
    image = folder / "studies" / f"{name}_0.nii.gz"
    answer = server.infer(name, f"{name}_0", tmp_path / "label.nii.gz")
    scan, label = nibabel.load(image), nibabel.load(answer)
    assert label.shape == scan.shape[:3]
    np.testing.assert_allclose(label.affine, scan.affine, atol=1e-5)
    found = set(np.unique(label_map(answer)))
    assert len(found) > 1
    assert found <= {0, *server.ask("GET", "/info/")["models"][name]["labels"].values()}
    np.testing.assert_array_equal(label_map(answer), by_the_bundle(server.app / "model" / name, image, tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_training_over_rest_serves_its_model(name: str, server: Server, folder: Path, tmp_path: Path) -> None:
    image, served = folder / "studies" / f"{name}_0.nii.gz", server.app / "model" / name
    model = served / "models" / "model.pt"
    before = label_map(server.infer(name, f"{name}_0", tmp_path / "before.nii.gz"))
    first, entries = file_digest(model), set(torch.load(model, weights_only=True))
    for number in range(CASES):
        server.submit(f"{name}_{number}", submitted(name, folder / "labels" / f"{name}_{number}.nii.gz", tmp_path))
    server.train(name, **slicer_choices(server, name) | {"max_epochs": 2, "val_split": 0.34, "device": "cpu"})
    for number in range(CASES):
        server.ask("DELETE", "/datastore/label", id=f"{name}_{number}", tag="final")  # the next bundle has its own
    assert file_digest(model) != first
    assert set(torch.load(model, weights_only=True)) == entries
    assert not (model.parent / "last.pt").exists(), "MONAI Label would serve it"
    after = label_map(server.infer(name, f"{name}_0", tmp_path / "after.nii.gz"))
    np.testing.assert_array_equal(after, by_the_bundle(served, image, tmp_path))
    assert not np.array_equal(after, before)


def test_what_the_viewers_ask_besides(server: Server, folder: Path, tmp_path: Path) -> None:
    sample = server.ask("POST", "/activelearning/first", b"{}")
    image = folder / "studies" / f"{sample['id']}.nii.gz"
    assert server.ask("GET", "/datastore/image", image=sample["id"]) == image.read_bytes()
    model = sample["id"].rpartition("_")[0]
    body, kind = form({"params": json.dumps({"device": "cpu"})}, {"file": image})
    uploaded = tmp_path / "uploaded.nii.gz"
    uploaded.write_bytes(server.ask("POST", f"/infer/{model}", body, kind, output="image"))
    known = server.infer(model, sample["id"], tmp_path / "known.nii.gz")
    np.testing.assert_array_equal(label_map(uploaded), label_map(known))


def test_wrong_labels_are_named_before_the_first_epoch(server: Server, folder: Path, tmp_path: Path) -> None:
    image = nibabel.load(folder / "labels" / "rsanet_0.nii.gz")
    wrong = tmp_path / "wrong.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 7, np.uint8), image.affine), wrong)
    server.submit("rsanet_0", wrong)
    log = server.train("rsanet", done="ERROR", max_epochs=1, val_split=0, device="cpu")
    server.ask("DELETE", "/datastore/label", id="rsanet_0", tag="final")
    assert any("rsanet_0.nii.gz" in line and "unknown label values 7" in line for line in log)


def slicer_choices(server: Server, name: str) -> dict[str, object]:
    """The options of a training as 3D Slicer's extension sends them: of each list the first."""
    config = server.ask("GET", "/info/")["trainers"][name]["config"]
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


def submitted(name: str, label: Path, folder: Path) -> Path:
    """A label map as 3D Slicer submits it."""
    if name != "s2ca_net":
        return label
    image = nibabel.load(label)
    voxels = np.asanyarray(image.dataobj)
    path = folder / label.name
    nibabel.save(nibabel.Nifti1Image(np.where(voxels == 4, 3, voxels).astype(np.uint8), image.affine), path)
    return path
