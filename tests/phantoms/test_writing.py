# SPDX-License-Identifier: Apache-2.0
"""Phantoms on disk."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_nets.datasets.datalist import read_datalist
from custom_nets.errors import InputError
from custom_nets.phantoms import make_case, write_dataset
from custom_nets.phantoms.writing import split_counts
from custom_nets.registry import bundle


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset("rsanet", tmp_path_factory.mktemp("demo"), cases=3, seed=4, spacing=5.0)


def test_the_list_reads_back_with_every_case_labelled(written: Path) -> None:
    sections = read_datalist(written.parent)
    assert {name: len(cases) for name, cases in sections.items()} == {"training": 1, "validation": 1, "testing": 1}
    header = json.loads(written.read_text())
    assert tuple(header["modality"].values()) == bundle("rsanet").modalities
    assert header["training"][0]["image"] == ["c01_t1.nii.gz", "c01_t2.nii.gz", "c01_flair.nii.gz"]
    assert all("label" in case for cases in sections.values() for case in cases)


def test_files_hold_the_case_of_their_seed(written: Path) -> None:
    made, entry = make_case("rsanet", (4, 1), 5.0), read_datalist(written.parent)["training"][0]
    for modality, path in zip(bundle("rsanet").modalities, entry["image"], strict=True):
        image = nib.Nifti1Image.from_filename(path)
        assert np.array_equal(image.dataobj, made.images[modality])
        assert np.allclose(image.affine, made.affine)
    assert np.array_equal(nib.Nifti1Image.from_filename(entry["label"]).dataobj, made.label)


def test_a_larger_set_begins_with_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_dataset("rsanet", tmp_path, cases=4, seed=4, spacing=5.0)
    volumes = sorted(written.parent.glob("*.nii.gz"))
    assert len(volumes) == 12
    assert all(path.read_bytes() == (tmp_path / path.name).read_bytes() for path in volumes)


@pytest.mark.parametrize("cases, split", [(3, (1, 1, 1)), (4, (2, 1, 1)), (8, (5, 1, 2)), (40, (25, 5, 10))])
def test_split(cases: int, split: tuple[int, int, int]) -> None:
    assert split_counts(cases) == split


@pytest.mark.parametrize("content", ['{"training": []}', "[]", "no JSON"])
def test_another_data_set_is_not_overwritten_unasked(tmp_path: Path, content: str) -> None:
    (tmp_path / "datalist.json").write_text(content)
    with pytest.raises(InputError, match="--overwrite"):
        write_dataset("rsanet", tmp_path, cases=3, spacing=6.0)
    assert (tmp_path / "datalist.json").read_text() == content
    write_dataset("rsanet", tmp_path, cases=3, spacing=6.0, overwrite=True)
    write_dataset("rsanet", tmp_path, cases=3, spacing=6.0)  # the same phantoms again need no permission
    assert len(read_datalist(tmp_path)["training"]) == 1


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("unknown", {}, "no demo data for 'unknown': choose one of .*rsanet"),
        ("rsanet", {"cases": 2}, "cases is 2: give a whole number from 3"),
        ("rsanet", {"cases": 4.5}, "cases is 4.5"),
        ("rsanet", {"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_write_nothing(tmp_path: Path, name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_dataset(name, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_dataset("rsanet", tmp_path / "out", cases=3, spacing=6.0)
