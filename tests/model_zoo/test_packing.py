# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files

from custom_nets.files import file_digest
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.model_zoo import large_files
from custom_nets.model_zoo.labels import own_labels, with_labels_inside
from custom_nets.model_zoo.large_files import write_large_files
from custom_nets.model_zoo.packing import copy_package, replace_folder, write_archive
from custom_nets.registry import ROOT


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_whole_package_is_copied_and_nothing_that_python_made(tmp_path: Path) -> None:
    copy_package(tmp_path)
    tracked = {path.relative_to(ROOT) for path in (ROOT / "custom_nets").rglob("*") if path.suffix not in ("", ".pyc")}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == tracked
    assert Path("custom_nets/config_linter/metadata_schema_2024.json") in tracked, "data files too"


def test_an_archive_holds_the_folder_and_depends_on_its_files_alone(tmp_path: Path) -> None:
    first = written(tmp_path / "one" / "rsanet", configs__train_dot_json="{}" * 999, LICENSE="text")
    again = written(tmp_path / "two" / "rsanet", LICENSE="text", configs__train_dot_json="{}" * 999)
    written(again, custom_nets____pycache____x_dot_pyc="made by Python")
    (again / "custom_nets" / "__pycache__").mkdir(parents=True)
    os.utime(again / "LICENSE", (0, 10**9))
    archives = [write_archive(folder, folder.with_suffix(".zip")) for folder in (first, again)]
    with zipfile.ZipFile(archives[0]) as archive:
        assert sorted(archive.namelist()) == ["rsanet/LICENSE", "rsanet/configs/train.json"]
        assert archive.read("rsanet/configs/train.json").decode() == "{}" * 999
        assert archives[0].stat().st_size < 999, "text is compressed"
    written(first, LICENSE="another")
    assert write_archive(first, tmp_path / "other.zip").read_bytes() != archives[0].read_bytes()


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    place = written(tmp_path / "rsanet", old="1")
    replace_folder(written(tmp_path / "new" / "rsanet", new="2"), place)
    assert [path.name for path in place.iterdir()] == ["new"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("url", ["", "https://example.org/rsanet/"])
def test_large_files_are_listed_with_their_checksums(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_files, "LARGEST", 10)
    written(tmp_path, models__model_dot_pt="x" * 11, models__small="x" * 10)
    (entry,) = write_large_files(tmp_path, url)
    assert entry == {
        "path": "models/model.pt",
        "url": "https://example.org/rsanet/models/model.pt" if url else "",
        "hash_val": file_digest(tmp_path / "models" / "model.pt"),
        "hash_type": "sha256",
    }
    download_large_files(str(tmp_path))  # takes what is there when its checksum is right
    written(tmp_path, models__model_dot_pt="y" * 11)
    with pytest.raises(HashCheckError):
        download_large_files(str(tmp_path))


def test_a_table_of_labels_goes_into_the_bundle(tmp_path: Path) -> None:
    table = tmp_path / "class.txt"
    table.write_text("liver:1\nspleen:2\n")
    options = {"label_table": str(table), "feature_scale": 4}
    (tmp_path / "bundle").mkdir()
    inside = with_labels_inside(options, tmp_path / "bundle")
    expected = {"label_table": "$@bundle_root + '/label_table.json'", "out_channels": 3, "feature_scale": 4}
    assert inside == expected
    assert own_labels(options) == own_labels({"label_table": tmp_path / "bundle" / "label_table.json"})
    assert own_labels(options) == {0: "background", 1: "liver", 2: "spleen"}


def test_a_graph_of_labels_goes_into_the_bundle_and_a_name_stays(tmp_path: Path) -> None:
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(mrspineseg(2).to_config()))
    (tmp_path / "bundle").mkdir()
    inside = with_labels_inside({"label_graph": str(graph)}, tmp_path / "bundle")
    assert inside == {"label_graph": "$@bundle_root + '/label_graph.json'"}
    assert read_label_graph(tmp_path / "bundle" / "label_graph.json") == mrspineseg(2)
    assert own_labels({"label_graph": str(graph)}) == mrspineseg(2).names
    assert with_labels_inside({"label_graph": "spider"}, tmp_path) == {"label_graph": "spider"}
    assert own_labels({"label_graph": "auto"}) is own_labels({}) is None


@pytest.mark.parametrize(
    ("options", "value", "name"),
    [
        ({"label_graph": "spider"}, 201, "L5/S1"),  # the network's node is another
        ({"output_convention": "brats"}, 4, "enhancing tumour"),
        ({"output_convention": "brats2023"}, 3, "enhancing tumour"),
    ],
)
def test_labels_are_named_by_the_values_that_files_hold(options: dict[str, str], value: int, name: str) -> None:
    labels = own_labels(options)
    assert labels is not None and list(labels) == sorted(labels)
    assert (labels[0], labels[value]) == ("background", name)
