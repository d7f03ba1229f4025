# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from custom_nets.errors import InputError
from custom_nets.registry import ROOT, _read, available, bundle


def test_every_bundle_is_listed_by_name() -> None:
    names = ["rsanet", "s2anet", "s2ca_net", "spineparsenet", "zoom_resunet"]
    assert list(available()) == names
    assert all(bundle(name) is entry for name, entry in available().items())


@pytest.mark.parametrize("name", available())
def test_modalities_and_labels_are_the_metadatas(name: str) -> None:
    entry = bundle(name)
    assert entry.folder == ROOT / "bundles" / name
    metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text())
    data_format = metadata["network_data_format"]
    channels = data_format["inputs"]["image"]["channel_def"].values()
    assert list(entry.modalities) == list(dict.fromkeys(channel.partition(", slice ")[0] for channel in channels))
    assert {str(key): value for key, value in entry.labels.items()} == data_format["outputs"]["pred"]["channel_def"]
    assert entry.version == metadata["version"]
    assert list(entry.file_name_patterns) == list(entry.modalities)


@pytest.mark.parametrize(("name", "modalities"), [("rsanet", ("T1", "T2", "FLAIR")), ("zoom_resunet", ("T1",))])
def test_what_the_bundles_read_and_write(name: str, modalities: tuple[str, ...]) -> None:
    assert bundle(name).modalities == modalities
    assert bundle(name).labels == {0: "background", 1: "lesion"}


def test_labels_that_leave_values_out() -> None:
    entry = bundle("s2ca_net")
    assert entry.modalities == ("T1", "T2", "T1CE", "FLAIR")
    assert list(entry.labels) == [0, 1, 2, 4] and entry.labels[4] == "enhancing tumour"


def test_labels_of_a_spine() -> None:
    entry = bundle("spineparsenet")
    assert entry.modalities == ("T2",)
    assert list(entry.labels) == list(range(20))


def test_labels_of_many_structures() -> None:
    entry = bundle("s2anet")
    assert entry.modalities == ("MR",)
    assert list(entry.labels) == list(range(55)), "in the order of the values, not of their texts"
    assert (entry.labels[0], entry.labels[2], entry.labels[10], entry.labels[54]) == (
        "background",
        "Adductor brevis, right",
        "Erector spinae, right",
        "Vastus lateralis, right",
    )


@pytest.mark.parametrize(
    ("channels", "modalities"),
    [
        (["MR, slice -1", "MR, slice 0", "MR, slice +1"], ("MR",)),
        ([f"{name}, slice {s}" for s in ("-2", "-1", "0", "+1", "+2") for name in ("T1", "T2")], ("T1", "T2")),
        (
            [f"Dixon, {name}, slice {s}" for s in ("-1", "0", "+1") for name in ("fat", "water")],
            ("Dixon, fat", "Dixon, water"),
        ),
        ([f"channel {number}" for number in range(12)], tuple(f"channel {number}" for number in range(12))),
        (["slice of FLAIR", "T1"], ("slice of FLAIR", "T1")),
    ],
)
def test_slices_of_one_modality_are_one_modality(
    channels: list[str], modalities: tuple[str, ...], tmp_path: Path
) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "bundles" / "s2anet" / "configs", configs)
    metadata = json.loads((configs / "metadata.json").read_text())
    named = {str(number): name for number, name in reversed(list(enumerate(channels)))}
    metadata["network_data_format"]["inputs"]["image"]["channel_def"] = named
    (configs / "metadata.json").write_text(json.dumps(metadata))
    assert _read(tmp_path).modalities == modalities


def test_a_bundle_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"'nonesuch' is unknown: choose one of rsanet, .*zoom_resunet\."):
        bundle("nonesuch")


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


def test_a_bundle_beside_this_one_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in MONAI Label, where one copy of the package serves several exported bundles."""
    metadata = json.loads((ROOT / "bundles" / "rsanet" / "configs" / "metadata.json").read_text())
    (tmp_path / "other" / "configs").mkdir(parents=True)
    (tmp_path / "other" / "configs" / "metadata.json").write_text(json.dumps(metadata | {"bundle": "other"}))
    for number, text in enumerate(("{", "[]", "{}")):
        (tmp_path / str(number) / "configs").mkdir(parents=True)
        (tmp_path / str(number) / "configs" / "metadata.json").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / str(number))
    with pytest.raises(InputError, match="'other' is unknown"):
        bundle("other")
    monkeypatch.syspath_prepend(tmp_path / "other")
    assert bundle("other").folder == tmp_path / "other"
