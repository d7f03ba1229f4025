# SPDX-License-Identifier: Apache-2.0
"""Pictures: what is drawn where, independent of how the image is stored."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from monai.data import MetaTensor
from PIL import Image

from custom_nets.errors import InputError
from custom_nets.figures import OUTLINES, learning_curves, overlay

SHAPE = (30, 36, 24)


def volume(values: np.ndarray) -> nib.Nifti1Image:
    """RAS order, 1 x 1 x 1.5 mm."""
    return nib.Nifti1Image(values.astype(np.float32), np.diag([1.0, 1.0, 1.5, 1.0]))


def head() -> nib.Nifti1Image:
    values = np.zeros(SHAPE)
    values[3:27, 3:33, 2:22] = np.random.default_rng(0).uniform(50, 100, (24, 30, 20))
    return volume(values)


def block(right: bool) -> nib.Nifti1Image:
    """A lesion at the front of one side of the patient."""
    values = np.zeros(SHAPE)
    values[slice(20, 25) if right else slice(5, 10), 24:30, 10:14] = 1
    return volume(values)


def pixels(png: Path, name: str) -> np.ndarray:
    """Where the first panel (axial, top left) has the colour of an outline: rows and columns, 0 … 1."""
    picture = np.asarray(Image.open(png).convert("RGB")).astype(float) / 255
    panel = picture[: picture.shape[0] // 3, : picture.shape[1] // 3]
    return np.argwhere(np.abs(panel - to_rgb(OUTLINES[name])).max(axis=2) < 0.15) / panel.shape[:2]


@pytest.mark.parametrize("radiological", [True, False])
def test_right_is_left_in_the_radiological_view_only_and_front_is_up(tmp_path: Path, radiological: bool) -> None:
    png = overlay(head(), block(right=True), None, tmp_path / "a.png", radiological=radiological)
    row, column = pixels(png, "reference").mean(axis=0)
    assert (column < 0.5) == radiological
    assert row < 0.5
    assert not len(pixels(png, "prediction"))


def test_reference_and_prediction_have_their_own_colours(tmp_path: Path) -> None:
    png = overlay(head(), block(right=True), block(right=False), tmp_path / "a.png", title="case 1")
    assert pixels(png, "reference")[:, 1].max() < 0.5 < pixels(png, "prediction")[:, 1].min()


@pytest.mark.parametrize("axes", ["LPS", "ASL", "IPR"])
def test_picture_does_not_depend_on_the_order_in_storage(tmp_path: Path, axes: str) -> None:
    images = [head(), block(right=True), block(right=False)]
    orientation = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("R", "A", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    stored = [image.as_reoriented(orientation) for image in images]
    one, other = overlay(*images, tmp_path / "one.png"), overlay(*stored, tmp_path / "other.png")
    assert one.read_bytes() == other.read_bytes()


def test_files_and_meta_tensors_give_the_same_picture(tmp_path: Path) -> None:
    sources = {"image": head(), "label": block(right=True), "prediction": block(right=False)}
    paths, tensors = [], []
    for name, image in sources.items():
        nib.save(image, tmp_path / f"{name}.nii.gz")
        paths.append(tmp_path / f"{name}.nii.gz")
        tensors.append(MetaTensor(torch.as_tensor(image.get_fdata())[None], affine=torch.as_tensor(image.affine)))
    one, other = overlay(*paths, tmp_path / "one.png"), overlay(*tensors, tmp_path / "other.png")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("shape", [(8, 9, 1), (1, 8, 9), (6, 6, 6)])
def test_empty_masks_and_single_slices_are_drawn(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape)
    assert overlay(volume(mask), None, volume(mask), tmp_path / "a.png").stat().st_size > 0
    mask[shape[0] // 2, 4, shape[2] // 2] = 1
    assert overlay(volume(mask + 1), volume(mask), None, tmp_path / "a.png").stat().st_size > 0


def test_masks_on_another_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prediction's grid \(30, 36, 12\)"):
        overlay(head(), None, volume(np.ones((30, 36, 12))), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image .*missing\.nii"):
        overlay(tmp_path / "missing.nii", None, None, tmp_path / "a.png")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_learning_curves_get_one_panel_a_group(tmp_path: Path) -> None:
    header = "epoch,train_loss,ce_loss,val_loss,val_mean_dice,val_lesion_f1,beta_coronal,beta_axial,note"
    rows = "1,1.5,1,,,,0.0,0.1,x\n2,1.2,1,1.3,0.2,0.1,0.05,0.1,x\n3,1.0,1,1.1,0.4,inf,0.07,0.1,x"
    png = learning_curves(write(tmp_path / "metrics.csv", f"{header}\n{rows}\n"), tmp_path / "plots" / "curves.png")
    tall = Image.open(png).height
    one = learning_curves(write(tmp_path / "one.csv", "epoch,loss\n1,0.5\n2,0.4\n"), tmp_path / "one.png")
    panels = (tall / Image.open(one).height * (2.6 + 0.6) - 0.6) / 2.6  # the figure grows by 2.6 inches a panel
    assert panels == pytest.approx(3, abs=0.05)  # loss, val, beta


@pytest.mark.parametrize(
    ("text", "message"),
    [("loss\n1\n", "no column 'epoch'"), ("epoch,loss\n", "no rows"), ("epoch,loss\n1,\n", "no number beside")],
)
def test_table_without_curves_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        learning_curves(write(tmp_path / "metrics.csv", text), tmp_path / "curves.png")


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.csv"):
        learning_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
