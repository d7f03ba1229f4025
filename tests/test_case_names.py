# SPDX-License-Identifier: Apache-2.0
"""What a case is called, from the ways in which data sets name their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

from custom_nets.case_names import CaseNamed, NamedPredictiond, case_name, require_distinct_names
from custom_nets.errors import InputError


def files(pattern: str, *modalities: str) -> list[str]:
    return [pattern.format(name) for name in modalities]


@pytest.mark.parametrize(
    ("images", "name"),
    [
        (files("BraTS20_001/BraTS20_001_{}.nii.gz", "t1", "t2", "t1ce", "flair"), "BraTS20_001"),
        (files("HGG/Brats18_2013_2_1/Brats18_2013_2_1_{}.nii", "t1", "t1ce"), "Brats18_2013_2_1"),
        (files("BraTS-GLI-00000-000/BraTS-GLI-00000-000-{}.nii.gz", "t1n", "t2w", "t1c", "t2f"), "BraTS-GLI-00000-000"),
        (files("UPENN-GBM-00002_11/UPENN-GBM-00002_11_{}_unstripped.nii.gz", "T1", "T1GD"), "UPENN-GBM-00002_11"),
        (files("ann.2021/scan.{}.nii.gz", "t1", "t2"), "scan"),
        # nothing in common, or nothing that ends in a separator: the folder tells
        (files("BraTS20_001/{}.nii.gz", "t1", "t2", "t1ce", "flair"), "BraTS20_001"),
        (files("BraTS20_001/{}.nii.gz", "t1", "t2"), "BraTS20_001"),
        (files("case7{}.nii.gz", "a", "b"), None),
        # one file, or one name in several folders: as it is called
        (files("{}/BraTS20_001.nii.gz", "t1", "t2", "t1ce", "flair"), "BraTS20_001"),
        (files("sub-01/{}/volume.nii.gz", "t1", "t2"), "volume"),
        ("imagesTs/BRATS_485.nii.gz", "BRATS_485"),
        (["imagesTs/BRATS_485.nii.gz"], "BRATS_485"),
        (Path("imagesTs/scan.v2.nii"), "scan.v2"),
        ("patient/t1.nii.gz", "patient"),
    ],
    ids=str,
)
def test_names(images: Any, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert case_name(images) == (tmp_path.name if name is None else name)


@pytest.mark.parametrize("kind", [list, tuple])
def test_paths_of_any_kind(kind: type) -> None:
    assert case_name(kind(map(Path, files("c1/c1_{}.nii.gz", "t1", "t2")))) == "c1"


def test_two_cases_of_one_name_are_refused() -> None:
    cases = [{"image": files(f"{case}/{case}_{{}}.nii.gz", "t1", "t2")} for case in ("a_1", "a_2", "b")]
    require_distinct_names(cases)
    require_distinct_names([{"image": "a/scan.nii"}, {"image": "b/scan.nii"}])
    require_distinct_names([{"image": "a.nii"}, {"image": ["b.nii"]}])
    with pytest.raises(InputError) as caught:
        require_distinct_names([*cases, {"image": files("old/a_2_{}.nii", "t1", "t2")}])
    for fragment in ("two cases are called 'a_2': a_2/a_2_t1.nii.gz and old/a_2_t1.nii", "--output_names image"):
        assert fragment in str(caught.value)
    with pytest.raises(InputError, match=r"called 'p1': a/p1\.nii and b/p1\.nii"):
        require_distinct_names([{"image": "a/p1.nii"}, {"image": "b/p1.nii"}])


def test_the_name_is_kept_beside_the_image() -> None:
    data = {"image": files("a_1/a_1_{}.nii.gz", "t1", "t2"), "label": "a_1/seg.nii.gz"}
    assert CaseNamed("image")(data) == data | {"case_name": "a_1"}
    assert CaseNamed("image", name_key="id")(data)["id"] == "a_1"
    assert "case_name" not in data


def predicted() -> dict[str, Any]:
    meta = {ImageMetaKey.FILENAME_OR_OBJ: "/data/a_1/a_1_t1.nii.gz", "spatial_shape": [2, 2, 2]}
    return {"pred": MetaTensor(torch.ones(1, 2, 2, 2), meta=meta), "case_name": "a_1"}


@pytest.mark.parametrize(("names", "expected"), [("image", "/data/a_1/a_1_t1.nii.gz"), ("case", "a_1.nii.gz")])
def test_a_prediction_is_renamed_in_its_metadata_alone(names: str, expected: str) -> None:
    data = predicted()
    result = NamedPredictiond("pred", names)(data)
    assert result["pred"].meta[ImageMetaKey.FILENAME_OR_OBJ] == expected
    assert result["pred"].meta["spatial_shape"] == [2, 2, 2] and torch.equal(result["pred"], data["pred"])
    assert data["pred"].meta[ImageMetaKey.FILENAME_OR_OBJ] == "/data/a_1/a_1_t1.nii.gz"


def test_another_way_to_name_is_refused() -> None:
    with pytest.raises(InputError, match="output_names is 'patient': choose image or case"):
        NamedPredictiond("pred", "patient")
