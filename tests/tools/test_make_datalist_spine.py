# SPDX-License-Identifier: Apache-2.0
"""Lists of spines: the public data sets, the published folds, SPIDER's series, label graphs of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.datasets import check_inference, check_training, read_datalist
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.reading import label_graph_of
from custom_nets.preflight import before_training
from tests.datasets import trees
from tools.make_datalist import main

SECTIONS = ("training", "validation", "testing")


def make(domain: str, root: Path, **options: Any) -> dict[str, Any]:
    main(domain, str(root), **options)
    return json.loads((root / "datalist.json").read_text())


def names(content: dict[str, Any], section: str) -> list[str]:
    return [case["case"] for case in content.get(section, [])]


def sizes(content: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(names(content, section)) for section in SECTIONS)


def preflight(root: Path, **options: Any) -> None:
    """The checks before training, of a bundle that reads the labels' graph from the list."""
    places = {"dataset_dir": str(root), "ckpt_dir": str(root / "models"), "output_dir": str(root / "eval")}
    common = {"patch_size": [18, 128, 256], "device": "cpu", "amp": False, "in_channels": 1}
    before_training(
        "spineparsenet", {**places, **common, "datalist": "datalist.json", "label_graph": "auto", **options}
    )


def test_the_download(tmp_path: Path) -> None:
    trees.mrspineseg(tmp_path)
    content = make("mrspineseg", tmp_path)
    assert sizes(content) == (14, 2, 4)
    assert content["label_graph"] == "mrspineseg"
    assert content["labels"] == {str(value): name for value, name in mrspineseg().names.items()}
    assert (content["modality"], content["made_by"]["published_folds"]) == ({"0": "T2"}, False)
    assert content["training"][0] == {
        **{"case": "Case1", "patient": "Case1", "image": ["train/MR/Case1.nii.gz"]},
        "label": "train/Mask/mask_case1.nii.gz",
    }
    assert check_inference(tmp_path, "datalist.json", ("T2",), list(range(20)), progress=False) == []
    preflight(tmp_path)
    apart = json.loads((tmp_path / "datalist_official_test.json").read_text())
    assert names(apart, "testing") == ["Case21", "Case22", "Case23"]
    assert apart["label_graph"] == "mrspineseg"


def test_the_published_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.mrspineseg(tmp_path)
    main("mrspineseg", str(tmp_path), folds=5)
    cases = [f"Case{number}" for number in range(1, 21)]
    order = np.random.RandomState(0).permutation(20)
    tested = {}
    for fold in range(5):
        sections = read_datalist(tmp_path, f"datalist_fold{fold}.json")
        parts = {section: {case["case"] for case in sections[section]} for section in SECTIONS}
        assert parts["testing"] == {cases[place] for place in order[4 * fold : 4 * fold + 4]}
        assert parts["validation"] == set([case for case in cases if case not in parts["testing"]][:4])
        assert len(parts["training"]) == 12
        check_inference(tmp_path, f"datalist_fold{fold}.json", ("T2",), list(range(20)), progress=False)
        tested.update(dict.fromkeys(parts["testing"], fold))
    folds = json.loads((tmp_path / "datalist_folds.json").read_text())
    assert folds["tested_in_fold"] == tested
    assert folds["made_by"]["published_folds"] is True
    shown = capsys.readouterr().out
    assert all(shown.count(f" fold {fold}\n") == 4 for fold in range(5))
    assert names(json.loads((tmp_path / "datalist_official_test.json").read_text()), "testing") != []


def test_one_published_fold_and_folds_of_ones_own(tmp_path: Path) -> None:
    trees.mrspineseg_scripts(tmp_path)
    content = make("mrspineseg", tmp_path, folds=2, fold=1)
    assert sizes(content) == (1, 4, 5)
    assert content["made_by"]["layout"] == "mrspineseg_scripts"
    content = make("mrspineseg", tmp_path, folds=3, fold=1, fractions="0.8,0,0.2", overwrite=True)
    assert sizes(content) == (5, 3, 2)
    with pytest.raises(InputError, match="folds is 11: give a number from 2 to the number of patients, 10"):
        make("mrspineseg", tmp_path, folds=11, overwrite=True)


def test_spider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("itk")
    trees.spider(tmp_path)
    content = make("spider", tmp_path)
    assert sizes(content) == (4, 1, 1)
    assert content["label_graph"] == "spider"
    assert content["labels"]["101"] == "L5"
    assert {case["patient"] for section in SECTIONS for case in content[section]} == set("123456")
    first = content["training"][0]
    assert first["image"] == [f"nifti/images/{first['case']}.nii.gz"]
    assert first["label"] == f"nifti/masks/{first['case']}.nii.gz"
    assert nibabel.load(tmp_path / first["label"]).shape == trees.SHAPE
    check_training(tmp_path, "datalist.json", ("T2",), list(spider().file_names()), progress=False)
    preflight(tmp_path)
    assert "converted 12 .mha file(s) to NIfTI, 0 were there already" in capsys.readouterr().out
    assert make("spider", tmp_path, overwrite=True) == content
    assert "converted 0 .mha file(s) to NIfTI, 12 were there already" in capsys.readouterr().out


def test_another_series(tmp_path: Path) -> None:
    pytest.importorskip("itk")
    trees.spider(tmp_path, 3)
    content = make("spider", tmp_path, series="t1")
    assert content["modality"] == {"0": "T1"}
    assert sorted(name for section in SECTIONS for name in names(content, section)) == ["1_t1", "2_t1", "3_t1"]
    content = make("spider", tmp_path, series="t2_space", fractions="0.5,0.5,0", overwrite=True)
    assert sorted(name for section in SECTIONS for name in names(content, section)) == ["1_t2_SPACE", "2_t2_SPACE"]
    assert content["modality"] == {"0": "T2"}


def test_without_itk_nothing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    trees.spider(tmp_path, 1)
    with pytest.raises(InputError, match=r"1_t2.mha: reading .mha needs ITK: pip install itk"):
        make("spider", tmp_path)
    assert list(tmp_path.rglob("*.json")) == []


def own_scans(root: Path, values: tuple[int, ...] = (2, 12, 3)) -> None:
    for number in range(5):
        trees.write_files(root, [f"scans/case{number}/t2.nii.gz"], None)
        trees.write_spine(root / f"scans/case{number}/label_bodies.nii.gz", values)


def test_scans_of_ones_own(tmp_path: Path) -> None:
    own_scans(tmp_path)
    content = make("spine", tmp_path)
    assert sizes(content) == (3, 1, 1)
    assert (content["label_graph"], content["made_by"]["layout"]) == ("mrspineseg", "case_folders")
    preflight(tmp_path)
    content = make("spine", tmp_path, T2="scans/{case}/t2.nii.gz", label="scans/{case}/label*.nii.gz", overwrite=True)
    assert content["made_by"]["layout"] == "general"


def test_a_graph_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_scans(tmp_path, (2, 30))
    with pytest.raises(InputError, match=r"5 case\(s\) of .* have errors"):
        make("spine", tmp_path)
    shown = capsys.readouterr().out
    assert "30 (42 voxels)" in shown
    assert "python -m tools.label_graph" in shown
    graph = {"labels": [{"value": value, "name": f"n{value}"} for value in (0, 2, 30)], "edges": [[2, 30]]}
    file = tmp_path / "graphs" / "mine.json"
    file.parent.mkdir()
    file.write_text(json.dumps(graph))
    content = make("spine", tmp_path, label_graph=str(file))
    assert content["label_graph"] == "graphs/mine.json"
    assert content["labels"] == {"0": "n0", "2": "n2", "30": "n30"}
    assert label_graph_of(tmp_path).edges == ((1, 2),)
    preflight(tmp_path)
    with pytest.raises(SystemExit, match=r"label_bodies.nii.gz .*30 \(42 voxels\) -> .*'spider' does not have them"):
        preflight(tmp_path, label_graph="spider")


@pytest.mark.parametrize(
    ("domain", "options", "message"),
    [
        ("atlas", {"label_graph": "spider"}, "only label maps of spines have one"),
        ("spine", {"label_graph": "vertebrae"}, "label_graph is 'vertebrae': choose one of mrspineseg, spider"),
        ("spine", {"series": "t1"}, "only scans of spider have several"),
        ("spider", {"series": "pd"}, "use one of t1, t2, t2_space"),
        ("spine", {"table": "x.json"}, "the labels of spine are always 0 background"),
        ("mrspineseg", {}, r"(?s)no known structure with T2.*train/MR/Case1.nii.gz"),
        ("spider", {}, r"(?s)no known structure with T2.*images/1_t2.mha"),
    ],
)
def test_wrong_options(tmp_path: Path, domain: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main(domain, str(tmp_path), **options)
