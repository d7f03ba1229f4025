# SPDX-License-Identifier: Apache-2.0
"""A data set as MONAI Label takes it: one file a scan, which the bundles read as they read a file a modality."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from custom_nets.datasets.datalist import read_datalist
from custom_nets.datasets.reader import SameGridReader
from custom_nets.phantoms import write_dataset
from custom_nets.registry import available
from tools._command import run
from tools.label_studies import main


@pytest.mark.parametrize("name", sorted(available()))
def test_one_file_is_read_as_one_a_modality(name: str, tmp_path: Path) -> None:
    write_dataset(name, tmp_path / "data", cases=3, spacing=6)
    run(main, [name, str(tmp_path / "data"), str(tmp_path / "studies")])
    [case, *_] = read_datalist(tmp_path / "data")["training"]
    files = sorted((tmp_path / "studies").glob("*.nii.gz"))
    labels = sorted((tmp_path / "studies" / "labels" / "final").glob("*.nii.gz"))
    assert [file.name for file in files] == [file.name for file in labels]
    assert len(files) == 3
    read = Compose([LoadImaged("image", reader=SameGridReader()), EnsureChannelFirstd("image")])
    apart, together = (read({"image": images})["image"] for images in (case["image"], str(files[0])))
    assert torch.equal(apart, together)
    assert torch.equal(apart.affine, together.affine)
    values = set(np.unique(np.asanyarray(nibabel.load(labels[0]).dataobj)))
    assert 1 < len(values) <= len(available()[name].labels)
    assert values <= set(range(len(available()[name].labels)))


def test_channels_come_in_the_order_of_the_bundle(tmp_path: Path) -> None:
    path = write_dataset("s2ca_net", tmp_path / "data", cases=3, spacing=6)
    content = json.loads(path.read_text(encoding="utf-8"))
    for cases in (content[section] for section in ("training", "validation", "testing")):
        for case in cases:
            case["image"].reverse()
    content["modality"] = {str(3 - int(key)): value for key, value in content["modality"].items()}
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps(content), encoding="utf-8")
    words = ["s2ca_net", str(tmp_path / "data")]
    run(main, [*words, str(tmp_path / "a"), "--sections=testing"])
    run(main, [*words, str(tmp_path / "b"), "--sections=testing", "--datalist", str(turned)])
    [first], [second] = ([*(tmp_path / folder).glob("*.nii.gz")] for folder in "ab")
    np.testing.assert_array_equal(*(np.asanyarray(nibabel.load(file).dataobj) for file in (first, second)))


def test_what_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset("rsanet", tmp_path / "data", cases=3, spacing=6)
    for name, words, said in (
        ("zoom_resunet", [], "the case has 3 images, the bundle has 1 modalities"),
        ("rsanet", ["--sections=tests"], "--sections tests: choose of training, validation, testing"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(main, [name, str(tmp_path / "data"), str(tmp_path / "studies"), *words])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
