# SPDX-License-Identifier: Apache-2.0
"""Two exports in one MONAI Label server that knows nothing of this repository: the first one's code serves both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.files import file_digest
from custom_nets.model_zoo.exporting import Model, export
from custom_nets.registry import available
from tests_label.bundle_inference import by_the_bundle, label_map
from tests_label.server import Server, serving
from tests_label.small_bundles import OPTIONS, make_bundle, write_scans

FIRST, SECOND = "rsanet", "zoom_resunet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports and scans; the labels of the second bundle's lie where MONAI Label looks for them."""
    folder = tmp_path_factory.mktemp("exports")
    for name in (FIRST, SECOND):
        checkpoint = make_bundle(name, folder / "bundles") / "models" / "model.pt"
        export(Model(available()[name], checkpoint, OPTIONS[name]), folder / "exports")
        labels = folder / "studies" / "labels" / "final" if name == SECOND else folder / "labels"
        write_scans(name, folder / "studies", labels)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A server of both."""
    exports = [folder / "exports" / name for name in (FIRST, SECOND)]
    with serving(exports, folder / "studies", folder / "app") as server:
        yield server


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_inference(name: str, server: Server, folder: Path, tmp_path: Path) -> None:
    image = folder / "studies" / f"{name}_0.nii.gz"
    answer = server.infer(name, f"{name}_0", tmp_path / "label.nii.gz")
    np.testing.assert_allclose(nibabel.load(answer).affine, nibabel.load(image).affine, atol=1e-5)
    np.testing.assert_array_equal(label_map(answer), by_the_bundle(server.app / "model" / name, image, tmp_path))
    imported = [(server.app / "model" / name / "custom_nets" / "__pycache__").is_dir() for name in (FIRST, SECOND)]
    assert imported == [True, False], "the code comes from the first export"


def test_training(server: Server, folder: Path, tmp_path: Path) -> None:
    image, served = folder / "studies" / f"{SECOND}_0.nii.gz", server.app / "model" / SECOND
    first = file_digest(served / "models" / "model.pt")
    server.train(SECOND, max_epochs=1, val_split=0, device="cpu")
    assert file_digest(served / "models" / "model.pt") != first
    after = label_map(server.infer(SECOND, f"{SECOND}_0", tmp_path / "after.nii.gz"))
    np.testing.assert_array_equal(after, by_the_bundle(served, image, tmp_path))
