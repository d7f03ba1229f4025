# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from custom_nets.errors import InputError
from custom_nets.registry import PLANNED, ROOT, available, bundle, bundles


def test_every_bundle_is_listed_once_the_planned_ones_last() -> None:
    states = [entry.planned for entry in bundles().values()]
    assert states == sorted(states)
    assert set(bundles()) == set(PLANNED) | set(available())
    assert not set(PLANNED) & set(available())


@pytest.mark.parametrize("name", available())
def test_modalities_and_labels_are_the_metadatas(name: str) -> None:
    entry = bundle(name)
    assert entry.folder == ROOT / "bundles" / name
    metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text())
    data_format = metadata["network_data_format"]
    assert list(entry.modalities) == list(data_format["inputs"]["image"]["channel_def"].values())
    assert {str(key): value for key, value in entry.labels.items()} == data_format["outputs"]["pred"]["channel_def"]
    assert entry.version == metadata["version"]


@pytest.mark.parametrize(("name", "modalities"), [("rsanet", ("T1", "T2", "FLAIR")), ("zoom_resunet", ("T1",))])
def test_what_the_bundles_read_and_write(name: str, modalities: tuple[str, ...]) -> None:
    assert bundle(name).modalities == modalities
    assert bundle(name).labels == {0: "background", 1: "lesion"}


@pytest.mark.parametrize(("name", "state"), [("nonesuch", "unknown"), *((name, "planned") for name in PLANNED)])
def test_a_bundle_that_is_not_there_is_refused_with_those_that_are(name: str, state: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}' is {state}.*rsanet"):
        bundle(name)


@pytest.mark.parametrize("module", ["custom_nets.registry", "custom_nets.options", "custom_nets.marked_text"])
def test_no_torch_is_imported(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_in_an_exported_bundle_the_registry_finds_that_bundle(tmp_path: Path) -> None:
    (tmp_path / "custom_nets").mkdir()
    for name in ("__init__.py", "errors.py", "registry.py"):
        shutil.copy(ROOT / "custom_nets" / name, tmp_path / "custom_nets")
    shutil.copytree(ROOT / "bundles" / "rsanet" / "configs", tmp_path / "configs")
    code = "from custom_nets.registry import available; print(*available(), available()['rsanet'].folder)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["rsanet", str(tmp_path)]
