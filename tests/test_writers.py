# SPDX-License-Identifier: Apache-2.0
"""NIfTI output through MONAI's SaveImaged: whole or not at all, on the input's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Orientationd, SaveImaged

from custom_nets.transforms import SafeSpacingd
from custom_nets.writers import WholeNibabelWriter

OBLIQUE = np.array([[-0.9, 0.1, 0.0, 20.0], [0.1, 0.9, 0.0, -30.0], [0.0, 0.0, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]])


def saver(folder: Path) -> SaveImaged:
    config = {
        "saver": {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": str(folder),
            "output_postfix": "seg",
            "output_dtype": "$np.uint8",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
            "writer": "custom_nets.writers.WholeNibabelWriter",
        }
    }
    return ConfigParser(config).get_parsed_content("saver")


def prediction(name: str = "case.nii.gz") -> dict[str, Any]:
    meta = {"filename_or_obj": name, "spatial_shape": np.array([3, 4, 5])}
    return {"pred": MetaTensor(torch.ones(1, 3, 4, 5), affine=torch.as_tensor(OBLIQUE), meta=meta)}


@pytest.mark.parametrize("shape", [(9, 10, 6), (9, 10, 1)])
def test_output_has_shape_affine_and_orientation_of_the_input(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, OBLIQUE), tmp_path / "case.nii.gz")
    preprocessing = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", axcodes="RAS", labels=None)]
        + ([SafeSpacingd("image", pixdim=(1.2, 1.2, 2.0), mode="nearest")] if shape[2] > 1 else [])
    )
    data = preprocessing({"image": str(tmp_path / "case.nii.gz")})
    data["pred"] = data["image"].clone()
    data = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True)(data)
    saver(tmp_path / "out")(data)
    written = nib.load(tmp_path / "out" / "case_seg.nii.gz")
    assert written.shape == shape
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    if shape[2] == 1:
        np.testing.assert_array_equal(np.asarray(written.dataobj), mask)


@pytest.mark.parametrize("old", [None, b"the old file"])
def test_writer_that_dies_midway_leaves_no_file_or_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    target = tmp_path / "case_seg.nii.gz"
    if old is not None:
        target.write_bytes(old)

    def half_a_file(image: nib.Nifti1Image, filename: str | Path) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half_a_file)
    with pytest.raises(RuntimeError, match="disk full"):
        saver(tmp_path)(prediction())
    assert [path.name for path in tmp_path.iterdir()] == ([] if old is None else [target.name])
    assert old is None or target.read_bytes() == old


def test_channels_are_kept_last(tmp_path: Path) -> None:
    writer = WholeNibabelWriter(output_dtype=np.float32)
    writer.set_data_array(torch.rand(2, 3, 4, 5))
    writer.set_metadata({"affine": np.eye(4)}, resample=False)
    writer.write(tmp_path / "probabilities.nii.gz")
    assert nib.load(tmp_path / "probabilities.nii.gz").shape == (3, 4, 5, 2)


def test_saved_name_is_logged_not_the_temporary_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    transform = saver(tmp_path)
    transform.set_options(write_kwargs={"verbose": True})
    with caplog.at_level("INFO"):
        transform(prediction())
    assert str(tmp_path / "case_seg.nii.gz") in caplog.text
    assert "/." not in caplog.text
